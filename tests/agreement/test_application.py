"""The records between consensus and the state that it orders: their bounds, defaults and bytes."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.application import CONTACT_LIMIT_BYTES, Batch, Execution, RequestId, Seat
from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import Malformed


def test_a_seat_has_an_address_of_20_bytes_and_a_contact_of_at_most_512() -> None:
    assert CONTACT_LIMIT_BYTES == 512
    for address, contact in ((bytes(20), b""), (bytes(20), bytes(512))):
        seat = Seat(address, contact)
        assert decode(encode(seat), Seat, limit_bytes=1_000) == seat
    for address, contact in ((bytes(19), b""), (bytes(21), b""), (bytes(20), bytes(513))):
        with pytest.raises(Malformed):
            decode(msgspec.msgpack.encode((address, contact)), Seat, limit_bytes=1_000)
    assert Seat(bytes(20)).contact == b""


def test_a_batch_is_of_the_first_set_unless_it_says_otherwise() -> None:
    assert Batch(1, 5, ()).since == 0
    assert encode(Batch(1, 5, (b"r",))) == encode(Batch(1, 5, (b"r",), 0))


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (RequestId(bytes(20), 1), "nonce"),
        (Seat(bytes(20)), "contact"),
        (Batch(1, 2, ()), "time_ms"),
        (Execution((), (), bytes(32)), "digest"),
    ],
)
def test_what_was_agreed_cannot_be_changed(record: object, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(record, field, getattr(record, field))
