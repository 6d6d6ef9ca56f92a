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
_encoder = msgspec.msgpack.Encoder()


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
        value = msgspec.msgpack.decode(data, type=type_)
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
