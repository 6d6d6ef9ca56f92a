"""Identities: addresses and signatures as every EVM wallet has them, in one form only."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import BadKey, BadSignature, Identity, format_address, parse_address, recover
from pot_lab.errors import Malformed

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
secrets = st.integers(1, ORDER - 1).map(lambda scalar: scalar.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)
ALICE = Identity(b"\x01" * 32)
DIGEST = keccak256(b"message")


@pytest.mark.parametrize(
    ("secret", "address"),
    [
        # Well-known development keys (Hardhat's first account; Ganache's deterministic first account) and the scalar 1.
        (
            "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        ),
        (
            "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d",
            "0x90F8bf6A479f320ead074411a4B0e7944Ea8c9C1",
        ),
        ("00" * 31 + "01", "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"),
    ],
)
def test_known_keys_have_their_known_addresses(secret: str, address: str) -> None:
    assert format_address(Identity(bytes.fromhex(secret)).address) == address


@given(secrets, digests)
def test_signatures_are_those_of_an_independent_library(secret: bytes, digest: bytes) -> None:
    ours = Identity(secret)
    theirs = Account.unsafe_sign_hash(digest, secret)
    signature = ours.sign(digest)
    assert signature == theirs.r.to_bytes(32, "big") + theirs.s.to_bytes(32, "big") + bytes([theirs.v - 27])
    assert recover(digest, signature) == ours.address
    assert Account._recover_hash(digest, signature=signature[:64] + bytes([signature[64] + 27])) == format_address(
        ours.address
    )


@given(secrets, digests, st.integers(0, 64), st.integers(1, 255))
def test_a_changed_signature_is_nobodys_or_somebody_elses(
    secret: bytes, digest: bytes, position: int, flip: int
) -> None:
    identity = Identity(secret)
    signature = bytearray(identity.sign(digest))
    signature[position] ^= flip
    try:
        assert recover(digest, bytes(signature)) != identity.address
    except BadSignature:
        pass


def test_the_second_form_of_a_signature_is_refused() -> None:
    signature = ALICE.sign(DIGEST)
    s = int.from_bytes(signature[32:64], "big")
    mirrored = signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes([signature[64] ^ 1])
    with pytest.raises(BadSignature, match="low-s"):
        recover(DIGEST, mirrored)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        ALICE.sign(DIGEST)[:64],
        ALICE.sign(DIGEST) + b"\x00",
        bytes(65),
        b"\xff" * 32 + bytes(33),
        ALICE.sign(DIGEST)[:64] + bytes([27 + ALICE.sign(DIGEST)[64]]),
        ALICE.sign(DIGEST)[:32] + bytes(33),
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(BadSignature):
        recover(DIGEST, signature)


@pytest.mark.parametrize("digest", [b"", b"\x01" * 31, b"\x01" * 33])
def test_only_a_digest_is_recovered_from(digest: bytes) -> None:
    with pytest.raises(BadSignature):
        recover(digest, ALICE.sign(DIGEST))


@pytest.mark.parametrize("secret", [b"", b"\x01" * 31, b"\x01" * 33, bytes(32), ORDER.to_bytes(32, "big")])
def test_what_is_no_secret_key_is_refused(secret: bytes) -> None:
    with pytest.raises(BadKey):
        Identity(secret)


def test_a_generated_identity_is_new_and_its_text_shows_no_secret() -> None:
    one, other = Identity.generate(), Identity.generate()
    assert one.address != other.address
    assert Identity(one.secret).address == one.address
    assert one.secret.hex() not in repr(one) and format_address(one.address) in repr(one)
    assert len(one.public_key) == 33


@given(st.binary(min_size=20, max_size=20))
def test_addresses_are_written_as_eip55_and_read_back(address: bytes) -> None:
    text = format_address(address)
    assert text == to_checksum_address(address)
    for form in (text, text.lower(), "0x" + text[2:].upper()):
        assert parse_address(form) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "0x", "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb9226",
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb922666", "0xg39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "0x f39fd6e51aad88f6f4ce6ab8827279cfffb9226", "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0Xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "0xf3 9fd6e51aad88f6f4ce6ab8827279cfffb92266",
    ],
)  # fmt: skip
def test_a_mistyped_address_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match=r"seen: .*wanted: |wanted: "):
        parse_address(text)
