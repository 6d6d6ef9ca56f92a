"""Sealed boxes open for one key under one context, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.sealed_box import OVERHEAD_BYTES, CannotOpen, SealingKey, seal
from pot_lab.errors import Malformed

KEY = SealingKey.from_secret(b"\x05" * 32)
OTHER = SealingKey.from_secret(b"\x06" * 32)


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_a_box_opens_for_its_key_and_context(plaintext: bytes, context: bytes) -> None:
    box = seal(KEY.public, plaintext, context)
    assert len(box) == len(plaintext) + OVERHEAD_BYTES
    assert KEY.open(box, context) == plaintext
    for key, other in ((KEY, context + b"x"), (OTHER, context)):
        with pytest.raises(CannotOpen):
            key.open(box, other)


@given(st.binary(min_size=1, max_size=64), st.data())
def test_a_changed_or_cut_box_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    box = bytearray(seal(KEY.public, plaintext, b"c"))
    position = data.draw(st.integers(0, len(box) - 1))
    flip = data.draw(st.integers(1, 255))
    if position == 31 and flip == 0x80:
        flip = 0x40  # X25519 ignores the top bit of a public key, but the box's key derivation does not
    box[position] ^= flip
    with pytest.raises(CannotOpen):
        KEY.open(bytes(box), b"c")
    with pytest.raises(CannotOpen):
        KEY.open(bytes(box[:position]), b"c")


def test_even_the_ignored_bit_of_the_ephemeral_key_is_authenticated() -> None:
    box = bytearray(seal(KEY.public, b"share", b"c"))
    box[31] ^= 0x80
    with pytest.raises(CannotOpen):
        KEY.open(bytes(box), b"c")


def test_two_boxes_of_one_plaintext_are_different() -> None:
    assert seal(KEY.public, b"share", b"c") != seal(KEY.public, b"share", b"c")


@pytest.mark.parametrize("public", [b"", b"\x05" * 31, b"\x05" * 33, bytes(32), b"\x01" + bytes(31)])
def test_a_box_is_not_sealed_for_what_is_no_key(public: bytes) -> None:
    with pytest.raises(Malformed):
        seal(public, b"share", b"c")


def test_a_box_with_a_low_order_point_does_not_open() -> None:
    with pytest.raises(CannotOpen):
        KEY.open(bytes(32) + bytes(32), b"c")


@pytest.mark.parametrize("secret", [b"", b"\x05" * 31, b"\x05" * 33])
def test_a_secret_of_another_length_is_refused(secret: bytes) -> None:
    with pytest.raises(Malformed):
        SealingKey.from_secret(secret)


def test_a_key_comes_back_from_its_secret() -> None:
    key = SealingKey.generate()
    assert SealingKey.from_secret(key.secret).public == key.public != SealingKey.generate().public


def test_a_known_key_has_its_known_public_half() -> None:
    # RFC 7748, section 6.1: Alice's key pair.
    secret = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert SealingKey.from_secret(secret).public.hex() == public
