"""Bring payouts of a settled epoch home to accounts that do not claim them themselves: those that are offline, or have
no coin for gas (protocol.md, "Settlement").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pot_lab.errors import PotLabError
from pot_lab.network.duties.chain_queue import ChainQueue
from pot_lab.network.duties.duty import log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.epochs import confirmed_tree
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.settlement import PayoutTree

OWN_CLAIMS_MS: Final = 60_000
"""How long after an epoch is confirmed accounts claim for themselves, before an aggregator pays the rest."""
LEAST_GRAINS: Final = 10_000_000
"""What is worth the gas of the one who pays it out; less waits until more comes, or is claimed by its account."""
_RETRIES: Final = 5


class Payer(Protocol):
    """What this duty needs of a chain wallet (`chain.wallet.ChainWallet`); every call blocks."""

    def claimed_grains(self, account: bytes) -> int:
        """Grains that an account has been paid in all."""
        ...

    def claim_from_tree(self, tree: PayoutTree, cumulative_grains: Mapping[bytes, int]) -> object:
        """Pay these accounts out of one tree, in batches that a block takes; one that cannot be paid is skipped."""
        ...

    def close(self) -> None:
        """Close the connection to the node."""
        ...


class PayEarners:
    """Pays out what nobody has claimed of the last confirmed epoch, one aggregator after the other.

    The first in line does it alone; the next ones find everything paid, unless it is down. Where the chain does not
    take it, it is tried again each `own_claims_ms`, five times at most, and with the next epoch.

    Args:
        ledger: this replica's ledger.
        signer: whose account pays for the gas.
        make_payer: opens a chain wallet; called by the queue's work.
        queue: does the sending.
        patience_ms: how long the next aggregator in line waits for the one before it.
        own_claims_ms: how long accounts have to claim for themselves.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        make_payer: Callable[[], Payer],
        queue: ChainQueue,
        *,
        patience_ms: int = 20_000,
        own_claims_ms: int = OWN_CLAIMS_MS,
    ) -> None:
        self._ledger, self._signer, self._make_payer, self._queue = ledger, signer, make_payer, queue
        self._patience_ms, self._own_claims_ms = patience_ms, own_claims_ms
        self._epoch = 0
        self._due_at_ms: int | None = None
        self._tries = 0
        self._failed = False
        self._paid: dict[bytes, int] = {}

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """No requests; starts the sending when it is this aggregator's turn."""
        book = self._ledger().book
        confirmed = book.state.confirmed
        index = book.members.get(self._signer.identity.address)
        if index is None:
            return []
        if confirmed.epoch > self._epoch:
            place = (index - confirmed.epoch) % len(book.members)
            self._epoch, self._tries, self._failed = confirmed.epoch, 0, False
            self._due_at_ms = now_ms + self._own_claims_ms + place * self._patience_ms
        if self._failed and self._tries < _RETRIES:
            self._failed, self._due_at_ms = False, now_ms + self._own_claims_ms
        if self._due_at_ms is None or now_ms < self._due_at_ms:
            return []
        self._due_at_ms = None
        self._tries += 1
        tree, epoch = confirmed_tree(book), confirmed.epoch
        rewards: dict[bytes, int] = {who: int(grains) for who, grains in confirmed.rewards.items()}
        self._queue.add(lambda: self._pay(tree, rewards, epoch))
        return []

    def _pay(self, tree: PayoutTree, rewards: Mapping[bytes, int], epoch: int) -> None:
        payer = self._make_payer()
        try:
            due = {who: grains for who, grains in rewards.items() if grains - self._paid.get(who, 0) >= LEAST_GRAINS}
            for account in due:
                self._paid[account] = payer.claimed_grains(account)
            unpaid = {
                account: grains for account, grains in due.items() if grains - self._paid[account] >= LEAST_GRAINS
            }
            if unpaid:
                payer.claim_from_tree(tree, unpaid)
                log.info("event=payouts_sent epoch=%d accounts=%d", epoch, len(unpaid))
        except PotLabError as error:  # also while a claim delay runs, or a pause
            log.info("event=payouts_not_sent epoch=%d reason=%r", epoch, str(error))
            self._failed = True
        finally:
            payer.close()
