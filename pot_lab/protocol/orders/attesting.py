"""Members attest what they hold, and what waited for that goes on (section 3.4; protocol.md, "Custody")."""

from __future__ import annotations

from pot_lab.crypto.identity import Address
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import AlreadyDone, UnknownBlob
from pot_lab.protocol.orders.windows import close_if_complete
from pot_lab.protocol.transactions import AttestBlobs


def on_attest_blobs(book: Book, aggregator: Address, body: AttestBlobs) -> bytes:
    """A member attests that it holds blobs, hash and length checked. Blobs that no order names (any more) are left out,
    for the order may have ended meanwhile.
    """
    account = book.state.aggregators[book.require_member(aggregator)].account
    custody = book.state.custody
    named = [blob for blob in dict.fromkeys(body.blobs) if book.custody.orders_naming(blob)]
    if not named:
        raise UnknownBlob("no order names any of these blobs", seen=body.blobs[0].digest)
    fresh = [blob for blob in named if account not in custody.get(blob.key, ())]
    if not fresh:
        raise AlreadyDone("this aggregator has attested these blobs already")
    for blob in fresh:
        custody.setdefault(blob.key, []).append(account)
    naming = sorted({order_id for blob in fresh for order_id in book.custody.orders_naming(blob)})
    book.custody.note(*naming)
    for order_id in naming:
        book.emit("blobs_attested", order_id, aggregator)
        close_if_complete(book, order_id, book.state.orders[order_id])
    return b""
