"""Deny orders of the pending settlement whose escrow this aggregator's chain does not hold (chain.md, "An epoch that
the contract refuses").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pot_lab.errors import PotLabError
from pot_lab.network.duties.chain_queue import ChainQueue
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import PendingEpoch
from pot_lab.protocol.transactions import DeniedOrder, DenyEscrow


class EscrowLookup(Protocol):
    """What this duty needs of a chain wallet (`chain.wallet.ChainWallet`); every call blocks."""

    def lacking_escrows(self, due_grains: Mapping[bytes, int], confirmations: int) -> list[bytes]:
        """Those of these orders whose money the escrow never got, or got less of than is due."""
        ...


class DenyEscrows:
    """Looks orders up on the chain when the contract refuses a settlement, or when another member denies an order, and
    denies those whose escrow is not there.

    Nothing is denied before this aggregator's own watcher has seen every event that the ledger has applied: a node that
    is behind does not know of a placement yet.

    Args:
        ledger: this replica's ledger.
        signer: signs the denials.
        make_lookup: opens a chain wallet; called by the queue's work.
        queue: does the looking.
        seen_events: how many of the contracts' events this aggregator's watcher has confirmed.
        confirmations: how deep a block must be for its state to count.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        make_lookup: Callable[[], EscrowLookup],
        queue: ChainQueue,
        *,
        seen_events: Callable[[], int],
        confirmations: int,
    ) -> None:
        self._ledger, self._signer, self._make_lookup, self._queue = ledger, signer, make_lookup, queue
        self._seen_events, self._confirmations = seen_events, confirmations
        self._was_refused = False
        self._looked_at: tuple[int, int] | None = None
        self._lacking: frozenset[bytes] = frozenset()
        self._submitted_at_ms = -REPEAT_AFTER_MS

    def on_epoch_refused(self) -> None:
        """The contract refused the pending settlement; called on the queue's thread."""
        self._was_refused = True

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """This aggregator's denial, if it has one that the ledger lacks; starts to look where there is cause to."""
        state = self._ledger().state
        pending = state.pending
        index = self._ledger().book.members.get(self._signer.identity.address)
        if pending is None or index is None:
            self._was_refused = False
            return []
        name = (pending.settlement.epoch, pending.settlement.round)
        is_suspect = self._was_refused or bool(pending.denials)
        if is_suspect and name != self._looked_at and self._seen_events() >= state.next_chain_event:
            self._was_refused, self._looked_at = False, name
            self._look(pending)
        account = state.aggregators[index].account
        lacking = [
            DeniedOrder(order_id)
            for order_id in pending.order_ids
            if order_id in self._lacking and account not in pending.denials.get(order_id, ())
        ]
        if not lacking or now_ms - self._submitted_at_ms < REPEAT_AFTER_MS:
            return []
        self._submitted_at_ms = now_ms
        return [self._signer.sign(DenyEscrow(*name, tuple(lacking)))]

    def _look(self, pending: PendingEpoch) -> None:
        orders = self._ledger().state.orders
        due_grains: dict[bytes, int] = {
            OrderId(order_id): sum(payout.grains for payout in orders[order_id].payouts)
            for order_id in pending.order_ids
        }

        def work() -> None:
            try:
                lacking = self._make_lookup().lacking_escrows(due_grains, self._confirmations)
            except PotLabError as error:
                log.warning("event=escrows_not_looked_up reason=%r", str(error))
                self._was_refused = True  # looked up again in the next round
                return
            self._lacking = frozenset(lacking)
            if lacking:
                log.error("event=escrows_denied orders=%s", ",".join(each.hex() for each in lacking))

        self._queue.add(work)
