"""What a host says of itself before and while its aggregator runs: which network's file it has, its version, its clock.

Asked by the query `presence`, which every aggregator answers by itself, and so does a host that waits for the others
(`founding.meeting`).
"""

from __future__ import annotations

from pot_lab import __version__
from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.errors import PotLabError
from pot_lab.network.config import NetworkConfig
from pot_lab.network.founding.terms import terms_digest

PRESENCE = "presence"
_LIMIT_BYTES = 1_024


class Presence(Record, frozen=True, kw_only=True):
    """One host.

    Attributes:
        digest: of its `network.toml` (`founding.terms`); empty for a network without a chain.
        version: of its package.
        time_ms: its clock when it answered.
        running: whether its aggregator runs; otherwise it waits for the others.
    """

    digest: bytes
    version: str
    time_ms: int
    running: bool


def digest_or_nothing(config: NetworkConfig) -> bytes:
    """The digest of a network's file; empty for a network of which none can be made."""
    try:
        return terms_digest(config)
    except PotLabError:
        return b""


def encode_presence(digest: bytes, time_ms: int, *, running: bool) -> bytes:
    """The answer of this host at a time."""
    return encode(Presence(digest=digest, version=__version__, time_ms=time_ms, running=running))


def decode_presence(answer: bytes) -> Presence:
    """Read it; raises Malformed or Oversize."""
    return decode(answer, Presence, limit_bytes=_LIMIT_BYTES)
