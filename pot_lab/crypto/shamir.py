"""Shamir's secret sharing over GF(2^8): any `threshold` of `count` shares give the secret back, fewer reveal
nothing of it.

An order's test-data key is split f+1-of-n among the aggregators (protocol.md, "Test data"). Source: Shamir, "How to
Share a Secret" (1979). The field is AES's (x^8 + x^4 + x^3 + x + 1). Tables are public; the secret exists on the
client's machine only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pot_lab.crypto.canonical import Record
from pot_lab.errors import PotLabError


class BadShares(PotLabError):
    """Shares cannot be made or put together as asked.

    What to do: collect as many different shares of one key as the threshold.
    """


class Share(Record, frozen=True):
    """One share: the point `index` (1..255) and one byte of `value` for each byte of the secret."""

    index: int
    value: bytes


def _tables() -> tuple[list[int], list[int]]:
    powers, logs, x = [0] * 510, [0] * 256, 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = x
        logs[x] = exponent
        x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)  # times the generator 3
        x &= 0xFF
    return powers, logs


_POWERS, _LOGS = _tables()


def _multiply(a: int, b: int) -> int:
    return _POWERS[_LOGS[a] + _LOGS[b]] if a and b else 0


def _divide(a: int, b: int) -> int:
    return _POWERS[_LOGS[a] - _LOGS[b] + 255] if a else 0


def split(secret: bytes, threshold: int, count: int, random_bytes: Callable[[int], bytes]) -> list[Share]:
    """Split `secret` into `count` shares of which any `threshold` suffice.

    Args:
        random_bytes: source of uniformly random bytes, e.g. `os.urandom`.
    Raises:
        BadShares: not 1 <= threshold <= count <= 255, or an empty secret.
    """
    if not 1 <= threshold <= count <= 255 or not secret:
        raise BadShares(
            "a secret cannot be split this way",
            seen=f"{threshold} of {count}, {len(secret)} bytes",
            wanted="1 <= threshold <= count <= 255",
        )
    higher = [random_bytes(len(secret)) for _ in range(threshold - 1)]
    shares = []
    for index in range(1, count + 1):
        value = bytearray(len(secret))
        for coefficients in reversed([secret, *higher]):  # Horner, every byte at once
            value = bytearray(_multiply(v, index) ^ c for v, c in zip(value, coefficients, strict=True))
        shares.append(Share(index, bytes(value)))
    return shares


def combine(shares: Sequence[Share]) -> bytes:
    """Interpolate the secret at zero from shares with distinct indexes.

    Too few or false shares give a wrong secret, which cannot be seen here: the caller checks it against a commitment.

    Raises:
        BadShares: none, a repeated or impossible index, or different lengths.
    """
    indexes = [share.index for share in shares]
    lengths = {len(share.value) for share in shares}
    if not shares or len(set(indexes)) != len(indexes) or len(lengths) != 1 or not all(1 <= i <= 255 for i in indexes):
        raise BadShares(
            "these shares do not belong together",
            seen=f"indexes {indexes}, lengths {sorted(lengths)}",
            wanted="distinct indexes, one length",
        )
    secret = bytearray(lengths.pop())
    for share in shares:
        weight = 1
        for other in indexes:
            if other != share.index:
                weight = _multiply(weight, _divide(other, other ^ share.index))
        for position, byte in enumerate(share.value):
            secret[position] ^= _multiply(byte, weight)
    return bytes(secret)
