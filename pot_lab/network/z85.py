"""Z85 (ZeroMQ RFC 32): 5 printable characters for 4 bytes. The library's own drags all of libzmq into an aggregator."""

from __future__ import annotations

from pot_lab.errors import Malformed

_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_VALUES = {character: value for value, character in enumerate(_CHARACTERS)}


def encode_z85(data: bytes) -> str:
    """The text of these bytes, whose number is a multiple of 4; raises Malformed."""
    if len(data) % 4:
        raise Malformed("Z85 takes 4 bytes at a time", seen=f"{len(data)} bytes")
    found = []
    for at in range(0, len(data), 4):
        value = int.from_bytes(data[at : at + 4], "big")
        found += [_CHARACTERS[value // 85**power % 85] for power in (4, 3, 2, 1, 0)]
    return "".join(found)


def decode_z85(text: str) -> bytes:
    """The bytes of this text; raises Malformed where it is none."""
    if len(text) % 5 or not set(text) <= set(_VALUES):
        raise Malformed("this is no Z85", seen=text, wanted="5 characters of Z85 for each 4 bytes")
    found = bytearray()
    for at in range(0, len(text), 5):
        value = 0
        for character in text[at : at + 5]:
            value = 85 * value + _VALUES[character]
        if value >> 32:
            raise Malformed("this is no Z85", seen=text[at : at + 5], wanted="at most %nSc0")
        found += value.to_bytes(4, "big")
    return bytes(found)
