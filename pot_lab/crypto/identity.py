"""One secp256k1 identity per account: it signs transactions, votes and settlements, and is known by its EVM address.

Signatures are 65 bytes `r || s || v` with low s and v in {0, 1}; the signer is recovered from the signature, as
`ecrecover` does, so an equivocation can be shown to a contract (protocol.md, "Who may submit what").
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import NewType

import coincurve
from coincurve._libsecp256k1 import ffi as _ffi  # straight to the library: a tenth less for each of many signatures
from coincurve._libsecp256k1 import lib as _lib
from coincurve.context import GLOBAL_CONTEXT

from pot_lab.crypto.canonical import keccak256
from pot_lab.errors import Malformed, PotLabError

Address = NewType("Address", bytes)
"""An account: the last 20 bytes of the Keccak hash of its public key, as on the EVM."""

Recover = Callable[[bytes, bytes], Address]
"""Gives the 20-byte address that signed a 32-byte digest with a 65-byte signature, as `recover` does."""
ADDRESS_BYTES = 20
SIGNATURE_BYTES = 65
_CONTEXT = GLOBAL_CONTEXT.ctx
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class BadSignature(PotLabError):
    """A signature does not have the required form, or was not made by the account it names.

    What to do: sign with the account that the message names, over the bytes unchanged.
    """


class BadKey(PotLabError):
    """Bytes are not a valid secret key.

    What to do: use a secp256k1 secret key of 32 bytes below the group's order.
    """


class Identity:
    """A secret key and the address it answers to.

    Args:
        secret: 32 bytes, the secp256k1 scalar.
    Raises:
        BadKey: the scalar is zero, too large or not 32 bytes.
    """

    __slots__ = ("_key", "address", "public_key")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise BadKey("a secret key has the wrong length", seen=f"{len(secret)} bytes", wanted="32 bytes")
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError as error:
            raise BadKey("a secret key is out of range", wanted="1 .. group order - 1") from error
        self.public_key: bytes = self._key.public_key.format(compressed=True)
        self.address: Address = _address_of(self._key.public_key)

    @classmethod
    def generate(cls) -> Identity:
        """Make a new identity from the operating system's randomness."""
        return cls(coincurve.PrivateKey(os.urandom(32)).secret)

    @property
    def secret(self) -> bytes:
        """The 32-byte secret scalar. Keep it out of logs."""
        return self._key.secret

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest; returns 65 bytes r || s || v. Deterministic (RFC 6979)."""
        return self._key.sign_recoverable(digest, hasher=None)

    def __repr__(self) -> str:
        return f"Identity({format_address(self.address)})"


def recover(digest: bytes, signature: bytes) -> Address:
    """Return the 20-byte address that signed the 32-byte `digest`.

    Raises:
        BadSignature: wrong length, high s (a second form of the same signature), or no key gives it.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(
            "a signature has the wrong length", seen=f"{len(signature)} bytes", wanted=f"{SIGNATURE_BYTES} bytes"
        )
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise BadSignature("a signature is not in its canonical low-s form")
    parsed, key = _ffi.new("secp256k1_ecdsa_recoverable_signature *"), _ffi.new("secp256k1_pubkey *")
    if (
        len(digest) != 32
        or signature[64] > 3
        or not _lib.secp256k1_ecdsa_recoverable_signature_parse_compact(_CONTEXT, parsed, signature, signature[64])
        or not _lib.secp256k1_ecdsa_recover(_CONTEXT, key, parsed, digest)
    ):
        raise BadSignature("no key gives this signature", seen=signature)
    return _address_of_point(bytes(_ffi.buffer(key)))


def _address_of(key: coincurve.PublicKey) -> Address:
    return Address(keccak256(key.format(compressed=False)[1:])[-ADDRESS_BYTES:])


@lru_cache(maxsize=4_096)
def _address_of_point(point: bytes) -> Address:
    """The address of a public key as libsecp256k1 holds it (64 bytes). Those who sign often are remembered: writing
    their key out and hashing it would cost a quarter of a recovery.
    """
    key = _ffi.new("secp256k1_pubkey *")
    _ffi.memmove(key, point, len(point))
    return _address_of(coincurve.PublicKey(key))


def format_address(address: bytes) -> str:
    """Write a 20-byte address as checksummed hex (EIP-55)."""
    digits = address.hex()
    checksum = keccak256(digits.encode()).hex()
    return "0x" + "".join(d.upper() if int(c, 16) >= 8 else d for d, c in zip(digits, checksum, strict=False))


def parse_address(text: str) -> Address:
    """Read `0x…` hex into 20 bytes; a mixed-case text must carry the right EIP-55 checksum.

    Raises:
        Malformed: not an address, or its checksum is wrong (a mistyped digit).
    """
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != ADDRESS_BYTES or len(text) != 2 + 2 * ADDRESS_BYTES or not text.startswith("0x"):
        raise Malformed("not an account address", seen=text, wanted="0x and 40 hex digits")
    if text not in (text.lower(), "0x" + text[2:].upper()) and text != format_address(raw):
        raise Malformed("an account address has a wrong checksum", seen=text, wanted=format_address(raw))
    return Address(raw)
