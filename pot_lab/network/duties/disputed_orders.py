"""Which test data and models have to be open: those that are to be judged in the release window, and those of scores
that may have to be judged by an example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from pot_lab.network.duties.prepare_judging import DisputedTest, OpenedModel
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import ModelId, OrderId
from pot_lab.protocol.state import ClaimState, Event, OrderState

_WINDOWS = (Window.RELEASE, Window.OPEN_SCORES, Window.CHALLENGE, Window.OPEN_CHALLENGES, Window.JUDGE)


class DisputedOrders:
    """The orders with something to judge, as far as this aggregator holds their files.

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

    def due(self) -> Mapping[bytes, DisputedTest | OpenedModel]:
        """Their test data and models, by `sealed_name`."""
        book = self._ledger().book
        if book is not self._book:  # the first look, or a ledger that was taken over from a snapshot
            self._book, self._disputed = book, set()
            self._changed = {order_id for window in _WINDOWS for order_id in book.index.in_window(window)}
        changed, self._changed = self._changed, set()
        self._disputed = {each for each in self._disputed | changed if self._is_due(book, each)}
        found: dict[bytes, DisputedTest | OpenedModel] = {}
        for each in self._disputed:
            order = book.state.orders[each]
            test = self._sealed(order)
            if test.ciphertext.is_file() and test.graph.is_file():
                found[each] = test
            models = {sealed_name(each, claim.mid): self._model(order, claim) for claim in _models_due(order)}
            found |= {name: model for name, model in models.items() if model is not None}
        return found

    def is_one_near(self) -> bool:
        """Whether models of an order are being revealed: its test data are judged next."""
        return any(True for _ in self._ledger().book.index.in_window(Window.REVEAL))

    @staticmethod
    def _is_due(book: Book, order_id: OrderId) -> bool:
        order = book.state.orders.get(order_id)
        return (
            order is not None
            and order.window in _WINDOWS
            and bool(order.test_key)
            and (order.window is Window.RELEASE or is_disputed(order))
        )

    def _model(self, order: OrderState, claim: ClaimState) -> OpenedModel | None:
        """A claim's model, if its key is known and its ciphertext here."""
        sealed = claim.sealed
        if sealed is None or not sealed.key:
            return None
        path = self._custody / sealed.ciphertext.digest.hex()
        return (
            OpenedModel(
                ciphertext=path,
                digest=sealed.ciphertext.digest,
                key=sealed.key,
                plain_bytes=sealed.ciphertext.size_bytes,
                graph_digest=order.order.model.digest,
                mid=claim.mid,
            )
            if path.is_file()
            else None
        )

    def _sealed(self, order: OrderState) -> DisputedTest:
        spec, test = order.order, order.order.test
        return DisputedTest(
            ciphertext=self._custody / test.link.digest.hex(),
            digest=test.link.digest,
            key=order.test_key,
            plain_bytes=test.plain_bytes,
            plain_digest=test.plain_digest,
            root=test.root,
            examples=test.examples,
            graph=self._custody / spec.model.digest.hex(),
            graph_digest=spec.model.digest,
            function=f"{spec.score.name}/{spec.score.version}",
        )


def sealed_name(order_id: OrderId, mid: bytes = b"") -> bytes:
    """What an order's test data, or a model of it, are called among what is opened."""
    return order_id + mid


def _models_due(order: OrderState) -> list[ClaimState]:
    """The models that are to be judged, or by which an example may have to be judged."""
    if order.window is Window.RELEASE:
        return [claim for claim in order.revealed() if claim.sealed is not None and claim.sealed.right is None]
    disputed = {each.mid for each in order.disputes} | _differing(order)
    return [claim for claim in order.revealed() if claim.mid in disputed]


def _differing(order: OrderState) -> set[ModelId]:
    """The models of which different scores were opened."""
    opened = {(each.mid, each.score, each.transcript_root) for each in order.validations if each.is_open}
    count = Counter(mid for mid, *_ in opened)
    return {mid for mid, scores in count.items() if scores > 1}


def is_disputed(order: OrderState) -> bool:
    """Whether two opened scores of one model differ, so that one of them is wrong, or one is challenged."""
    return bool(order.challenges) or bool(_differing(order))
