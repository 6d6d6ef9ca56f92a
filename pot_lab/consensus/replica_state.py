"""What a replica holds, and the few things that all its parts do: sign, check, persist, send, stop.

The parts of a replica stand in files of their own and meet in `replica.Replica`: `admission` (requests), `normal_case`
(a batch's way), `view_transition` (leaving a view, beginning the next), `checkpointing`, `eras` (another set of
replicas), `log_sync` (what the others decided) and `recovery` (coming back from the log). They share this state; what
one of them asks of another is declared at the end of `ReplicaState`, so each can be read alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

from pot_lab.agreement.application import Application, Seat
from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.quorum import faulty, quorum, weak_quorum
from pot_lab.agreement.votes import SignedVote, vote_digest
from pot_lab.consensus.batching import RequestPool
from pot_lab.consensus.checkpoint import Checkpoints, Snapshot
from pot_lab.consensus.early_messages import Early, EarlyMessages
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership, Succession, Verifier
from pot_lab.consensus.messages import (
    CheckpointProof,
    Commit,
    Handover,
    Message,
    Prepare,
    PreparedProof,
    PrePrepare,
    Status,
    ViewChange,
    Vote,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.proof import BatchHeader
from pot_lab.consensus.records import Entered, Found, LogRecord
from pot_lab.consensus.replies import ReplyCache
from pot_lab.consensus.slots import Proposing, Resending, Returned, Slot, Snapshots
from pot_lab.consensus.snapshot_fetch import SnapshotFetch
from pot_lab.consensus.steps import Effect, Halt, Persist, ReportEquivocation, Send
from pot_lab.consensus.view_change import Patience, ViewChanges
from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Identity, Recover, recover
from pot_lab.errors import PotLabError

RESEND_SLOTS = 8
RESEND_BACK_OFF = 8
_EVIDENCE_EACH = 64
_REPLICAS_A_TIMEOUT = 16
"""The primary of a large set has as many votes more to wait for, and everyone as many more reports to read."""
BEYOND_WINDOW = "beyond the window"
LATER_VIEW = "of a later view"


class BadLog(PotLabError):
    """A replica's own log contradicts itself: it was edited, or belongs to another replica.

    What to do: move the data directory away and start with an empty one; see operations.md.
    """


class StateDiverged(PotLabError):
    """f+1 replicas report another state than this one for a batch that all executed: this replica's state is wrong.

    What to do: keep the data directory for analysis, then start with an empty one; see operations.md.
    """


class ReplicaState(ABC):
    """What the parts of one replica share; see `Replica` for the names that others may read."""

    def __init__(
        self,
        membership: Membership,
        identity: Identity,
        application: Application,
        parameters: ConsensusParameters | None = None,
        *,
        spare: Sequence[Identity] = (),
        recover: Recover = recover,
    ) -> None:
        self.parameters = parameters or ConsensusParameters()
        self.parameters.check()
        if membership.index != NO_SEAT and membership.addresses[membership.index] != identity.address:
            raise BadLog(
                "a replica was given another's key",
                seen=identity.address,
                wanted=membership.addresses[membership.index],
            )
        self._identities = (identity, *spare)
        self._application = application
        self._recover_signer = recover
        self.succession = Succession(membership, recover)

        self.now_ms = 0
        self._set_back_ms = 0
        self.executed = 0
        self.time_ms = 0
        self.state: bytes = tagged_hash("pot-lab/consensus/genesis/1", membership.network_id)
        self.counters: Counter[str] = Counter()
        self.recovered = False
        self.halted = False

        limits = self.parameters
        self.pool = RequestPool(limits.pending_requests, limits.pending_bytes, limits.pending_per_account)
        self.replies = ReplyCache(limits.cached_replies, limits.cached_bytes)
        self._states: OrderedDict[int, bytes] = OrderedDict({0: self.state})
        self._digests: dict[int, bytes] = {}
        self._headers: OrderedDict[int, BatchHeader] = OrderedDict()
        self._accused: dict[tuple[bytes, int, int, int], None] = {}
        self._snapshots = Snapshots()
        self._unwritten: list[Handover] = []

        self._proposing = Proposing()
        self._returned = Returned()
        self._timer_ms: int | None = -1
        self._status_at_ms = 0
        self._scan_at_ms = 0
        self._effects: list[Effect] = []
        self._begin_era(membership)

    def _begin_era(self, membership: Membership) -> None:
        """Begin anew with a set of replicas, after its checkpoint: nothing that was signed in another era counts.

        Every replica of the set stands at that checkpoint in view 0, with nothing voted on above it, so an era is a
        PBFT of its own.
        """
        limits = self.parameters
        self.membership = membership
        self.index = membership.index
        self.n, self.f, self.q = membership.n, faulty(membership.n), quorum(membership.n)
        own = None if self.index == NO_SEAT else membership.addresses[self.index]
        self._identity = next((each for each in self._identities if each.address == own), self._identities[0])
        self._verifier = self.succession.of(membership.since) or Verifier(membership, self._recover_signer)
        self._ends = 0

        self.view = 0
        self.changing = False
        self._slots: dict[int, Slot] = {}
        self._highest_slot = 0
        self._wanted: dict[bytes, set[int]] = {}
        self._bodiless: set[int] = set()
        self._commits: dict[int, Commit] = {}
        self._claims: dict[int, int] = {}
        self._diverging: dict[int, set[int]] = {}
        self._early = EarlyMessages(limits.in_flight * 4)
        self._proposing.next_sequence = self.executed + 1

        self._pace = max(1, self.n // _REPLICAS_A_TIMEOUT)
        self._patience = Patience(limits.request_timeout_ms * self._pace)
        self._watching_since_ms = self.now_ms
        self._suspicion: str | None = None
        self._changes = ViewChanges(self.n)
        self._own_change: ViewChange | None = None
        self._own_change_at_ms = 0
        self._entered: Entered | None = None
        self._proofs: dict[int, PreparedProof] = {}
        self._contents: dict[int, OrderedDict[bytes, PrePrepare]] = {}
        self._revoting: set[int] = set()

        self.checkpoints = Checkpoints(self._verifier, limits.checkpoint_batches, limits.window)
        self._ahead: CheckpointProof | None = None

        self._resending = Resending(after_ms=limits.resend_ms, voted_at_ms=self.now_ms)
        self._behind_since_ms: int | None = None
        self._asked: int | None = None
        self._ask_again_ms = 0
        self._next_peer = self.index
        self._vouchers: dict[tuple[int, bytes], set[int]] = {}
        self._fetch: SnapshotFetch | None = None

    @property
    def primary(self) -> int:
        """The index of the current view's primary."""
        return self.view % self.n

    @property
    def is_primary(self) -> bool:
        """Whether this replica proposes."""
        return self.primary == self.index

    @property
    def has_seat(self) -> bool:
        """Whether this replica is one of the set in force; if not, it only follows."""
        return self.index != NO_SEAT

    @property
    def era(self) -> int:
        """The checkpoint after which the set in force took over."""
        return self.membership.since

    @property
    def open_batches(self) -> int:
        """Batches seen and not executed yet."""
        return sum(slot.proposal is not None and not slot.executed for slot in self._slots.values())

    @property
    def clock_ms(self) -> int:
        """This machine's clock, which what is proposed is judged by; waits are counted in `now_ms`, which never runs
        back: it stands still while the clock is set back, and goes on from there.
        """
        return self.now_ms - self._set_back_ms

    def _by_own_time(self, clock_ms: int) -> int:
        """What `now_ms` is when the clock shows this."""
        return clock_ms + self._set_back_ms

    @property
    def high(self) -> int:
        """The high watermark: this replica votes for no batch above."""
        return self.low + self.parameters.window

    @property
    def low(self) -> int:
        """The low watermark: the last stable checkpoint that this replica has reached."""
        return self.checkpoints.low

    def _suspect(self, reason: str) -> None:
        """The primary provably broke a rule: leave its view at the end of this step."""
        if self.recovered and not self.changing and self._suspicion is None:
            self._suspicion = reason

    def _accuse(self, accused: int, first: SignedVote, second: SignedVote) -> None:
        """Keep two contradicting votes as evidence, if their signatures bear it out; a primary loses its place."""
        evidence, address = Equivocation(first, second), self.membership.addresses[accused]
        key = (address, first.phase, first.view, first.sequence)
        if key in self._accused or sum(each[0] == address for each in self._accused) >= _EVIDENCE_EACH:
            return
        signer: bytes = b""
        with suppress(PotLabError):
            signer = evidence.accused(self.membership.network_id, self._recover_signer)
        if signer != address:
            self.counters["dropped_bad_signature"] += 1
            return
        self._accused[key] = None
        self.counters["equivocations"] += 1
        self._persist(Found(evidence), urgent=False)
        self._effects.append(ReportEquivocation(accused, evidence))
        if accused == self.primary:
            self._suspect("equivocated")

    def _halt(self, error: PotLabError) -> None:
        self.halted = True
        self._effects.append(Halt(error))

    def _slot(self, sequence: int) -> Slot:
        """The slot of a sequence, made when it is not there."""
        slot = self._slots.get(sequence)
        if slot is None:
            slot = self._slots[sequence] = Slot()
            self._highest_slot = max(self._highest_slot, sequence)
        return slot

    def _vouch(self, sender: int, executed: int, state: bytes) -> bool:
        """Compare a replica's claim about its state with our own; a vote of one that diverged does not count."""
        if executed > self._claims.get(sender, 0):
            self._claims[sender] = executed
        own = self._states.get(executed)
        if own is None or own == state or sender >= OUTSIDERS:
            return True
        self.counters["dropped_diverged"] += 1
        against = self._diverging.setdefault(executed, set())
        against.add(sender)
        if len(against) >= weak_quorum(self.n):
            self._halt(
                StateDiverged(
                    f"replicas {sorted(against)} report another state after batch {executed}", seen=own, wanted=state
                )
            )
        return False

    def _signed_by(self, replica: int, phase: int, message: PrePrepare | Vote, digest: bytes) -> bool:
        return self._verifier.signed(
            replica,
            phase,
            message.view,
            message.sequence,
            digest,
            message.executed,
            message.state,
            message.signature,
        )

    def _sign(self, phase: int, sequence: int, digest: bytes) -> bytes:
        network_id, view = self.membership.network_id, self.view
        return self._identity.sign(vote_digest(network_id, phase, view, sequence, digest, self.executed, self.state))

    def _persist(self, record: LogRecord, *, urgent: bool = True) -> None:
        self._effects.append(Persist(record, urgent))

    def _send(self, to: int, message: Message) -> None:
        if to != self.index:
            self._effects.append(Send(to, message))

    @property
    def _at_end(self) -> bool:
        """Whether this era's last batch was executed here, so that nothing is left to do but to end it."""
        return self._ends == self.executed > 0

    def _receive_early(self, reason: str, wanted: Callable[[Early], bool]) -> None:
        """Process messages that came too early, until one of them ends the era."""
        era = self.era
        for sender, message in self._early.take(reason, wanted):
            if self.era == era:
                self._receive(sender, message)

    def _members_claims(self) -> list[int]:
        """How far the other replicas of the set report to be, highest first."""
        return sorted((claim for peer, claim in self._claims.items() if peer < OUTSIDERS), reverse=True)

    # What the parts ask of each other.

    @abstractmethod
    def _on_requested(self, digest: bytes, body: bytes) -> None:
        """Take a body that a proposal lacks."""

    @abstractmethod
    def _checkpoint(self, sequence: int) -> None:
        """Sign the state that was reached; at some places, take it as a snapshot too."""

    @abstractmethod
    def _know_stable(self, proof: CheckpointProof) -> None:
        """Move the low watermark to a proved checkpoint, or remember it until this replica has come so far."""

    @abstractmethod
    def _members_after(self) -> Membership:
        """The set in force after the checkpoint that was just reached."""

    @abstractmethod
    def _hand_over(self, proof: CheckpointProof) -> Handover:
        """The handover that this era's last checkpoint is."""

    @abstractmethod
    def _succeed(self, handover: Handover) -> None:
        """Begin the next era."""

    @abstractmethod
    def _join_era(self, before: bytes, era: int, seats: tuple[Seat, ...]) -> None:
        """Begin an era at whatever place this replica is."""

    @abstractmethod
    def _plan_end(self, sequence: int) -> None:
        """See whether the application asks for another set now."""

    @abstractmethod
    def _move_low(self, proof: CheckpointProof) -> None:
        """Take a proved checkpoint as the low watermark, and drop what lies below."""

    @abstractmethod
    def _execute(self, sequence: int, time_ms: int, digests: Sequence[bytes], bodies: Sequence[bytes]) -> None:
        """Run the next decided batch: each request at most once, however often it was proposed."""

    @abstractmethod
    def _prepare(self, slot: Slot, sequence: int) -> Prepare:
        """This replica's prepare for a proposal, counted."""

    @abstractmethod
    def _repeat_votes(self) -> None:
        """Repeat this replica's votes for the oldest open batches."""

    @abstractmethod
    def _restore(self, snapshot: Snapshot, proof: CheckpointProof, data: bytes) -> None:
        """Take a snapshot's state over."""

    @abstractmethod
    def _receive(self, sender: int, message: Message) -> None:
        """Hand a message to the part that it is for."""

    @abstractmethod
    def _own_status(self, *, ask: bool) -> Status:
        """Where this replica is."""

    @abstractmethod
    def _enter_again(self, record: Entered) -> None:
        """Enter a view again that the log holds."""

    @abstractmethod
    def _fill(self, sequence: int, time_ms: int, bodies: Sequence[bytes]) -> None:
        """Take the content of a batch that is only named, if this is it."""

    @abstractmethod
    def _leave_view(self) -> None:
        """Keep what was proposed by digest, forget who voted for it."""
