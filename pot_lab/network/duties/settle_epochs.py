"""Sign settlement epochs, send them, and carry out what follows from them (protocol.md, "Settlement")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pot_lab.chain.errors import ChainReverted, ChainUnreachable
from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import PotLabError
from pot_lab.network.duties.chain_queue import ChainQueue
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol import views
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.queries import query
from pot_lab.protocol.settlement import Settlement, settlement_digest
from pot_lab.protocol.transactions import SignEpoch
from pot_lab.protocol.views import SlashView

CHAIN_RETRY_MS = 60_000
"""How long after a chain that was away the claims and slashes of an epoch are sent again."""


class Settler(Protocol):
    """What the settling duty needs of a chain wallet (`chain.wallet.ChainWallet`); every call blocks."""

    def settle(self, settlement: Settlement, order_ids: list[bytes], signatures: dict[bytes, bytes]) -> object:
        """Send a settlement of these orders; `signatures` by the signers' addresses."""
        ...

    def missing_escrows(self, order_ids: list[bytes]) -> list[bytes]:
        """Those of these orders whose money the escrow contract does not hold."""
        ...

    def claim(self, account: bytes, cumulative_grains: int, proof: list[bytes]) -> object:
        """Pay out what an account has earned by the last confirmed epoch; sums grow from epoch to epoch."""
        ...

    def apply_slash(self, node: bytes, role: int, cumulative_grains: int, to: bytes, proof: list[bytes]) -> object:
        """Take what a node lost in a role by the last confirmed epoch from its stake."""
        ...


class SettleEpochs:
    """Signs the pending settlement; when a quorum has signed, sends it to the chain, one aggregator after the other.

    Once an epoch is confirmed it claims what this aggregator earned, and f+1 aggregators apply the slashes.

    Args:
        ledger: this replica's ledger.
        signer: signs, with the key that the contract knows.
        make_settler: opens a chain wallet; called by the queue's work, once for each sending.
        queue: does the sending.
        patience_ms: how long the next aggregator in line waits for the one before it.
        on_refused: called, on the queue's thread, when the contract refuses an epoch for its orders' money.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        make_settler: Callable[[], Settler],
        queue: ChainQueue,
        patience_ms: int = 8_000,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._signer = ledger, signer
        self._make_settler, self._queue, self._patience_ms = make_settler, queue, patience_ms
        self._on_refused = on_refused
        self._submitted_at_ms: dict[tuple[int, int], int] = {}
        self._complete_since_ms: dict[tuple[int, int], int] = {}
        self._sent: set[tuple[int, int]] = set()
        self._confirmed_epoch = 0
        self._follow_up_at_ms: int | None = None
        self._chain_was_away = False

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """This aggregator's signature, if the pending settlement lacks it; starts the sending when it is this one's
        turn.
        """
        book = self._ledger().book
        state = book.state
        pending = state.pending
        if pending is None:
            self._after_confirmation(state.confirmed.epoch, now_ms)
            return []
        index = book.members.get(self._signer.identity.address)
        if index is None:
            return []
        settlement = pending.settlement
        name = (settlement.epoch, settlement.round)
        counted = book.counted(pending.signatures)
        if len(counted) >= state.signing_quorum and name not in self._sent:
            since_ms = self._complete_since_ms.setdefault(name, now_ms)
            self._complete_since_ms = {name: since_ms}
            place = (index - settlement.epoch - settlement.round) % len(book.members)
            if now_ms - since_ms >= place * self._patience_ms:
                self._sent = {name}
                quorum = dict(list(counted.items())[: state.signing_quorum])
                self._send(settlement, list(pending.order_ids), quorum)
        signer = self._signer.signer_of(state.signers)  # the contract may know a key that has no seat any more
        lately = now_ms - self._submitted_at_ms.get(name, -REPEAT_AFTER_MS) < REPEAT_AFTER_MS
        if signer.address in pending.signatures or lately:
            return []
        self._submitted_at_ms = {name: now_ms}
        genesis = state.genesis
        digest = settlement_digest(genesis.chain_id, genesis.settlement_contract, settlement)
        return [self._signer.sign(SignEpoch(*name, signer.sign(digest)), signer)]

    def _send(self, settlement: Settlement, order_ids: list[bytes], signatures: dict[bytes, bytes]) -> None:
        def work() -> None:
            name = f"epoch={settlement.epoch} round={settlement.round}"
            try:
                settler = self._make_settler()
                settler.settle(settlement, order_ids, signatures)
                log.info("event=epoch_sent %s orders=%d", name, len(order_ids))
            except ChainReverted as error:
                if error.name not in _NAMES_AN_ORDER:  # another was quicker, or it is too early
                    log.warning("event=epoch_not_sent %s reason=%r", name, str(error))
                    return
                # Found out before anything was sent. It holds up every payout until the order is denied.
                self._on_refused()
                missing = settler.missing_escrows(order_ids)
                named = ",".join(each.hex() for each in missing)
                log.error("event=epoch_refused %s reason=%r missing_escrows=%s", name, str(error), named)
            except PotLabError as error:  # another may have sent it already; the ledger opens a new round if nobody did
                log.warning("event=epoch_not_sent %s reason=%r", name, str(error))

        self._queue.add(work)

    def _after_confirmation(self, epoch: int, now_ms: int) -> None:
        """For each confirmed epoch: claim what this aggregator earned; f+1 of them carry out the slashes. Once, and
        again while the chain does not answer.
        """
        if self._chain_was_away:
            self._chain_was_away, self._follow_up_at_ms = False, now_ms + CHAIN_RETRY_MS
        if epoch > self._confirmed_epoch:
            self._confirmed_epoch, self._follow_up_at_ms = epoch, now_ms
        if self._follow_up_at_ms is None or now_ms < self._follow_up_at_ms:
            return
        self._follow_up_at_ms = None
        ledger = self._ledger()
        key = self._signer.identity.address
        address = ledger.state.keys.get(key, key)
        index = ledger.book.members.get(key)
        own = decode(
            query(ledger, "account", encode(views.AccountQuery(address))), views.AccountView, limit_bytes=1 << 20
        )
        # f+1 of them in turn, since one may be down; whoever comes late finds nothing left to take
        mine = index is not None and (index - epoch) % len(ledger.book.members) <= ledger.book.faulty
        slashes = confirmed_slashes(ledger) if mine else ()
        if not own.claimable_cumulative_grains and not slashes:
            return

        def work() -> None:
            settler = self._make_settler()
            if own.claimable_cumulative_grains:
                try:
                    settler.claim(address, own.claimable_cumulative_grains, list(own.claim_proof))
                except PotLabError as error:  # paid already, e.g. before a restart
                    self._on_failure("not_claimed", error)
            for slash in slashes:
                try:
                    settler.apply_slash(slash.node, slash.role, slash.cumulative_grains, slash.to, list(slash.proof))
                except PotLabError as error:  # one that was applied in an earlier epoch has nothing left to take
                    self._on_failure("slash_not_applied", error)

        self._queue.add(work)

    def _on_failure(self, what: str, error: PotLabError) -> None:
        log.info("event=%s reason=%r", what, str(error))
        if isinstance(error, ChainUnreachable):
            self._chain_was_away = True


_NAMES_AN_ORDER = ("UnknownOrder", "Insolvent")
"""How the contract refuses an epoch that counts on money which the escrow does not hold."""


def confirmed_slashes(ledger: Ledger) -> tuple[SlashView, ...]:
    """Slashes of the last confirmed epoch, with the proofs that the chain asks for."""
    raw = query(ledger, "epoch", b"")
    return decode(raw, views.EpochView, limit_bytes=1 << 30).slashes
