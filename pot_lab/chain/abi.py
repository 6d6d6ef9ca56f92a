"""The contract ABI's encoding, for the types that our contracts use.

Written out here, about a hundred lines, because the libraries that do it cost an aggregator more memory than its whole
ledger (chain.md has the figures); `tests/chain/test_abi.py` compares it with `eth_abi` value by value. What comes
from a node is not trusted: every offset and length is checked before it is followed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pot_lab.errors import Malformed
from pot_lab.protocol.settlement import NotEncodable, abi_word_address, abi_word_uint

_WORD: Final = 32
_MAX_ITEMS: Final = 100_000
_SCALAR = re.compile(r"(uint|bytes)(\d+)$")


@dataclass(frozen=True, slots=True)
class _Type:
    """One ABI type: `kind` is uint, address, bool, bytesN, bytes, string, array or tuple; `size` is bits, bytes or
    items (-1: any).
    """

    kind: str
    size: int = 0
    items: tuple[_Type, ...] = ()

    @property
    def dynamic(self) -> bool:
        if self.kind == "array":
            return self.size < 0 or self.items[0].dynamic
        return self.kind in ("bytes", "string") or any(item.dynamic for item in self.items)

    @property
    def head_bytes(self) -> int:
        if self.dynamic:
            return _WORD
        if self.kind == "array":
            return self.size * self.items[0].head_bytes
        return sum(item.head_bytes for item in self.items) if self.kind == "tuple" else _WORD


def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Encode values as the arguments of a call: integers, 20-byte addresses, bytes, booleans, texts, sequences of
    these.

    Raises:
        NotEncodable: a value does not fit its type, or there are too many or too few.
    """
    return _encode_row([_parse(text) for text in types], values)


def decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode what a contract returned, or an event's data.

    Raises:
        Malformed: the bytes are not an encoding of these types.
    """
    return _decode_row([_parse(text) for text in types], data, 0)


@lru_cache(maxsize=256)
def _parse(text: str) -> _Type:
    if text.endswith("]"):
        inner, _, count = text[:-1].rpartition("[")
        return _Type("array", int(count) if count else -1, (_parse(inner),))
    if text.startswith("("):
        return _Type("tuple", 0, tuple(_parse(part) for part in _split(text[1:-1])))
    if text in ("address", "bool", "bytes", "string"):
        return _Type(text)
    match = _SCALAR.match(text)
    if match is None:
        raise NotEncodable("an ABI type is not supported", seen=text)
    return _Type("uint" if match[1] == "uint" else "bytesN", int(match[2]))


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]] if text else []


def _encode_row(types: Sequence[_Type], values: Sequence[Any]) -> bytes:
    if len(types) != len(values):
        raise NotEncodable("a call has the wrong number of values", seen=len(values), wanted=len(types))
    heads, tails = [], []
    offset = sum(type_.head_bytes for type_ in types)
    for type_, value in zip(types, values, strict=True):
        encoded = _encode_one(type_, value)
        if type_.dynamic:
            heads.append(abi_word_uint(offset))
            tails.append(encoded)
            offset += len(encoded)
        else:
            heads.append(encoded)
    return b"".join(heads + tails)


def _encode_one(type_: _Type, value: Any) -> bytes:
    match type_.kind:
        case "uint":
            return abi_word_uint(int(value), type_.size)
        case "bool":
            return abi_word_uint(int(bool(value)))
        case "address":
            return abi_word_address(value)
        case "bytesN":
            if len(value) != type_.size:
                raise NotEncodable(
                    "a value has the wrong length", seen=f"{len(value)} bytes", wanted=f"{type_.size} bytes"
                )
            return bytes(value).ljust(_WORD, b"\0")
        case "bytes" | "string":
            raw = value.encode() if isinstance(value, str) else bytes(value)
            return abi_word_uint(len(raw)) + raw + bytes(-len(raw) % _WORD)
        case "tuple":
            return _encode_row(type_.items, value)
        case _:
            if type_.size >= 0 and len(value) != type_.size:
                raise NotEncodable("an array has the wrong length", seen=len(value), wanted=type_.size)
            count = abi_word_uint(len(value)) if type_.size < 0 else b""
            return count + _encode_row([type_.items[0]] * len(value), value)


def _decode_row(types: Sequence[_Type], data: bytes, base: int) -> tuple[Any, ...]:
    values, position = [], base
    for type_ in types:
        at = base + _word(data, position) if type_.dynamic else position
        values.append(_decode_one(type_, data, at))
        position += type_.head_bytes
    return tuple(values)


def _decode_one(type_: _Type, data: bytes, at: int) -> Any:
    match type_.kind:
        case "uint":
            value = _word(data, at)
            if value >> type_.size:
                raise Malformed("an integer is wider than its type", seen=value, wanted=f"uint{type_.size}")
            return value
        case "bool":
            value = _word(data, at)
            if value > 1:
                raise Malformed("a truth value is neither 0 nor 1", seen=value)
            return bool(value)
        case "address":
            raw = _slice(data, at, _WORD)
            if any(raw[:12]):
                raise Malformed("an address is wider than 20 bytes", seen=raw)
            return raw[12:]
        case "bytesN":
            raw = _slice(data, at, _WORD)
            if any(raw[type_.size :]):
                raise Malformed(f"a value is wider than {type_.size} bytes", seen=raw)
            return raw[: type_.size]
        case "bytes" | "string":
            raw = _slice(data, at + _WORD, _word(data, at))
            return raw.decode("utf-8", "replace") if type_.kind == "string" else raw
        case "tuple":
            return _decode_row(type_.items, data, at)
        case _:
            count = type_.size
            if count < 0:
                count, at = _word(data, at), at + _WORD
            item = type_.items[0]
            if count > _MAX_ITEMS or count * item.head_bytes > len(data):
                raise Malformed("an array is longer than its data", seen=count)
            return _decode_row([item] * count, data, at)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(_slice(data, at, _WORD), "big")


def _slice(data: bytes, at: int, count: int) -> bytes:
    if count > len(data) or at > len(data) - count:
        raise Malformed("encoded data ends too early", seen=f"{len(data)} bytes", wanted=f"{count} at {at}")
    return data[at : at + count]
