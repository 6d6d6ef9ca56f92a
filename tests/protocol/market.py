"""A world whose aggregators come and go, and that counts what happens in it, for random histories."""

from __future__ import annotations

from collections import Counter

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Identity
from pot_lab.protocol import signers
from pot_lab.protocol.ledger import HANDLERS, Ledger
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import DeniedOrder, DenyEscrow, ReleaseShare, Reply, SignRotation, open_transaction
from tests.protocol.test_signers import named, rotated
from tests.protocol.world import POT, World

VERSIONS = dict.fromkeys(range(1, 64), HANDLERS)
"""Versions of the rules that do not differ, so that votes may activate them."""
TAKES_OVER_AFTER = 3
"""Batches after which consensus takes a new set of aggregators."""


class Seen:
    """What happened in all histories of a run."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.why: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()


class Market(World):
    """A world with five aggregators at first, known by the keys that they vote with now."""

    def __init__(self, parameters: Parameters, seen: Seen) -> None:
        self.seen, self.era, self.eras = seen, 0, list[int]()
        super().__init__(5, parameters)
        self.ledger = Ledger(self.genesis, versions=VERSIONS)
        self.owners = {each.address: each for each in self.aggregators}
        self.by_key = dict(self.owners)

    def ordered(self, *requests: bytes) -> list[Reply]:
        """Order these transactions in one batch now."""
        transactions = [open_transaction(request, self.network_id) for request in requests]
        self.log.append((self.now_ms, requests))
        self.eras.append(self.era)
        sequence = self.ledger.state.sequence + 1
        replies, events = self.ledger.execute(sequence, self.now_ms, transactions, self.era)
        self.events += events
        self.ledger.book.audit()
        faults = self.ledger.book.faults
        assert not faults, faults[0].traceback
        for transaction, reply in zip(transactions, replies, strict=True):
            (self.seen.kinds if reply.accepted else self.seen.refusals)[
                transaction.kind if reply.accepted else reply.code
            ] += 1
        for event in events:
            self.seen.events[event.kind] += 1
            if event.kind == "order_void":
                self.seen.ends[event.detail["reason"]] += 1
            if event.kind == "order_settled" and event.account:
                self.seen.ends["settled"] += 1
            if event.kind == "order_extended":
                self.seen.why[event.detail["why"]] += 1
            if event.kind == "dispute_ended":
                self.seen.verdicts[event.detail["verdict"]] += 1
            if event.kind == "proposal_ended":
                self.seen.outcomes[event.detail["outcome"]] += 1
        self._follow_members()
        if self.keeps:
            self.keep()
        return replies

    def _follow_members(self) -> None:
        state = self.ledger.state
        if state.changed > self.era and state.sequence >= state.changed + TAKES_OVER_AFTER:
            self.era = state.changed
        keys = [seat.key for seat in state.aggregators if seat.key not in state.convicted]
        self.aggregators = [self.by_key[each] for each in keys]

    def restarted(self) -> Ledger:
        """A ledger that has taken over a snapshot of this one."""
        ledger = Ledger(self.genesis, versions=VERSIONS)
        ledger.restore(self.ledger.snapshot())
        return ledger

    def replayed(self) -> Ledger:
        """A second ledger that executed the same batches."""
        other = Ledger(self.genesis, versions=VERSIONS)
        for sequence, ((time_ms, requests), era) in enumerate(zip(self.log, self.eras, strict=True), 1):
            transactions = [open_transaction(request, self.network_id) for request in requests]
            other.execute(sequence, time_ms, transactions, era)
        return other

    def fund_seat(self, account: Identity) -> None:
        """Stake as an aggregator, and name the signing key on the chain."""
        self.owners[account.address] = self.by_key[account.address] = account
        grains = 200 * POT
        self.chain(
            ChainEvent(
                kind="staked", block=1, log_index=0, account=account.address, role=int(Role.AGGREGATOR),
                amount_grains=grains, subject=b"", detail=(grains,),
            ),
            named(account, account),
        )  # fmt: skip

    def release_shares(self, order_id: bytes, count: int) -> None:
        """Holders of the order's shares release them, whoever they are by now."""
        for place, holder in list(self.holders(order_id).items())[:count]:
            if place < len(self.shares[order_id]):
                self.submit(holder, ReleaseShare(order_id, self.shares[order_id][place]))

    def rotate_signers(self) -> None:
        """The signers of the chain sign the set that shall follow, and the chain takes it."""
        state = self.ledger.state
        rotation = state.rotation
        if rotation is None:
            return
        digest = signers.digest_of(self.ledger.book, rotation)
        said: list[tuple[Identity, Record]] = [
            (self.by_key[each], SignRotation(rotation.set_id, self.by_key[each].sign(digest))) for each in state.signers
        ]
        self.batch(*said)
        if len(self.ledger.book.counted(rotation.signatures)) >= state.signing_quorum:
            keys = [key for key, _ in signers._wanted(self.ledger.book)]
            self.chain(rotated(rotation.set_id, rotation.threshold, keys))

    def deny(self, number: int, members: int) -> None:
        """Members deny the escrow of an order that is to be settled."""
        pending = self.ledger.state.pending
        if pending is not None and pending.order_ids:
            order_id = pending.order_ids[number % len(pending.order_ids)]
            name = pending.settlement.epoch, pending.settlement.round
            self.batch(*((each, DenyEscrow(*name, (DeniedOrder(order_id),))) for each in self.aggregators[:members]))
