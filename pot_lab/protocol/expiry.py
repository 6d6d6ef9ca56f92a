"""What ends with an order's `seal_by`: from then on its record cannot be put any more, so nothing of it is of use.

Without it whoever pays a chain's gas alone, and takes all money back, would leave bytes in every snapshot for good: 65
for an escrow that is never put, 250 for an order that is put, paid and withdrawn.
"""

from __future__ import annotations

from pot_lab.protocol.book import Book

EVERY_MS = 3_600_000
"""Between two looks through all escrows and headers, by the ledger's clock."""


def advance(book: Book, before_ms: int) -> None:
    """Forget escrows that no order can claim any more, and headers of orders that ended without a model.

    An escrow counts as withdrawn from here on: only its client can have it, on the chain, and the news of that changes
    nothing more.

    Args:
        before_ms: the time of the batch before.
    """
    if before_ms // EVERY_MS == book.now_ms // EVERY_MS:
        return
    state, now_s = book.state, book.now_ms // 1_000
    late = [each for each, escrow in state.escrows.items() if escrow.seal_by_s < now_s and each not in state.orders]
    for order_id in late:
        book.remove_escrow(order_id)
    over = [each for each, header in state.headers.items() if 0 < header.kept_until_s < now_s]
    for order_id in over:
        del state.headers[order_id]
