"""Planted bugs: parts of the real programs with one thing wrong, for the tests that show that the simulator sees it.

Each is a subclass of a product class, used only where a test hands it to a `Simulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from pot_lab.agreement.application import Batch, Execution, RequestId
from pot_lab.agreement.quorum import faulty
from pot_lab.agreement.votes import vote_digest
from pot_lab.consensus.early_messages import EarlyMessages
from pot_lab.consensus.membership import OUTSIDERS, Membership, Verifier
from pot_lab.consensus.messages import (
    NO_SIGNATURE,
    CheckpointProof,
    Commit,
    DecidedBatch,
    Message,
    NewView,
    PrePrepare,
    ViewChange,
    Vote,
    batch_digest,
)
from pot_lab.consensus.records import Accepted, Changing, Decided, LogRecord, Prepared, Stabilised, sequence_of
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.replies import CachedReply, ReplyCache
from pot_lab.consensus.slots import Slot
from pot_lab.consensus.snapshot_fetch import SnapshotFetch
from pot_lab.consensus.steps import Effect, Send
from pot_lab.consensus.view_change import Plan, plan
from pot_lab.crypto.canonical import decode
from pot_lab.crypto.identity import Recover, recover
from pot_lab.errors import PotLabError
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.state import Genesis
from pot_lab.protocol.transactions import TRANSACTION_LIMIT_BYTES, Transaction
from pot_lab.simulator.byzantine import Behaviour
from pot_lab.simulator.checkers import Checkers
from pot_lab.simulator.disks import Disk
from pot_lab.simulator.nodes import SimulatedNode
from pot_lab.simulator.people import cast_of


class ConsequencesOnly(Checkers):
    """Counts no votes: a quorum that is too small must show by what comes of it."""

    def wrote(self, node: int, record: LogRecord, members: Membership) -> None:
        if not isinstance(record, Decided):
            super().wrote(node, record, members)


class QuorumOfFPlusOne(Replica):
    """f+1 votes decide."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self.q = faulty(self.n) + 1


class QuorumOfTwoFPlusOne(Replica):
    """2f+1 votes decide, as in the paper: too few where n is not 3f+1."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self.q = 2 * faulty(self.n) + 1


class VotesForAnything(Replica):
    """The digest of a commit is not looked at."""

    def _on_vote(self, sender: int, message: Vote) -> None:
        slot = self._slots.get(message.sequence)
        if isinstance(message, Commit) and slot is not None and slot.digest:
            message = msgspec.structs.replace(message, digest=slot.digest)
        super()._on_vote(sender, message)


class VotesInOthersNames(Replica):
    """A vote counts for whoever it names, whoever brought it."""

    def _on_vote(self, sender: int, message: Vote) -> None:
        if 0 <= message.replica < self.n and message.replica != self.index:
            super()._on_vote(message.replica, message)


class TakesAnyTime(Replica):
    """A proposed time is not compared with the own clock."""

    def _may_prepare(self, slot: Slot, previous_ms: int) -> bool:
        return not slot.missing


class SignsForEverybody(Replica):
    """Signatures are not checked."""

    def _signed_by(self, *arguments: object) -> bool:
        return True


class BelievesDecisions(Replica):
    """Whatever a peer says was decided is executed."""

    def _decided(self, sender: int, batch: DecidedBatch, digests: Sequence[bytes]) -> bool:
        return batch.time_ms >= self.time_ms


class TakesAnyBody(Replica):
    """A body is taken for the request that the proposal names, unseen."""

    def _on_pre_prepare(self, sender: int, message: PrePrepare) -> None:
        digest = batch_digest(message.sequence, message.time_ms, message.digests)
        super()._on_pre_prepare(sender, message)
        slot = self._slots.get(message.sequence)
        fits = len(message.bodies) == len(message.digests) and all(message.bodies)
        if slot is not None and slot.digest == digest and slot.proposal is not None and fits:
            slot.bodies = dict(zip(message.digests, message.bodies, strict=True))


class NoRepliesKept(ReplyCache):
    """Nothing that was answered is remembered."""

    def put(self, reply: CachedReply) -> None:
        pass


class ForgetsReplies(Replica):
    """The reply cache is lost."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self.replies = NoRepliesKept(1, 1)


class RemembersWrongPlace(ReplyCache):
    """A retry is told another batch than the one the request ran in."""

    def get(self, digest: bytes) -> CachedReply | None:
        found = super().get(digest)
        return None if found is None else msgspec.structs.replace(found, sequence=found.sequence + 1)


class AnswersRetriesWrongly(Replica):
    """Its cache of replies is off by one."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self.replies = RemembersWrongPlace(self.parameters.cached_replies, self.parameters.cached_bytes)


class HighUpperWatermark(Replica):
    """Votes far above the window are taken."""

    def _in_window(self, sender: int, message: PrePrepare | Vote) -> bool:
        if self.executed < message.sequence <= self.executed + 300 and message.view == self.view:
            return True
        return super()._in_window(sender, message)


class WindowOneHigher(Replica):
    """The high watermark is off by one."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self.parameters = msgspec.structs.replace(self.parameters, window=self.parameters.window + 1)


class UnboundedEarlyMessages(Replica):
    """Early messages are kept without a limit."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        super().__init__(*arguments, **keywords)
        self._early = EarlyMessages(1 << 30)


class HidesWhatItPrepared(Replica):
    """A view change shows no prepared certificates."""

    def _change_view(self, view: int) -> None:
        self._proofs.clear()
        super()._change_view(view)


class StaysInTheOldView(Replica):
    """After it has said that it leaves its view, it goes on voting in it."""

    def _change_view(self, view: int) -> None:
        old = self.view
        slots = dict(self._slots)
        super()._change_view(view)
        if self.changing:
            self.view, self.changing = old, False
            self._slots.update(slots)


class NeverLeavesItsView(Replica):
    """It has no patience to lose."""

    def _change_view(self, view: int) -> None:
        self._suspicion = None


class ForgetsThatItLeft(Replica):
    """That it left a view is not written down."""

    def _persist(self, record: LogRecord, *, urgent: bool = True) -> None:
        if not isinstance(record, Changing):
            super()._persist(record, urgent=urgent)


class ForgetsItsVotes(Replica):
    """Accepted proposals are not read back from the log."""

    def _replay(self, record: LogRecord) -> None:
        if isinstance(record, Accepted | Prepared) and sequence_of(record) % 3 == 0:
            self._skipped = True
            return
        super()._replay(record)


class OldQuorum(Replica):
    """After a change of the set it goes on with the quorum of the set before."""

    def _begin_era(self, membership: Membership) -> None:
        before = getattr(self, "q", None)
        super()._begin_era(membership)
        if before is not None:
            self.q = before


class BeginsAtOnce(Replica):
    """Another set is in force from the next checkpoint on, without a window's notice."""

    def _plan_end(self, sequence: int) -> None:
        super()._plan_end(sequence)
        every = self.parameters.checkpoint_batches
        self._ends = min(self._ends, -(-sequence // every) * every)


class CountsOutsiders(Replica):
    """The votes of a replica that is to join count before it is in."""

    def _receive(self, sender: int, message: Message) -> None:
        slot = self._slots.get(message.sequence) if isinstance(message, Commit) else None
        if sender >= OUTSIDERS and slot is not None and not slot.executed:
            slot.votes.count(message)
        else:
            super()._receive(sender, message)


class EarlyBird(Behaviour):
    """A replica that is to join, and votes for all that is open wherever it is told of it; a member tells it."""

    kind = "early_bird"

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """Commits in the name of the seat that it will get."""
        if node.replica.has_seat:
            return effects
        more = list(effects)
        for other in node.world.nodes:
            replica = other.replica
            for sequence, slot in replica._slots.items():
                if slot.digest and not slot.executed:
                    vote = Commit(
                        replica.view, sequence, slot.digest, replica.executed, replica.state, replica.n, NO_SIGNATURE
                    )
                    more.append(Send(OUTSIDERS + other.index, self.signed(vote)))
        return more


def signed_with_any_key(
    self: Verifier,
    replica: int,
    phase: int,
    view: int,
    sequence: int,
    digest: bytes,
    executed: int,
    state: bytes,
    signature: bytes,
) -> bool:
    """A key that was rotated away is still good for its seat."""
    said = vote_digest(self._network_id, phase, view, sequence, digest, executed, state)
    try:
        signer = recover(said, signature)
    except PotLabError:
        return False
    hosts = [{key.address for key in keys} for keys in cast_of(self.n).keys]
    return 0 <= replica < self.n and any({signer, self._addresses[replica]} <= own for own in hosts)


def plan_without_the_first(changes: Iterable[ViewChange]) -> Plan:
    """A new view begins one batch too late: the watermark is off by one."""
    made = plan(changes)
    return Plan(made.stable, {at: digest for at, digest in made.batches.items() if at != made.low + 1})


def believed_new_view(message: NewView, changes: Collection[ViewChange], verifier: Verifier) -> Plan:
    """What a new view proposes is not compared with what its view changes ask for."""
    return Plan(plan(changes).stable, {vote.sequence: vote.digest for vote in message.proposals})


def believed_chunk(self: SnapshotFetch, index: int, data: bytes) -> bool:
    """A chunk of a snapshot is taken unseen."""
    self._asked.discard(index)
    self._chunks[index] = data
    return True


def compacted_to_nothing(proof: CheckpointProof, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """Compaction drops the votes above the checkpoint too."""
    yield Stabilised(proof)


class NeverSynced(Disk):
    """`fdatasync` is forgotten."""

    def sync(self) -> None:
        pass


class SendsFirst(SimulatedNode):
    """Sends at once, and writes down what it sent only at every twentieth turn."""

    def start(self) -> None:
        self.disk.write = self._write_sometimes  # type: ignore[method-assign]
        super().start()

    def _write_sometimes(self) -> None:
        if self.counts["turns"] % 20 == 0:
            Disk.write(self.disk)
            self.disk.sync()


class TrustingLedger(LedgerApplication):
    """Who signed a transaction is not checked."""

    def validate(self, request: bytes) -> RequestId:
        try:
            return super().validate(request)
        except PotLabError:
            transaction = decode(request, Transaction, limit_bytes=TRANSACTION_LIMIT_BYTES)
            self._opened[request] = transaction
            return RequestId(transaction.account, transaction.nonce)


class MintingLedger(LedgerApplication):
    """Every hundredth batch pays an account out of nothing, and writes no total down."""

    def execute(self, batch: Batch) -> Execution:
        execution = super().execute(batch)
        if batch.sequence % 20 == 0:
            next(iter(self.ledger.state.accounts.values())).earned_grains += 1
        return execution


def diverging_ledgers() -> Callable[..., LedgerApplication]:
    """An application that is not deterministic: each one made has its own idea of its state."""
    made = iter(range(1 << 30))

    class DivergingLedger(LedgerApplication):
        def __init__(self, genesis: Genesis, *, recover: Recover = recover) -> None:
            super().__init__(genesis, recover=recover)
            self._salt = next(made) % 2

        def execute(self, batch: Batch) -> Execution:
            execution = super().execute(batch)
            if batch.sequence != 15:
                return execution
            return msgspec.structs.replace(execution, digest=bytes([self._salt]) * 32)

    return DivergingLedger
