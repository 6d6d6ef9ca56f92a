"""Sealed boxes open for one key under one context, and for nothing else; they are RFC 9180's, to the byte."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
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


# --- RFC 9180 ----------------------------------------------------------------------------------------------------
def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """RFC 9180, section 4, over RFC 5869's HKDF-SHA256."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """RFC 9180, section 4; at most 32 bytes, so one round of RFC 5869's expansion."""
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\x01", "sha256")[:length]


def key_and_nonce(shared_point: bytes, encapsulated: bytes, public: bytes, info: bytes) -> tuple[bytes, bytes]:
    """DHKEM(X25519, HKDF-SHA256) and the key schedule of the base mode (sections 4.1 and 5.1) for ChaCha20-Poly1305."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    prk = labeled_extract(kem, b"", b"eae_prk", shared_point)
    secret = labeled_expand(kem, prk, b"shared_secret", encapsulated + public, 32)
    context = b"\x00" + labeled_extract(suite, b"", b"psk_id_hash", b"")
    context += labeled_extract(suite, b"", b"info_hash", info)
    prk = labeled_extract(suite, secret, b"secret", b"")
    return labeled_expand(suite, prk, b"key", context, 32), labeled_expand(suite, prk, b"base_nonce", context, 12)


def test_the_second_implementation_opens_the_vector_of_the_rfc() -> None:
    # RFC 9180, appendix A.2.1: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, sequence 0.
    secret = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
    encapsulated = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
    ciphertext = bytes.fromhex(
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    )
    private = X25519PrivateKey.from_private_bytes(secret)
    point = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    public = private.public_key().public_bytes_raw()
    key, nonce = key_and_nonce(point, encapsulated, public, b"Ode on a Grecian Urn")
    assert ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"Count-0") == b"Beauty is truth, truth beauty"


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_the_second_implementation_opens_our_boxes_and_seals_ones_that_we_open(
    plaintext: bytes, context: bytes
) -> None:
    box = seal(KEY.public, plaintext, context)
    private = X25519PrivateKey.from_private_bytes(KEY.secret)
    point = private.exchange(X25519PublicKey.from_public_bytes(box[:32]))
    key, nonce = key_and_nonce(point, box[:32], KEY.public, context)
    assert ChaCha20Poly1305(key).decrypt(nonce, box[32:], None) == plaintext
    ephemeral = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
    encapsulated = ephemeral.public_key().public_bytes_raw()
    point = ephemeral.exchange(X25519PublicKey.from_public_bytes(KEY.public))
    key, nonce = key_and_nonce(point, encapsulated, KEY.public, context)
    assert KEY.open(encapsulated + ChaCha20Poly1305(key).encrypt(nonce, plaintext, None), context) == plaintext


def test_a_box_that_was_sealed_once_opens_for_ever() -> None:
    box = bytes.fromhex(
        "b9bd17a3bb0a30a94c3c172ae46958ffa12aa7862a1d31a09c1c550d8ee3502b6b293c9161492cd4c7d087a42eea068431f0c12ea4c94ac26c66f0"
    )
    assert KEY.open(box, b"pot-lab context") == b"a key share"
    with pytest.raises(CannotOpen, match="too short"):
        KEY.open(box[: OVERHEAD_BYTES - 1], b"pot-lab context")
