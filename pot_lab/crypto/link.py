"""A link: where a blob may be had, and what it must be.

The ledger holds links, stores hold blobs, and whoever downloads checks (protocol.md, "Records").
"""

from __future__ import annotations

from pot_lab.crypto.canonical import HASH_BYTES, Record
from pot_lab.crypto.text import is_printable_ascii
from pot_lab.errors import Malformed

URI_LIMIT_CHARACTERS = 512


class Link(Record, frozen=True):
    """`digest` is the blob's SHA-256 (32 bytes), `size_bytes` its exact length, `uri` an fsspec address to try."""

    digest: bytes
    size_bytes: int
    uri: str

    def check(self) -> None:
        """Raise Malformed when a field cannot be right."""
        if len(self.digest) != HASH_BYTES:
            raise Malformed(
                "a link's digest has the wrong length", seen=f"{len(self.digest)} bytes", wanted=f"{HASH_BYTES} bytes"
            )
        if not 0 <= self.size_bytes < 1 << 50:
            raise Malformed("a link's size is impossible", seen=self.size_bytes, wanted="0 .. 2^50 - 1 bytes")
        if not 0 < len(self.uri) <= URI_LIMIT_CHARACTERS or not is_printable_ascii(self.uri):
            raise Malformed(
                "a link's address is unusable",
                seen=self.uri,
                wanted=f"1 .. {URI_LIMIT_CHARACTERS} printable ASCII characters, others percent-encoded",
            )
