"""One replica of PBFT as a function: inputs in, effects out (Castro and Liskov, OSDI 1999, section 4; the paper's
Algorithm 1).

`Replica.step(input)` owns the normal case: the primary proposes a batch at a time, backups prepare it, a quorum of
prepares is committed, a quorum of commits is executed, in sequence, several batches in flight. It also answers retries,
forwards requests to the primary, checks proposed times, repeats its votes when nothing moves, comes back from its log,
and fetches what it missed with proof from its peers. It may not touch a clock, socket, disk, thread or randomness: time
arrives as `Tick`, and everything it wants done leaves as an effect (`steps.py`).

Rules that keep it safe:
- a vote leaves only after the `Persist` before it, and after a restart the log decides which votes exist;
- prepares are verified up to the quorum, since a prepared certificate is shown to others; commits count by the channel
that
  brought them, and their signatures are kept for whoever asks for a proof;
- a sequence is executed on q commits of one view over one digest, or on proof of them, and on nothing less.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

import msgspec

from pot_lab.consensus.application import Application, Batch
from pot_lab.consensus.batching import Pending, RequestPool
from pot_lab.consensus.evidence import Equivocation, signed_vote
from pot_lab.consensus.messages import (
    COMMIT,
    MAX_DECISIONS,
    PRE_PREPARE,
    PREPARE,
    Commit,
    DecidedBatch,
    Decisions,
    FetchBodies,
    FetchDecisions,
    Forward,
    Message,
    Prepare,
    PrePrepare,
    Requests,
    Status,
    Vote,
    batch_digest,
    request_digest,
    vote_digest,
)
from pot_lab.consensus.parameters import Parameters
from pot_lab.consensus.quorum import faulty, quorum, weak_quorum
from pot_lab.consensus.records import Accepted, Decided, Fetched, Found, LogRecord, Prepared
from pot_lab.consensus.replies import CachedReply, ReplyCache
from pot_lab.consensus.stash import Stash
from pot_lab.consensus.steps import (
    Accuse,
    Broadcast,
    Effect,
    Executed,
    Halt,
    Input,
    Persist,
    Received,
    Recovered,
    Refuse,
    Reply,
    Send,
    ServeDecisions,
    SetTimer,
    Submitted,
    Tick,
)
from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Identity, recover
from pot_lab.crypto.merkle import merkle_root
from pot_lab.errors import Oversize, PotLabError

_RESEND_SLOTS = 8
_RESEND_BACK_OFF = 8
_FORWARD_BYTES = 256 * 1024
_REMIND_MS = 1_000
_BEYOND_WINDOW = "beyond the window"
_LATER_VIEW = "of a later view"


class BadLog(PotLabError):
    """A replica's own log does not tell one history; it was edited, or belongs to another replica."""


class StateDiverged(PotLabError):
    """f+1 replicas report another state than this one for a batch that all executed: this replica's state is wrong."""


class Membership(msgspec.Struct, frozen=True):
    """Who the replicas are.

    Attributes:
        network_id: 32 bytes that every signature names.
        addresses: each replica's 20-byte address, by index.
        index: which of them this replica is.
    """

    network_id: bytes
    addresses: tuple[bytes, ...]
    index: int

    @property
    def n(self) -> int:
        """The number of replicas."""
        return len(self.addresses)


class Slot:
    """One sequence number between proposal and execution."""

    __slots__ = (
        "accepted",
        "arrived_ms",
        "bodies",
        "commits",
        "digest",
        "missing",
        "prepared",
        "prepares",
        "proposal",
        "refused",
        "shown",
        "verified",
    )

    def __init__(self) -> None:
        self.proposal: PrePrepare | None = None
        self.digest = b""
        self.bodies: dict[bytes, bytes] = {}
        self.missing: set[bytes] = set()
        self.arrived_ms = 0
        self.accepted = False
        self.refused = False
        self.prepared = False
        self.prepares: dict[int, Prepare] = {}
        self.commits: dict[int, Commit] = {}
        self.verified: set[int] = set()
        self.shown: set[int] = set()

    def full_proposal(self) -> PrePrepare:
        """The proposal with every body in it."""
        assert self.proposal is not None and not self.missing
        return msgspec.structs.replace(
            self.proposal, bodies=tuple(self.bodies[digest] for digest in self.proposal.digests)
        )


class Replica:
    """A replica of one network.

    Args:
        membership: the set and this replica's place in it.
        identity: the key of `membership.addresses[membership.index]`.
        application: what the batches act on, in its initial state.
        parameters: limits and times.

    Attributes:
        view: the current view; its primary is replica `view mod n`.
        executed, time_ms, state: the last executed batch's sequence, time and the state digest after it.
        counters: how often what was seen, dropped or done, by reason.
    """

    def __init__(
        self, membership: Membership, identity: Identity, application: Application, parameters: Parameters | None = None
    ) -> None:
        self.parameters = parameters or Parameters()
        self.parameters.check()
        if membership.addresses[membership.index] != identity.address:
            raise BadLog(
                "a replica was given another's key",
                seen=identity.address,
                wanted=membership.addresses[membership.index],
            )
        self.membership = membership
        self.index = membership.index
        self.n, self.f, self.q = membership.n, faulty(membership.n), quorum(membership.n)
        self._identity = identity
        self._application = application

        self.view = 0
        self.now_ms = 0
        self.executed = 0
        self.time_ms = 0
        self.state = tagged_hash("pot-lab/consensus/genesis/1", membership.network_id)
        self.counters: Counter[str] = Counter()
        self.recovered = False
        self.halted = False

        limits = self.parameters
        self.pool = RequestPool(limits.pending_requests, limits.pending_bytes, limits.pending_per_account)
        self.replies = ReplyCache(limits.cached_replies, limits.cached_bytes)
        self._slots: dict[int, Slot] = {}
        self._wanted: dict[bytes, set[int]] = {}
        self._states: OrderedDict[int, bytes] = OrderedDict({0: self.state})
        self._commits: dict[int, Commit] = {}
        self._claims: dict[int, int] = {}
        self._diverging: dict[int, set[int]] = {}
        self._stash = Stash(limits.in_flight * 4)
        self._accused: set[tuple[int, int, int]] = set()

        self._next_sequence = 1
        self._proposed_ms = 0
        self._due_ms: int | None = None
        self._returned_ms = 0
        self._returned_until = 0
        self._timer_ms: int | None = -1
        self._status_at_ms = 0
        self._scan_at_ms = 0
        self._resend_at_ms: int | None = None
        self._resend_after_ms = limits.resend_ms
        self._behind_since_ms: int | None = None
        self._asked: int | None = None
        self._ask_again_ms = 0
        self._next_peer = self.index
        self._vouchers: dict[tuple[int, bytes], set[int]] = {}
        self._effects: list[Effect] = []

    # What others may read.

    @property
    def primary(self) -> int:
        """The index of the current view's primary."""
        return self.view % self.n

    @property
    def is_primary(self) -> bool:
        """Whether this replica proposes."""
        return self.primary == self.index

    @property
    def open_batches(self) -> int:
        """Batches seen and not executed yet."""
        return sum(slot.proposal is not None for slot in self._slots.values())

    # The one way in.

    def step(self, input_: Input) -> list[Effect]:
        """Take one input; returns what must be done, in order.

        Raises:
            BadLog: only for `Recovered`: the log contradicts itself.
        """
        if self.halted:
            return []
        self._effects = []
        if isinstance(input_, Received):
            self._receive(input_.sender, input_.message)
        elif isinstance(input_, Submitted):
            self._submit(input_.request, input_.spread)
        elif isinstance(input_, Tick):
            self.now_ms = max(self.now_ms, input_.now_ms)
        else:
            self._recover(input_)
        if self.recovered and not self.halted:
            self._advance()
            self._keep_time()
        effects, self._effects = self._effects, []
        return effects

    # Requests.

    def _submit(self, request: bytes, spread: bool) -> None:
        digest = request_digest(request)
        cached = self.replies.get(digest)
        if cached is not None:
            self.counters["retries_answered"] += 1
            self._effects.append(Reply(digest, cached.sequence, cached.time_ms, cached.reply))
            return
        try:
            entry = self._admit(digest, request, spread)
        except PotLabError as error:
            self.counters["requests_refused"] += 1
            self._effects.append(Refuse(digest, error))
            return
        if entry is not None and not spread:
            entry.forward_ms = self.now_ms + _REMIND_MS
            self._effects.append(Broadcast(Forward((request,))))

    def _admit(self, digest: bytes, request: bytes, spread: bool) -> Pending | None:
        """Put a request into the pool; None when it was there already."""
        known = self.pool.get(digest)
        if known is not None:
            known.spread = known.spread or spread
            return None
        if len(request) > self.parameters.request_bytes:
            raise Oversize(
                "a request is too large",
                seen=f"{len(request)} bytes",
                wanted=f"at most {self.parameters.request_bytes} bytes",
            )
        entry = Pending(digest, request, self._application.validate(request), self.now_ms, spread)
        entry.forward_ms = self.now_ms + self.parameters.forward_delay_ms
        self.pool.add(entry)
        self.counters["requests_admitted"] += 1
        if digest in self._wanted:
            self._supply(digest, request)
        return entry

    def _on_forward(self, message: Forward) -> None:
        for request in message.requests:
            digest = request_digest(request)
            if self.replies.get(digest) is not None:
                continue
            try:
                self._admit(digest, request, spread=False)
            except PotLabError:
                self.counters["forwards_refused"] += 1

    def _supply(self, digest: bytes, body: bytes) -> None:
        """Give a body to the proposals that only named it."""
        for sequence in self._wanted.pop(digest, ()):
            slot = self._slots.get(sequence)
            if slot is not None and digest in slot.missing:
                slot.missing.discard(digest)
                slot.bodies[digest] = body
        self.pool.propose((digest,))

    def _on_fetch_bodies(self, sender: int, message: FetchBodies) -> None:
        found: list[bytes] = []
        room = self.parameters.batch_bytes
        for digest in message.digests:
            body = self._body(digest)
            if body is not None and len(body) <= room:
                room -= len(body)
                found.append(body)
        if found:
            self._send(sender, Requests(tuple(found)))

    def _body(self, digest: bytes) -> bytes | None:
        entry = self.pool.get(digest)
        if entry is not None:
            return entry.body
        for slot in self._slots.values():
            if digest in slot.bodies:
                return slot.bodies[digest]
        return None

    def _on_requests(self, message: Requests) -> None:
        for body in message.bodies:
            digest = request_digest(body)
            if digest not in self._wanted:
                self.counters["dropped_unasked"] += 1
                continue
            try:
                self._application.validate(body)
            except PotLabError:
                self.counters["dropped_invalid_request"] += 1
                continue
            self._supply(digest, body)

    # Messages.

    def _receive(self, sender: int, message: Message) -> None:
        if not self.recovered or not 0 <= sender < self.n or sender == self.index:
            self.counters["dropped_bad_sender"] += 1
        elif isinstance(message, Prepare | Commit):
            self._on_vote(sender, message)
        elif isinstance(message, PrePrepare):
            self._on_pre_prepare(sender, message)
        elif isinstance(message, Status):
            self._on_status(sender, message)
        elif isinstance(message, Forward):
            self._on_forward(message)
        elif isinstance(message, FetchBodies):
            self._on_fetch_bodies(sender, message)
        elif isinstance(message, Requests):
            self._on_requests(message)
        elif isinstance(message, FetchDecisions):
            self._on_fetch_decisions(sender, message)
        else:
            self._on_decisions(sender, message)

    def _in_window(self, sender: int, message: PrePrepare | Vote) -> bool:
        """Whether the message is for now; what comes early is kept, what comes late is counted."""
        if message.view < self.view or message.sequence <= self.executed:
            self.counters["dropped_stale"] += 1
            return False
        if message.view > self.view:
            kept = self._stash.put(_LATER_VIEW, sender, message)
        elif message.sequence > self.executed + self.parameters.window:
            kept = self._stash.put(_BEYOND_WINDOW, sender, message)
        else:
            return True
        self.counters["stashed" if kept else "dropped_stash_full"] += 1
        return False

    def _vouch(self, sender: int, executed: int, state: bytes) -> bool:
        """Compare a replica's claim about its state with our own; a vote of one that diverged does not count."""
        if executed > self._claims.get(sender, 0):
            self._claims[sender] = executed
        own = self._states.get(executed)
        if own is None or own == state:
            return True
        self.counters["dropped_diverged"] += 1
        against = self._diverging.setdefault(executed, set())
        against.add(sender)
        if len(against) >= weak_quorum(self.n):
            self.halted = True
            error = StateDiverged(
                f"replicas {sorted(against)} report another state after batch {executed}", seen=own, wanted=state
            )
            self._effects.append(Halt(error))
        return False

    def _signed_by(self, replica: int, phase: int, message: PrePrepare | Vote, digest: bytes) -> bool:
        network_id, addresses = self.membership.network_id, self.membership.addresses
        signed = vote_digest(network_id, phase, message.view, message.sequence, digest, message.executed, message.state)
        try:
            return 0 <= replica < self.n and recover(signed, message.signature) == addresses[replica]
        except PotLabError:
            return False

    def _sign(self, phase: int, sequence: int, digest: bytes) -> bytes:
        network_id, view = self.membership.network_id, self.view
        return self._identity.sign(vote_digest(network_id, phase, view, sequence, digest, self.executed, self.state))

    # Pre-prepare.

    def _propose(self) -> bool:
        """As the primary, open the next batch if there is a free place and a reason; returns whether it did."""
        limits = self.parameters
        sequence = self._next_sequence
        open_batches = sequence - 1 - self.executed
        if not self.is_primary or open_batches >= limits.in_flight:
            return False
        if not self.pool.has_waiting and (self._due_ms is None or open_batches or self.now_ms < self._due_ms):
            return False
        entries = self.pool.take(limits.batch_requests, limits.batch_bytes)
        time_ms = max(self.now_ms, self._proposed_ms, self.time_ms)
        digests = tuple(entry.digest for entry in entries)
        digest = batch_digest(sequence, time_ms, digests)
        bodies = tuple(entry.body for entry in entries)
        signature = self._sign(PRE_PREPARE, sequence, digest)
        proposal = PrePrepare(self.view, sequence, time_ms, digests, bodies, self.executed, self.state, signature)
        slot = self._slots.setdefault(sequence, Slot())
        slot.proposal, slot.digest, slot.arrived_ms, slot.accepted = proposal, digest, self.now_ms, True
        slot.bodies = {entry.digest: entry.body for entry in entries}
        self._next_sequence = sequence + 1
        self._proposed_ms = time_ms
        self.counters["batches_proposed"] += 1
        self._persist(Accepted(proposal, None))
        if sum(map(len, bodies)) > limits.inline_bytes:
            lean = tuple(b"" if entry.spread else entry.body for entry in entries)
            proposal = msgspec.structs.replace(proposal, bodies=lean)
        self._effects.append(Broadcast(proposal))
        return True

    def _on_pre_prepare(self, sender: int, message: PrePrepare) -> None:
        """Take a proposal: from the primary, or shown by a peer, since the primary's signature is on it either way."""
        if not self._in_window(sender, message):
            return
        digest = batch_digest(message.sequence, message.time_ms, message.digests)
        slot = self._slots.setdefault(message.sequence, Slot())
        if slot.proposal is not None and slot.digest == digest:
            for name, body in zip(message.digests, message.bodies, strict=False):
                if name in slot.missing and request_digest(body) == name:
                    self._on_requests(Requests((body,)))
            return
        if not self._signed_by(self.primary, PRE_PREPARE, message, digest):
            self.counters["dropped_bad_signature"] += 1
        elif slot.proposal is not None:
            self._accuse(self.primary, slot.proposal, message)
        elif sender == self.primary and not self._vouch(sender, message.executed, message.state):
            pass
        elif self._well_formed(message):
            self._open(slot, message, digest)
        else:
            self.counters["dropped_bad_batch"] += 1

    def _well_formed(self, message: PrePrepare) -> bool:
        limits = self.parameters
        return (
            len(message.bodies) == len(message.digests) <= limits.batch_requests
            and len(set(message.digests)) == len(message.digests)
            and sum(map(len, message.bodies)) <= limits.batch_bytes
            and all(len(body) <= limits.request_bytes for body in message.bodies)
        )

    def _open(self, slot: Slot, message: PrePrepare, digest: bytes) -> None:
        bodies: dict[bytes, bytes] = {}
        missing: set[bytes] = set()
        for name, body in zip(message.digests, message.bodies, strict=True):
            entry = self.pool.get(name)
            if entry is not None:
                bodies[name] = entry.body
            elif not body:
                missing.add(name)
            else:
                try:
                    if request_digest(body) != name:
                        raise PotLabError("a proposal's body is not the one it names")
                    self._application.validate(body)
                except PotLabError:
                    self.counters["dropped_invalid_request"] += 1
                    return
                bodies[name] = body
        slot.proposal, slot.digest, slot.bodies, slot.missing = message, digest, bodies, missing
        slot.arrived_ms = self.now_ms
        for name in missing:
            self._wanted.setdefault(name, set()).add(message.sequence)
        self.pool.propose(message.digests)
        if missing:
            self.counters["bodies_fetched"] += len(missing)
            self._send(self.primary, FetchBodies(tuple(sorted(missing))))

    def _may_prepare(self, slot: Slot, previous_ms: int) -> bool:
        """Whether a backup takes the proposal now: every body here, and a time that neither runs back, ahead nor
        behind.

        A proposal that is early waits. One that is late (its way, or this process, was slow) is taken only if this
        replica saw each of its requests in time: then the old time gives none of them a place that it did not have. A
        replica that just came back cannot tell what was in time while it was away, so it believes the proposals that
        were open then.
        """
        proposal = slot.proposal
        assert proposal is not None
        tolerance_ms = self.parameters.time_tolerance_ms
        if slot.refused or slot.missing or proposal.time_ms > self.now_ms + tolerance_ms:
            return False
        latest_ms = proposal.time_ms + tolerance_ms
        was_away = proposal.time_ms <= self._returned_ms and proposal.sequence <= self._returned_until
        late = (
            slot.arrived_ms > latest_ms
            and not was_away
            and any(
                (entry := self.pool.get(digest)) is None or entry.seen_ms > latest_ms for digest in proposal.digests
            )
        )
        if late or proposal.time_ms < previous_ms:
            self.counters["refused_bad_time"] += 1
            slot.refused = True
            return False
        return True

    def _accept(self, slot: Slot) -> None:
        proposal = slot.full_proposal()
        slot.proposal, slot.accepted = proposal, True
        if sum(map(len, proposal.bodies)) > self.parameters.batch_bytes:
            slot.accepted, slot.refused = False, True
            self.counters["dropped_bad_batch"] += 1
            return
        signature = self._sign(PREPARE, proposal.sequence, slot.digest)
        vote = Prepare(self.view, proposal.sequence, slot.digest, self.executed, self.state, self.index, signature)
        self._count_vote(slot, vote)
        slot.verified.add(self.index)
        self._persist(Accepted(proposal, vote))
        self._effects.append(Broadcast(vote))

    # Prepare and commit.

    def _on_vote(self, sender: int, message: Vote) -> None:
        prepares_own = isinstance(message, Prepare) and sender == message.view % self.n
        if message.replica != sender or prepares_own:
            self.counters["dropped_bad_sender"] += 1
            return
        if not self._in_window(sender, message):
            if message.executed > self._claims.get(sender, 0):
                self._claims[sender] = message.executed
            return
        if not self._vouch(sender, message.executed, message.state):
            return
        slot = self._slots.setdefault(message.sequence, Slot())
        cast: Vote | None = slot.prepares.get(sender) if isinstance(message, Prepare) else slot.commits.get(sender)
        if cast is None:
            self._count_vote(slot, message)
        elif cast.digest != message.digest:
            self._accuse(sender, cast, message)
        if slot.proposal is not None and message.digest != slot.digest and sender not in slot.shown:
            slot.shown.add(sender)
            self._send(sender, msgspec.structs.replace(slot.proposal, bodies=(b"",) * len(slot.proposal.digests)))

    @staticmethod
    def _count_vote(slot: Slot, vote: Vote) -> None:
        if isinstance(vote, Prepare):
            slot.prepares[vote.replica] = vote
        else:
            slot.commits[vote.replica] = vote

    def _try_commit(self, slot: Slot) -> None:
        """Commit once the proposal and the backups' prepares make a quorum, each checked."""
        needed = self.q - 1
        matching = [vote for vote in slot.prepares.values() if vote.digest == slot.digest]
        if len(matching) < needed:
            return
        valid: list[Prepare] = []
        for vote in matching:
            if vote.replica not in slot.verified:
                if not self._signed_by(vote.replica, PREPARE, vote, slot.digest):
                    self.counters["dropped_bad_signature"] += 1
                    del slot.prepares[vote.replica]
                    continue
                slot.verified.add(vote.replica)
            valid.append(vote)
            if len(valid) == needed:
                break
        if len(valid) < needed or slot.proposal is None:
            return
        sequence = slot.proposal.sequence
        slot.prepared = True
        signature = self._sign(COMMIT, sequence, slot.digest)
        commit = Commit(self.view, sequence, slot.digest, self.executed, self.state, self.index, signature)
        slot.commits[self.index] = commit
        self._persist(Prepared(tuple(valid), commit))
        self._effects.append(Broadcast(commit))

    def _advance(self) -> None:
        """Do whatever has become possible: accept, commit and execute in order, then propose."""
        while not self.halted:
            self._vote()
            if not self._execute_next() and not self._propose():
                break

    def _vote(self) -> None:
        sequence, previous_ms = self.executed + 1, self.time_ms
        while (slot := self._slots.get(sequence)) is not None and slot.proposal is not None:
            if not slot.accepted:
                if not self._may_prepare(slot, previous_ms):
                    break
                self._accept(slot)
            if slot.accepted and not slot.prepared:
                self._try_commit(slot)
            sequence, previous_ms = sequence + 1, slot.proposal.time_ms

    # Execution.

    def _execute_next(self) -> bool:
        slot = self._slots.get(self.executed + 1)
        if slot is None or slot.proposal is None or slot.missing:
            return False
        commits = tuple(
            vote for vote in slot.commits.values() if vote.digest == slot.digest and vote.view == slot.proposal.view
        )
        if len(commits) < self.q:
            return False
        proposal = slot.full_proposal()
        if slot.accepted:
            self._persist(Decided(proposal.view, proposal.sequence, commits), urgent=False)
        else:
            batch = DecidedBatch(proposal.view, proposal.sequence, proposal.time_ms, proposal.bodies, commits)
            self._persist(Fetched(batch), urgent=False)
        self._execute(proposal.sequence, proposal.time_ms, proposal.digests, proposal.bodies)
        return True

    def _execute(self, sequence: int, time_ms: int, digests: Sequence[bytes], bodies: Sequence[bytes]) -> None:
        """Run the next decided batch: each request at most once, whoever proposed it again."""
        fresh: dict[bytes, bytes] = {}
        for digest, body in zip(digests, bodies, strict=True):
            if digest not in fresh and self.replies.get(digest) is None:
                fresh[digest] = body
        self.counters["repeats_skipped"] += len(digests) - len(fresh)
        execution = self._application.execute(Batch(sequence, time_ms, tuple(fresh.values())))
        if len(execution.replies) != len(fresh):
            raise AssertionError(f"application gave {len(execution.replies)} replies to {len(fresh)} requests")
        answered = tuple(zip(fresh, execution.replies, strict=True))
        for digest, reply in answered:
            self.replies.put(CachedReply(digest, sequence, time_ms, reply))
            if self.recovered:
                self._effects.append(Reply(digest, sequence, time_ms, reply))
        for digest in digests:
            self.pool.remove(digest)
        self.executed, self.time_ms = sequence, time_ms
        self.state = tagged_hash(
            "pot-lab/consensus/state/1",
            self.state,
            batch_digest(sequence, time_ms, digests),
            _root([digest + reply for digest, reply in answered]),
            _root(execution.events),
            execution.digest,
        )
        self._states[sequence] = self.state
        slot = self._slots.get(sequence)
        if slot is not None and self.index in slot.commits:
            self._commits[sequence] = slot.commits[self.index]
        self._commits.pop(sequence - self.parameters.window, None)
        while len(self._states) > 2 * self.parameters.window:
            self._states.popitem(last=False)
        self._forget_below(sequence)
        due_ms = self._application.due_ms()
        self._due_ms = None if due_ms is None else max(due_ms, time_ms + 1)
        self.counters["batches_executed"] += 1
        self.counters["requests_executed"] += len(fresh)
        self._effects.append(Executed(sequence, time_ms, len(digests), execution, self.state, not self.recovered))

    def _forget_below(self, sequence: int) -> None:
        slot = self._slots.pop(sequence, None)
        if slot is not None:
            for digest in slot.missing:
                waiting = self._wanted.get(digest)
                if waiting is not None:
                    waiting.discard(sequence)
                    if not waiting:
                        del self._wanted[digest]
        self._next_sequence = max(self._next_sequence, sequence + 1)
        for old in [key for key in self._diverging if key <= sequence - 2 * self.parameters.window]:
            del self._diverging[old]
        self._vouchers = {key: peers for key, peers in self._vouchers.items() if key[0] > sequence}
        self._accused = {key for key in self._accused if key[2] > sequence}
        self._behind_since_ms = None
        self._resend_after_ms = self.parameters.resend_ms
        self._resend_at_ms = None
        if self.recovered:
            highest = sequence + self.parameters.window
            for sender, message in self._stash.take(_BEYOND_WINDOW, lambda m: m.sequence <= highest):
                self._receive(sender, message)

    # Evidence.

    def _accuse(self, accused: int, first: PrePrepare | Vote, second: PrePrepare | Vote) -> None:
        """Keep two contradicting votes as evidence, if their signatures bear it out."""
        evidence = Equivocation(signed_vote(first), signed_vote(second))
        key = (accused, evidence.first.phase, evidence.first.sequence)
        if key in self._accused:
            return
        try:
            liar = evidence.accused(self.membership.network_id)
        except PotLabError:
            liar = b""
        if liar != self.membership.addresses[accused]:
            self.counters["dropped_bad_signature"] += 1
            return
        self._accused.add(key)
        self.counters["equivocations"] += 1
        self._persist(Found(evidence), urgent=False)
        self._effects.append(Accuse(accused, evidence))

    # Trailing behind.

    def _on_status(self, sender: int, message: Status) -> None:
        self._vouch(sender, message.executed, message.state)
        if self.halted:
            return
        if message.ask:
            self._send(sender, Status(self.view, self.executed, self.state, False))
        for sequence in range(message.executed + 1, min(message.executed + _RESEND_SLOTS, self.executed) + 1):
            commit = self._commits.get(sequence)
            if commit is not None:
                self._send(sender, commit)

    def _decided_elsewhere(self) -> int:
        """The highest sequence that others executed: as f+1 of them say, or after a longer wait as any one says.

        One may lie, but only to the price of a question: an answer counts by its proof.
        """
        claims = sorted(self._claims.values(), reverse=True)
        if len(claims) > self.f and claims[self.f] > self.executed:
            return claims[self.f]
        quiet_ms = self.now_ms - (self.now_ms if self._behind_since_ms is None else self._behind_since_ms)
        return claims[0] if quiet_ms >= self.parameters.resend_ms else 0

    def _catch_up(self) -> int | None:
        """Ask for decisions if the others have been ahead for a while; returns when to look again."""
        if not any(claim > self.executed for claim in self._claims.values()):
            return None
        if self._behind_since_ms is None:
            self._behind_since_ms = self.now_ms
        target = self._decided_elsewhere()
        if target <= self.executed:
            return self._behind_since_ms + self.parameters.resend_ms
        if self._asked is None:
            ask_ms = self._behind_since_ms + self.parameters.catch_up_delay_ms
            if self.now_ms < ask_ms and target - self.executed <= self.parameters.window // 2:
                return ask_ms
        elif self.now_ms < self._ask_again_ms:
            return self._ask_again_ms
        self._ask(target)
        return self._ask_again_ms

    def _ask(self, target: int) -> None:
        ahead = [peer for peer, claim in self._claims.items() if claim > self.executed]
        self._asked = min(ahead, key=lambda peer: (peer - self._next_peer - 1) % self.n)
        self._next_peer = self._asked
        self._ask_again_ms = self.now_ms + self.parameters.fetch_timeout_ms
        self.counters["decisions_asked"] += 1
        last = min(target, self.executed + MAX_DECISIONS)
        self._send(self._asked, FetchDecisions(self.executed + 1, last))

    def _on_fetch_decisions(self, sender: int, message: FetchDecisions) -> None:
        last = min(message.last, self.executed, message.first + MAX_DECISIONS - 1)
        if 1 <= message.first <= last:
            self.counters["decisions_served"] += 1
            self._effects.append(ServeDecisions(sender, message.first, last))
        else:
            self._send(sender, Decisions(()))

    def _on_decisions(self, sender: int, message: Decisions) -> None:
        if sender != self._asked:
            self.counters["dropped_unasked"] += 1
            return
        before = self.executed
        for batch in message.batches:
            if batch.sequence <= self.executed:
                continue
            digests = tuple(request_digest(body) for body in batch.requests)
            if batch.sequence != self.executed + 1 or not self._decided(sender, batch, digests):
                self.counters["dropped_unproved"] += 1
                break
            self._persist(Fetched(batch), urgent=False)
            self._execute(batch.sequence, batch.time_ms, digests, batch.requests)
            self.counters["batches_fetched"] += 1
        if self.executed == before:
            self._ask_again_ms = self.now_ms + self.parameters.catch_up_delay_ms
            return
        self._asked = None
        target = self._decided_elsewhere()
        if target > self.executed:
            self._next_peer = (sender - 1) % self.n
            self._ask(target)

    def _decided(self, sender: int, batch: DecidedBatch, digests: Sequence[bytes]) -> bool:
        """Whether a batch is shown to be committed: by q signed commits, or by f+1 replicas that each say so."""
        digest = batch_digest(batch.sequence, batch.time_ms, digests)
        if batch.time_ms < self.time_ms:
            return False
        signers: set[int] = set()
        for commit in batch.commits:
            if (
                commit.replica not in signers
                and (commit.view, commit.sequence, commit.digest) == (batch.view, batch.sequence, digest)
                and self._signed_by(commit.replica, COMMIT, commit, digest)
            ):
                signers.add(commit.replica)
                if len(signers) == self.q:
                    return True
        vouchers = self._vouchers.setdefault((batch.sequence, digest), set())
        vouchers.add(sender)
        return len(vouchers) >= weak_quorum(self.n)

    # Time.

    def _keep_time(self) -> None:
        """Repeat, remind and report when it is time to; say when to wake up next."""
        now_ms = self.now_ms
        wake = [self._catch_up(), self._resend(), self._remind()]
        if now_ms >= self._status_at_ms:
            self._effects.append(Broadcast(Status(self.view, self.executed, self.state, False)))
            self._status_at_ms = now_ms + self.parameters.status_ms
        wake.append(self._status_at_ms)
        if self.is_primary and self._next_sequence == self.executed + 1:
            wake.append(self._due_ms)
        tolerance_ms = self.parameters.time_tolerance_ms
        for slot in self._slots.values():
            if slot.proposal is not None and slot.proposal.time_ms - tolerance_ms > now_ms:
                wake.append(slot.proposal.time_ms - tolerance_ms)
        timer_ms = min((at_ms for at_ms in wake if at_ms is not None), default=None)
        if timer_ms != self._timer_ms:
            self._timer_ms = timer_ms
            self._effects.append(SetTimer(timer_ms))

    def _resend(self) -> int | None:
        """Repeat our own part of the oldest open batches when nothing has been executed for a while."""
        if not self._slots:
            self._resend_at_ms = None
            return None
        if self._resend_at_ms is None:
            self._resend_at_ms = self.now_ms + self._resend_after_ms
        elif self.now_ms >= self._resend_at_ms:
            self._repeat_votes()
            self._resend_after_ms = min(2 * self._resend_after_ms, _RESEND_BACK_OFF * self.parameters.resend_ms)
            self._resend_at_ms = self.now_ms + self._resend_after_ms
        return self._resend_at_ms

    def _repeat_votes(self) -> None:
        for sequence in range(self.executed + 1, self.executed + 1 + _RESEND_SLOTS):
            slot = self._slots.get(sequence)
            if slot is None or slot.proposal is None:
                continue
            if slot.missing:
                self._next_peer = (self._next_peer + 1) % self.n
                to = self._next_peer if self._next_peer != self.index else self.primary
                self._send(to, FetchBodies(tuple(sorted(slot.missing))))
            if self.is_primary:
                self._effects.append(Broadcast(slot.full_proposal()))
            for vote in (slot.prepares.get(self.index), slot.commits.get(self.index)):
                if vote is not None:
                    self._effects.append(Broadcast(vote))
            self.counters["votes_repeated"] += 1

    def _remind(self) -> int | None:
        """As a backup, hand the primary what still waits; as anyone, forget what nobody orders."""
        if not len(self.pool):
            return None
        if self.now_ms < self._scan_at_ms:
            return self._scan_at_ms
        self._scan_at_ms = self.now_ms + self.parameters.forward_delay_ms
        self.counters["requests_expired"] += self.pool.expire(self.now_ms - self.parameters.pending_ttl_ms)
        if self.is_primary:
            return self._scan_at_ms
        room = _FORWARD_BYTES
        bodies: list[bytes] = []
        for entry in self.pool:
            if not entry.proposed and entry.forward_ms <= self.now_ms and (len(entry.body) <= room or not bodies):
                room -= len(entry.body)
                bodies.append(entry.body)
                entry.forward_ms = self.now_ms + _REMIND_MS
        if bodies:
            self._send(self.primary, Forward(tuple(bodies)))
        return self._scan_at_ms

    # Coming back.

    def _recover(self, input_: Recovered) -> None:
        if self.recovered:
            raise BadLog("a replica that runs was given a log to recover from")
        for record in input_.records:
            self._replay(record)
        if input_.final:
            self.recovered = True
            if self.executed or self._slots:
                self._returned_ms, self._returned_until = self.now_ms, self.executed + self.parameters.window
            due_ms = self._application.due_ms()
            self._due_ms = None if due_ms is None else max(due_ms, self.time_ms + 1)
            self._effects.append(Broadcast(Status(self.view, self.executed, self.state, True)))
            self._repeat_votes()

    def _replay(self, record: LogRecord) -> None:
        if isinstance(record, Accepted):
            proposal = record.proposal
            if proposal.sequence <= self.executed:
                return
            slot = self._slots.setdefault(proposal.sequence, Slot())
            slot.proposal, slot.accepted = proposal, True
            slot.digest = batch_digest(proposal.sequence, proposal.time_ms, proposal.digests)
            slot.bodies = dict(zip(proposal.digests, proposal.bodies, strict=True))
            if record.prepare is not None:
                self._count_vote(slot, record.prepare)
                slot.verified.add(self.index)
            self._next_sequence = max(self._next_sequence, proposal.sequence + 1)
            self._proposed_ms = max(self._proposed_ms, proposal.time_ms)
        elif isinstance(record, Prepared):
            prepared = self._slots.get(record.commit.sequence)
            if prepared is None or prepared.digest != record.commit.digest:
                raise BadLog("a log has a commit without its proposal", seen=record.commit.sequence)
            prepared.prepares.update({vote.replica: vote for vote in record.prepares})
            prepared.commits[self.index] = record.commit
            prepared.verified.update(vote.replica for vote in record.prepares)
            prepared.prepared = True
        elif isinstance(record, Decided):
            decided = self._slots.get(record.sequence)
            if decided is None or decided.proposal is None or record.sequence != self.executed + 1:
                raise BadLog("a log has a decision out of order", seen=record.sequence, wanted=self.executed + 1)
            proposal = decided.proposal
            self._execute(proposal.sequence, proposal.time_ms, proposal.digests, proposal.bodies)
        elif isinstance(record, Fetched):
            batch = record.batch
            if batch.sequence != self.executed + 1:
                raise BadLog("a log has a fetched batch out of order", seen=batch.sequence, wanted=self.executed + 1)
            digests = tuple(request_digest(body) for body in batch.requests)
            self._execute(batch.sequence, batch.time_ms, digests, batch.requests)
        else:
            evidence = record.evidence.first
            accused = self.membership.addresses.index(record.evidence.accused(self.membership.network_id))
            self._accused.add((accused, evidence.phase, evidence.sequence))

    # Effects.

    def _persist(self, record: LogRecord, *, urgent: bool = True) -> None:
        self._effects.append(Persist(record, urgent))

    def _send(self, to: int, message: Message) -> None:
        if to != self.index:
            self._effects.append(Send(to, message))


def _root(leaves: Sequence[bytes]) -> bytes:
    return merkle_root(leaves) if leaves else bytes(32)
