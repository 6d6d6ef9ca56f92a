"""Of which orders the test data have to be open: those whose scores may have to be judged by an example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from pot_lab.network.duties.prepare_judging import DisputedTest
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import Event, OrderState

_WINDOWS = (Window.OPEN_SCORES, Window.CHALLENGE, Window.OPEN_CHALLENGES, Window.JUDGE)


class DisputedOrders:
    """The orders in dispute whose files this aggregator holds.

    Args:
        ledger: this replica's ledger.
        custody: the folder with this aggregator's blobs.
    """

    def __init__(self, ledger: Callable[[], Ledger], custody: Path) -> None:
        self._ledger, self._custody = ledger, custody
        self._book: Book | None = None
        self._changed: set[OrderId] = set()
        self._disputed: set[OrderId] = set()

    def note(self, events: Sequence[bytes]) -> None:
        """Take note of what a batch changed, so that only those orders are looked at."""
        self._changed |= {msgspec.msgpack.decode(each, type=Event).order for each in events}

    def due(self) -> Mapping[bytes, DisputedTest]:
        """Their test data, by order id."""
        book = self._ledger().book
        if book is not self._book:  # the first look, or a ledger that was taken over from a snapshot
            self._book, self._disputed = book, set()
            self._changed = {order_id for window in _WINDOWS for order_id in book.index.in_window(window)}
        changed, self._changed = self._changed, set()
        self._disputed = {each for each in self._disputed | changed if self._is_due(book, each)}
        tests = {each: self._sealed(book.state.orders[each]) for each in self._disputed}
        return {each: test for each, test in tests.items() if test.ciphertext.is_file() and test.graph.is_file()}

    @staticmethod
    def _is_due(book: Book, order_id: OrderId) -> bool:
        order = book.state.orders.get(order_id)
        return order is not None and order.window in _WINDOWS and bool(order.test_key) and is_disputed(order)

    def _sealed(self, order: OrderState) -> DisputedTest:
        spec, test = order.order, order.order.test
        return DisputedTest(
            ciphertext=self._custody / test.link.digest.hex(),
            digest=test.link.digest,
            key=order.test_key,
            plain_bytes=test.plain_bytes,
            root=test.root,
            examples=test.examples,
            graph=self._custody / spec.model.digest.hex(),
            function=f"{spec.score.name}/{spec.score.version}",
        )


def is_disputed(order: OrderState) -> bool:
    """Whether two opened scores of one model differ, so that one of them is wrong, or one is challenged."""
    if order.challenges:
        return True
    opened = {(each.mid, each.score, each.transcript_root) for each in order.validations if each.is_open}
    return len(opened) > len({mid for mid, *_ in opened})
