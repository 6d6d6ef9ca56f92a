"""Give verdicts on opened test data and models: whether they are what was promised (protocol.md, "Sealed models")."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pot_lab.crypto.identity import Address
from pot_lab.judging import Finding, Judgement
from pot_lab.network.duties.disputed_orders import sealed_name
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.orders.accepting import may_judge
from pot_lab.protocol.records import ModelId, OrderId, opening_name
from pot_lab.protocol.state import OrderState
from pot_lab.protocol.transactions import Verdict

_TEST_DATA = ModelId(b"")


class JudgeOpenings:
    """Submits what `PrepareJudging` found.

    Args:
        ledger: this replica's ledger.
        signer: signs the verdicts.
        verdict_of: what was found in an opened file, by its name.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        verdict_of: Callable[[bytes], Judgement | None],
    ) -> None:
        self._ledger, self._signer, self._verdict_of = ledger, signer, verdict_of
        self._submitted_ms: dict[bytes, int] = {}

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Verdicts that are not in the ledger yet, unless submitted lately."""
        book = self._ledger().book
        requests, due = list[bytes](), dict[bytes, int]()
        for order_id, mid in self._open_questions(book):
            judgement = self._verdict_of(sealed_name(order_id, mid))
            if judgement is None or not judgement.is_vote:
                continue
            name = opening_name(book.network_id, order_id, mid)
            due[name] = self._submitted_ms.get(name, now_ms - REPEAT_AFTER_MS)
            if now_ms - due[name] >= REPEAT_AFTER_MS:
                due[name] = now_ms
                requests.append(self._signer.sign(Verdict(order_id, name, judgement.finding is Finding.RIGHT)))
        self._submitted_ms = due
        return requests

    def _open_questions(self, book: Book) -> Iterator[tuple[OrderId, ModelId]]:
        index = book.members.get(Address(self._signer.identity.address))
        if index is None:
            return
        account = book.state.aggregators[index].account
        for order_id in sorted(book.index.in_window(Window.RELEASE)):
            order = book.state.orders[order_id]
            if may_judge(order, account):
                yield from ((order_id, mid) for mid in _unjudged(order, account))


def _unjudged(order: OrderState, account: Address) -> Iterator[ModelId]:
    """What is open and waits for this account's verdict: no id for the test data."""
    if order.test_key and order.test_right is None and account not in order.test_votes:
        yield _TEST_DATA
    for claim in order.revealed():
        sealed = claim.sealed
        if sealed is not None and sealed.key and sealed.right is None and account not in sealed.votes:
            yield claim.mid
