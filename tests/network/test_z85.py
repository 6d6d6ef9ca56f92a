"""Our Z85 is the library's."""

from __future__ import annotations

import pytest
from zmq.utils import z85

from pot_lab.errors import Malformed
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.z85 import decode_z85, encode_z85


@pytest.mark.parametrize("data", [b"", bytes(4), b"\xff" * 8, bytes(range(256)), bytes(range(7, 39))])
def test_it_is_that_of_pyzmq(data: bytes) -> None:
    assert encode_z85(data) == z85.encode(data).decode()
    assert decode_z85(encode_z85(data)) == data == z85.decode(encode_z85(data).encode())


@pytest.mark.parametrize("text", ["0", "0000", "000000", "####~", "#####", "0000 ", "0000é"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        decode_z85(text)


def test_a_number_of_bytes_that_has_no_text_is_refused() -> None:
    with pytest.raises(Malformed):
        encode_z85(b"abc")


def test_key_pairs_are_those_of_libzmq() -> None:
    import zmq

    pair = CurveKeyPair.generate()
    assert CurveKeyPair.from_secret(pair.secret) == pair
    assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    public, secret = zmq.curve_keypair()
    assert CurveKeyPair.from_secret(secret.decode()).public == public.decode()
