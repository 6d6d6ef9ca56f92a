"""What must hold at every moment of every run, whatever befalls it.

`Checkers` observe everything that correct aggregators do, through all their lives, and every acknowledgement:

- agreement: all who run a sequence run the same requests at the same time, with equal replies and equal states;
- validity: a batch holds only submitted requests, at a time that some correct clock bears out and that never runs back;
- once: no request runs twice, and what f+1 equal replies acknowledged stays in the batch that they name;
- signing: no correct replica signs two different things for one step, is convicted of it, halts or fails;
- money: what was deposited is what is there (`Book.audit`), at intervals;
- quorum, seat, key: batches are decided by enough votes of the set in force; a correct aggregator votes in an era in
  which it has a seat, and counts what the keys of that set have signed;
- window: no correct replica votes further above its stable checkpoint than its window;
- memory: nothing that a replica keeps grows past a bound that the run's length does not enter.

Liveness is the run's own check (`simulation.py`): after all faults have ended everything asked for is answered in time.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any

from pot_lab.agreement.application import Batch
from pot_lab.agreement.quorum import quorum
from pot_lab.agreement.votes import PREPARE, vote_digest
from pot_lab.consensus.membership import NO_SEAT, Membership
from pot_lab.consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
    batch_digest,
    content_digest,
    request_digest,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.records import Accepted, Changing, Decided, LogRecord, Prepared, Stabilised
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import Executed, SendReply
from pot_lab.errors import PotLabError
from pot_lab.protocol.ledger import Ledger
from pot_lab.simulator.signatures import recover

_KEPT_PER_REPLICA, _KEPT_BY_SEQUENCE = 4, 3
_RECORDS_A_BATCH, _KEPT_EVIDENCE, _KEPT_SNAPSHOTS = 4, 64, 3
_PLAIN = (bytes, str, tuple, int, type(None))
_BOUNDED_ELSEWHERE = ("pool", "replies", "counters", "_verifier", "_headers")


class Violation(Exception):
    """A rule was violated.

    Attributes:
        rule: its name.
        sequence: the batch that it is about, if it is about one.
    """

    def __init__(self, rule: str, what: str, sequence: int | None = None) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule, self.sequence = rule, sequence


@dataclass
class _Votes:
    """What correct aggregators have signed.

    Attributes:
        signed: the digest of each step: host, era, kind, view and sequence.
        left: the view that each host has left in each era, the highest.
        stable: the stable checkpoint of each host.
        sets: the addresses of the set in each era.
    """

    signed: dict[tuple[int, int, str, int, int], bytes] = field(default_factory=dict)
    left: dict[tuple[int, int], int] = field(default_factory=dict)
    stable: dict[int, int] = field(default_factory=dict)
    sets: dict[int, tuple[bytes, ...]] = field(default_factory=dict)


class Checkers:
    """What is known of the one history, and of everything that was acknowledged about it.

    Args:
        n: how many hosts there are.
        limits: theirs.
        time_slack_ms: how far a batch's time may lie ahead of a right clock, or before its requests were submitted.
    """

    def __init__(self, n: int, limits: ConsensusParameters, time_slack_ms: int) -> None:
        self.n, self.limits = n, limits
        self.height = 0
        self.checks = 0
        self._time_slack_ms = time_slack_ms
        self._history: dict[int, tuple[tuple[bytes, ...], int, bytes, tuple[bytes, ...], bytes]] = {}
        self._ran: dict[bytes, int] = {}
        self._place: dict[bytes, tuple[int, bytes]] = {}
        self._submitted_ms: dict[bytes, int] = {}
        self._votes = _Votes()
        self._acknowledged: dict[bytes, tuple[int, int, bytes]] = {}

    # What clients do.

    def submitted(self, request: bytes, at_ms: int) -> None:
        """A client or a duty signed a request and sent it."""
        self._submitted_ms.setdefault(request_digest(request), at_ms)

    def acknowledged(self, digest: bytes, reply: SendReply) -> None:
        """A client has f+1 equal replies to its request."""
        self.checks += 1
        self._acknowledged[digest] = reply.sequence, reply.time_ms, reply.reply
        self._compare(digest)

    # What aggregators do.

    def executed(self, node: int, effect: Executed, batch: Batch, now_ms: int) -> None:
        """A correct aggregator ran a batch, now or again after a restart."""
        self.checks += 1
        sequence = effect.sequence
        execution = effect.execution
        ran = tuple(request_digest(request) for request in batch.requests)
        found = (ran, effect.time_ms, effect.state, execution.replies, execution.digest)
        if batch.since and (batch.since >= sequence or batch.since not in self._votes.sets):
            raise Violation("seat", f"aggregator {node} runs batch {sequence} in era {batch.since}", sequence)
        known = self._history.get(sequence)
        if known is None:
            self._first(sequence, found, now_ms)
        elif known != found:
            parts = ("requests", "time", "state", "replies", "ledger")
            differing = [part for part, a, b in zip(parts, known, found, strict=True) if a != b]
            raise Violation(
                "agreement", f"aggregator {node} differs at batch {sequence} in {', '.join(differing)}", sequence
            )

    def _first(
        self, sequence: int, found: tuple[tuple[bytes, ...], int, bytes, tuple[bytes, ...], bytes], now_ms: int
    ) -> None:
        ran, time_ms, _, replies, _ = found
        before = self._history.get(sequence - 1)
        if before is not None and time_ms < before[1]:
            raise Violation(
                "validity", f"batch {sequence} is {before[1] - time_ms} ms before the one before it", sequence
            )
        if time_ms > now_ms + self._time_slack_ms:
            raise Violation("validity", f"batch {sequence} has a time {time_ms - now_ms} ms ahead", sequence)
        for digest, reply in zip(ran, replies, strict=True):
            submitted_at_ms = self._submitted_ms.get(digest)
            if submitted_at_ms is None:
                what = f"batch {sequence} holds a request that was never submitted: {digest.hex()[:12]}"
                raise Violation("validity", what, sequence)
            if submitted_at_ms > time_ms + self._time_slack_ms:
                late_ms = submitted_at_ms - time_ms
                raise Violation("validity", f"batch {sequence} is {late_ms} ms older than a request in it", sequence)
            earlier = self._ran.setdefault(digest, sequence)
            if earlier != sequence:
                what = f"request {digest.hex()[:12]} ran in batches {earlier} and {sequence}"
                raise Violation("once", what, earlier)
            self._place[digest] = sequence, reply
        self._history[sequence] = found
        self.height = max(self.height, sequence)
        for digest in ran:
            self._compare(digest)

    def _compare(self, digest: bytes) -> None:
        """Whether what was promised about a request is what happened to it."""
        promise, place = self._acknowledged.get(digest), self._place.get(digest)
        if promise is None or place is None:
            return
        sequence, time_ms, reply = promise
        if (sequence, reply) != place or self._history[sequence][1] != time_ms:
            raise Violation(
                "acknowledged",
                f"request {digest.hex()[:12]} was acknowledged in batch {sequence}, but ran in {place[0]}",
                sequence,
            )

    def sent(self, node: int, message: Message, members: Membership) -> None:
        """A correct aggregator sent a message: it never signs two digests for one step."""
        era, seat = members.since, members.index
        if isinstance(message, PrePrepare):
            if message.view % members.n != seat:
                return  # shown to a peer: the primary's vote, not this one's
            digest = batch_digest(message.sequence, message.time_ms, message.digests)
            self._compare_vote(node, era, "proposal", message.view, message.sequence, digest)
        elif isinstance(message, Prepare | Commit):
            self._compare_vote(node, era, type(message).__name__, message.view, message.sequence, message.digest)
        elif isinstance(message, Checkpoint):
            self._compare_vote(node, era, "checkpoint", 0, message.sequence, message.state + message.snapshot)
        elif isinstance(message, NewView) and message.view % members.n == seat:
            self._compare_vote(node, era, "new view", message.view, 0, content_digest(message))
            for vote in message.proposals:
                self._compare_vote(node, era, "proposal", message.view, vote.sequence, vote.digest)
        elif isinstance(message, ViewChange) and message.replica == seat:
            self._compare_vote(node, era, "view change", message.view, 0, content_digest(message))
            self._votes.left[node, era] = max(self._votes.left.get((node, era), 0), message.view)

    def wrote(self, node: int, record: LogRecord, members: Membership) -> None:
        """A correct aggregator has something on its disk: votes are made then, whenever they are sent."""
        if isinstance(record, Accepted):
            if record.prepare is not None:
                self._vote(node, record.prepare, members)
        elif isinstance(record, Prepared):
            self._vote(node, record.commit, members)
            if members.since:
                for prepare in record.prepares:
                    self._signed(node, prepare, members)
        elif isinstance(record, Decided):
            voters = {commit.replica for commit in record.commits if 0 <= commit.replica < members.n}
            if len(voters) < quorum(members.n):
                what = f"aggregator {node} decides batch {record.sequence} on the votes of {sorted(voters)}"
                raise Violation("quorum", f"{what}, wanted {quorum(members.n)} of {members.n}", record.sequence)
        elif isinstance(record, Changing):
            self.sent(node, record.change, members)
        elif isinstance(record, Stabilised):
            self.moved(node, record.proof.sequence)

    def _signed(self, node: int, vote: Prepare, members: Membership) -> None:
        """Whether a vote that an aggregator counted was signed with the key of its seat."""
        signed = vote_digest(
            members.network_id, PREPARE, vote.view, vote.sequence, vote.digest, vote.executed, vote.state
        )
        seat = members.addresses[vote.replica] if 0 <= vote.replica < members.n else b""
        if recover(signed, vote.signature) != seat:
            what = f"aggregator {node} counts a prepare of seat {vote.replica} for batch {vote.sequence}"
            raise Violation("key", f"{what} that another key than the seat's has signed", vote.sequence)

    def moved(self, node: int, sequence: int) -> None:
        """A correct aggregator has a stable checkpoint on its disk."""
        self._votes.stable[node] = max(self._votes.stable.get(node, 0), sequence)

    def began(self, node: int, members: Membership) -> None:
        """A correct aggregator works with another set: the same as all others do after that checkpoint."""
        self.checks += 1
        if self._votes.sets.setdefault(members.since, members.addresses) != members.addresses:
            raise Violation("agreement", f"aggregator {node} begins era {members.since} with another set")
        self.moved(node, members.since)

    def _vote(self, node: int, vote: Prepare | Commit, members: Membership) -> None:
        sequence, low, era = vote.sequence, self._votes.stable.get(node, 0), members.since
        if members.index == NO_SEAT or vote.replica != members.index:
            raise Violation("seat", f"aggregator {node} votes for batch {sequence} without a seat", sequence)
        if sequence <= era or any(era < other < sequence for other in self._votes.sets):
            raise Violation("seat", f"aggregator {node} votes in era {era} for batch {sequence} of another", sequence)
        if vote.view < self._votes.left.get((node, era), 0):
            raise Violation("signing", f"aggregator {node} votes in view {vote.view}, which it has left", sequence)
        if sequence > low + self.limits.window:
            what = f"aggregator {node} votes for batch {sequence}, {sequence - low} above its stable checkpoint"
            raise Violation("window", f"{what}, wanted at most {self.limits.window}", sequence)
        self.sent(node, vote, members)

    def _compare_vote(self, node: int, era: int, kind: str, view: int, sequence: int, digest: bytes) -> None:
        """Compare a signed vote with what the same aggregator signed before."""
        self.checks += 1
        what = f"{kind} of view {view}, batch {sequence}"
        known = self._votes.signed.setdefault((node, era, kind, view, sequence), digest)
        if known is not digest and known != digest:
            raise Violation("signing", f"aggregator {node} contradicts its {what}", sequence or None)

    def accused(self, node: int, accused: int, *, is_correct: bool) -> None:
        """An aggregator holds evidence against another."""
        if is_correct:
            raise Violation("signing", f"aggregator {node} has evidence against {accused}, which is correct")

    def halted(self, node: int, error: PotLabError) -> None:
        """A correct aggregator has stopped itself."""
        raise Violation("signing", f"aggregator {node} halted: {error}")

    def failed(self, node: int, error: Exception) -> None:
        """A correct aggregator's step raised."""
        raise Violation("signing", f"aggregator {node} fell over: {type(error).__name__}: {error}")

    # What aggregators keep.

    def audit(self, node: int, ledger: Ledger) -> None:
        """Count the money of one ledger."""
        self.checks += 1
        try:
            ledger.book.check_conservation()
            ledger.book.audit()
        except AssertionError as error:
            raise Violation("money", f"aggregator {node}: {error}") from error

    def memory(self, node: int, replica: Replica) -> None:
        """Measure everything that a replica keeps."""
        self.checks += 1
        limits = self.limits
        if len(replica.pool) > limits.pending_requests or replica.pool.size_bytes > limits.pending_bytes:
            raise Violation("memory", f"aggregator {node} holds {len(replica.pool)} pending requests")
        if len(replica.replies) > limits.cached_replies:
            raise Violation("memory", f"aggregator {node} keeps {len(replica.replies)} replies")
        bounds = (
            _KEPT_BY_SEQUENCE * limits.window + 2 * limits.snapshot_batches + self.n,  # as far back as logs reach
            _KEPT_PER_REPLICA * self.n * (limits.window + 4 * limits.in_flight),
        )
        for name, value in vars(replica).items():
            if name not in _BOUNDED_ELSEWHERE:
                self._measure(node, name, value, *bounds)

    def _measure(self, node: int, name: str, value: Any, most_by_sequence: int, most: int) -> None:
        """Raise Violation if a replica keeps too much under a name; a dictionary of integers is one by sequence."""
        kept, longest = _size(value)
        if longest > most_by_sequence:
            raise Violation("memory", f"aggregator {node} keeps {longest} batches as {name}, wanted {most_by_sequence}")
        if kept > most:
            raise Violation("memory", f"aggregator {node} keeps {kept} things as {name}, wanted at most {most}")

    def log(self, node: int, records: int, snapshots: int) -> None:
        """Measure what a correct aggregator has on its disk."""
        self.checks += 1
        limits = self.limits
        bound = _RECORDS_A_BATCH * (2 * limits.snapshot_batches + 4 * limits.window) + _KEPT_EVIDENCE * self.n
        if records > bound or snapshots > _KEPT_SNAPSHOTS + 2 * limits.window // limits.snapshot_batches:
            raise Violation("memory", f"aggregator {node} has {records} records and {snapshots} snapshots on its disk")

    # The end.

    def finished(self, node: int, replica: Replica) -> None:
        """At the end of a run nothing that was acknowledged is missing from any correct aggregator."""
        last = max((sequence for sequence, _, _ in self._acknowledged.values()), default=0)
        if replica.executed < last:
            raise Violation("acknowledged", f"aggregator {node} ends at {replica.executed}, acknowledged was {last}")
        for digest, (sequence, _, _) in self._acknowledged.items():
            if digest not in self._place:
                raise Violation("acknowledged", f"request {digest.hex()[:12]} of batch {sequence} never ran")


def _size(value: Any) -> tuple[int, int]:
    """How many things a container holds, those in the containers in it counted too, and the length of the longest
    dictionary by integers in it.
    """
    if isinstance(value, dict):
        kept, longest = len(value), 0
        for key, part in value.items():
            longest = longest or (len(value) if isinstance(key, int) else 0)
            if not isinstance(part, _PLAIN):
                more, longer = _size(part)
                kept, longest = kept + more, max(longest, longer)
        return kept, longest
    if isinstance(value, Sized) and not isinstance(value, _PLAIN):
        return len(value), 0
    if type(value).__module__.startswith("pot_lab.consensus.") and hasattr(value, "__dict__"):
        return _size({name: part for name, part in vars(value).items() if name not in _BOUNDED_ELSEWHERE})
    return 0, 0
