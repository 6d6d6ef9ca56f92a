"""Which blobs count, because members attested to hold them (section 3.4).

A blob counts when f+1 members in force attest that they hold its bytes: one of them is honest, so it can be had,
whatever becomes of the link (protocol.md, "Custody").
"""

from __future__ import annotations

from pot_lab.crypto.link import Link
from pot_lab.protocol.book import Book
from pot_lab.protocol.records import HeldBlob


def in_custody(book: Book, link: Link) -> bool:
    """Whether f+1 members in force attest that they hold the blob."""
    holders = book.state.custody.get(HeldBlob(link.digest, link.size_bytes).key, ())
    # the short way out first: orders that wait for their files are asked about in every batch
    return len(holders) > book.faulty and book.count_members(holders) > book.faulty
