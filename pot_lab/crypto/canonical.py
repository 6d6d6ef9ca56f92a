"""Canonical bytes: one value, one encoding, one hash.

Records are msgpack arrays of `msgspec.Struct` fields in declared order (protocol.md, "Records"). Decoding refuses every
byte string that is not exactly what `encode` would have written, so a hash over bytes is a hash over the value.

Maps keep the order in which their entries were made, which is equal on all replicas of one history; no record that
comes from outside has a map.
"""

from __future__ import annotations

import hashlib
from typing import Any, NewType, TypeVar

import msgspec

from pot_lab.errors import Malformed, Oversize

T = TypeVar("T")

Digest = NewType("Digest", bytes)
"""A 32-byte hash."""

HASH_BYTES = 32
WIDE_BYTES = 16
_NARROW_BYTES = 8


class Wide(int):
    """An integer that may grow beyond 64 bits, where msgpack's end: a sum over all time, of up to 128 bits.

    Within 64 bits it is encoded as any integer, above as its bytes, big-endian. Sums and differences are wide again.

    >>> decode(encode(Wide(1 << 70) + 1), Wide, limit_bytes=100) - (1 << 70)
    1
    """

    def __add__(self, other: int) -> Wide:
        return Wide(int(self) + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> Wide:
        return Wide(int(self) - int(other))


def _to_plain(value: Any) -> Any:
    if not isinstance(value, Wide):
        raise TypeError(f"no canonical bytes for a {type(value).__name__}")
    plain = int(value)
    return plain if plain.bit_length() <= 8 * _NARROW_BYTES else plain.to_bytes(WIDE_BYTES, "big").lstrip(b"\0")


def _from_plain(type_: type, plain: Any) -> Any:
    if type_ is not Wide:
        raise TypeError(f"no canonical bytes for a {type_.__name__}")
    if type(plain) is int:
        return Wide(plain)
    if not isinstance(plain, bytes) or not _NARROW_BYTES < len(plain) <= WIDE_BYTES:
        raise ValueError("no wide integer")
    return Wide.from_bytes(plain, "big")


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is hashed, signed or sent: an immutable struct encoded as an array."""


def encode(value: Any) -> bytes:
    """Return the canonical msgpack bytes of `value` (structs, tuples, dicts, integers, bytes, str, None)."""
    return _encoder.encode(value)


def decode(data: bytes, type_: type[T], *, limit_bytes: int) -> T:
    """Decode canonical bytes from outside into `type_`.

    Raises:
        Oversize: `data` is longer than `limit_bytes`; nothing was parsed.
        Malformed: `data` is not an encoding of `type_`, or not the canonical one.
    """
    if len(data) > limit_bytes:
        raise Oversize(
            f"{type_.__name__} record is too large", seen=f"{len(data)} bytes", wanted=f"at most {limit_bytes} bytes"
        )
    try:
        value = msgspec.msgpack.decode(data, type=type_, dec_hook=_from_plain)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        # The library's own words stay in the cause: a refusal may enter a reply that is hashed, and they change with
        # the library's version.
        raise Malformed(f"bytes are not a valid {type_.__name__}", seen=data) from error
    if encode(value) != data:
        raise Malformed(f"bytes are not the canonical encoding of this {type_.__name__}", seen=data)
    return value


def tagged_hash(tag: str, *parts: bytes) -> Digest:
    """SHA-256 of `parts` under a domain tag; every part is length-prefixed, so no two inputs share bytes.

    Returns: 32 bytes.
    """
    name = tag.encode()
    digest = hashlib.sha256(len(name).to_bytes(1, "big") + name)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return Digest(digest.digest())


def sha256(data: bytes) -> Digest:
    """Plain SHA-256 of `data` (32 bytes): the name of a blob in a store."""
    return Digest(hashlib.sha256(data).digest())


def keccak256(data: bytes) -> Digest:
    """Keccak-256 of `data` (32 bytes), the EVM's hash."""
    from Crypto.Hash import keccak  # loads a parser of C; processes that are started often do without

    return Digest(keccak.new(data=data, digest_bits=256).digest())
