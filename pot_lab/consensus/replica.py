"""One replica of PBFT as a function: inputs in, effects out (Castro and Liskov, OSDI 1999, section 4; the paper's
Algorithm 1).

`Replica.step(input)` owns the normal case: the primary proposes a batch at a time, backups prepare it, a quorum of
prepares is committed, a quorum of commits is executed, in sequence, several batches in flight. It also answers retries,
forwards requests to the primary, checks proposed times, repeats its votes when nothing moves, and leaves a primary that
does not do its work (`view_change`). It signs checkpoints (`checkpoint`), comes back from its snapshot and log, and
fetches what it missed with proof from its peers (`catch_up`). It may not touch a clock, socket, disk, thread or
randomness: time arrives as `Tick`, and everything it wants done leaves as an effect (`steps.py`).

Rules that keep it safe:
- a vote leaves only after the `Persist` before it, and after a restart the log decides which votes exist;
- prepares are verified up to the quorum, since a prepared certificate is shown to others; commits count by the channel
  that brought them, and their signatures are kept for whoever asks for a proof;
- a view that was left is on disk before anyone hears of it, and a replica never votes in it again;
- a sequence is executed on q commits of one view over one digest, or on proof of them, and on nothing less.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

import msgspec

from pot_lab.consensus.application import Application, Batch
from pot_lab.consensus.batching import Pending, RequestPool
from pot_lab.consensus.catch_up import SnapshotFetch, is_sound
from pot_lab.consensus.checkpoint import (
    Checkpoints,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    manifest_of,
    snapshot_digest,
    takes_snapshot,
)
from pot_lab.consensus.evidence import Equivocation
from pot_lab.consensus.membership import Membership, Verifier
from pot_lab.consensus.messages import (
    CHECKPOINT,
    COMMIT,
    MAX_DECISIONS,
    NEW_VIEW,
    NO_HASH,
    NO_SIGNATURE,
    PRE_PREPARE,
    PREPARE,
    VIEW_CHANGE,
    Attestation,
    BatchContent,
    BatchName,
    Checkpoint,
    CheckpointProof,
    Chunk,
    Commit,
    DecidedBatch,
    Decisions,
    Endorsement,
    FetchBatches,
    FetchBodies,
    FetchChunk,
    FetchDecisions,
    FetchViewChanges,
    Forward,
    Message,
    NewView,
    Offer,
    Prepare,
    PreparedProof,
    PrePrepare,
    Requests,
    SignedVote,
    Stable,
    Status,
    ViewChange,
    ViewVote,
    Vote,
    batch_digest,
    content_digest,
    request_digest,
    signed_vote,
    vote_digest,
)
from pot_lab.consensus.parameters import Parameters
from pot_lab.consensus.proof import Header, NoProof, ReplyProof, reply_leaf
from pot_lab.consensus.quorum import faulty, quorum, weak_quorum
from pot_lab.consensus.records import (
    Accepted,
    Changing,
    Decided,
    Entered,
    Fetched,
    Found,
    LogRecord,
    Prepared,
    Stabilised,
)
from pot_lab.consensus.replies import CachedReply, ReplyCache
from pot_lab.consensus.stash import Stash
from pot_lab.consensus.steps import (
    Accuse,
    Broadcast,
    Compact,
    Effect,
    Executed,
    Halt,
    Input,
    KeepSnapshot,
    Persist,
    Received,
    Recovered,
    Refuse,
    Reply,
    Restored,
    Send,
    ServeChunk,
    ServeDecisions,
    SetTimer,
    Submitted,
    Tick,
)
from pot_lab.consensus.view_change import (
    BadViewChange,
    Patience,
    Plan,
    ViewChanges,
    check_new_view,
    check_view_change,
    null_digest,
    plan,
)
from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.merkle import merkle_proof, merkle_root
from pot_lab.errors import Oversize, PotLabError

_RESEND_SLOTS = 8
_RESEND_BACK_OFF = 8
_FORWARD_BYTES = 256 * 1024
_REMIND_MS = 1_000
_STOOD_STILL_MS = 250
_EVIDENCE_EACH = 64
_CONTENTS_EACH = 8
_OVERTAKEN_SPARE = 16
_HEADERS_KEPT = 1_024
_REPLICAS_A_TIMEOUT = 16
"""The primary of a large set has as many votes more to wait for."""
_BEYOND_WINDOW = "beyond the window"
_LATER_VIEW = "of a later view"


class BadLog(PotLabError):
    """A replica's own log does not tell one history; it was edited, or belongs to another replica."""


class StateDiverged(PotLabError):
    """f+1 replicas report another state than this one for a batch that all executed: this replica's state is wrong."""


class Taken(msgspec.Struct, frozen=True):
    """A snapshot that this replica took or fetched, without its bytes."""

    sequence: int
    size_bytes: int
    manifest: tuple[bytes, ...]

    @property
    def digest(self) -> bytes:
        """What its checkpoint signs."""
        return snapshot_digest(self.size_bytes, self.manifest)


class Slot:
    """One sequence number in one view, from its first message until a checkpoint covers it.

    `vote` is the primary's signed proposal; `proposal` is the batch it names, once that is here and until it is
    executed. `renewed` marks what a new view proposes again.
    """

    __slots__ = (
        "accepted",
        "arrived_ms",
        "bodies",
        "commits",
        "digest",
        "executed",
        "missing",
        "prepared",
        "prepares",
        "proposal",
        "refused",
        "renewed",
        "shown",
        "verified",
        "vote",
    )

    def __init__(self) -> None:
        self.proposal: PrePrepare | None = None
        self.vote: SignedVote | None = None
        self.renewed = False
        self.executed = False
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
        view: the current view; its primary is replica `view mod n`. While `changing`, the view that it waits for.
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
        self._verifier = Verifier(membership)

        self.view = 0
        self.changing = False
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
        self._highest_slot = 0
        self._wanted: dict[bytes, set[int]] = {}
        self._states: OrderedDict[int, bytes] = OrderedDict({0: self.state})
        self._commits: dict[int, Commit] = {}
        self._claims: dict[int, int] = {}
        self._diverging: dict[int, set[int]] = {}
        self._stash = Stash(limits.in_flight * 4)
        self._accused: dict[tuple[int, int, int, int], None] = {}

        self._patience = Patience(limits.request_timeout_ms * max(1, self.n // _REPLICAS_A_TIMEOUT))
        self._changes = ViewChanges(self.n)
        self._own_change: ViewChange | None = None
        self._own_change_at_ms = 0
        self._entered: Entered | None = None
        self._proofs: dict[int, PreparedProof] = {}
        self._contents: dict[int, OrderedDict[bytes, PrePrepare]] = {}
        self._digests: dict[int, bytes] = {}
        self._revoting: set[int] = set()

        self.checkpoints = Checkpoints(self._verifier, limits.checkpoint_batches, limits.window)
        self._taken: Taken | None = None
        self._offered: tuple[CheckpointProof, Taken] | None = None
        self._ahead: CheckpointProof | None = None
        self._compact_later = False
        self._suspicion: str | None = None
        self._watching_since_ms = 0
        self._fetch: SnapshotFetch | None = None
        self._headers: OrderedDict[int, Header] = OrderedDict()
        self._snapshot_at = 0
        self._batch_bytes = 0

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
        return sum(slot.proposal is not None and not slot.executed for slot in self._slots.values())

    @property
    def low(self) -> int:
        """The low watermark: the last stable checkpoint that this replica has reached."""
        return self.checkpoints.low

    def prove(self, request: bytes) -> ReplyProof:
        """This replica's part of the proof of a recent reply (proof.py), signed now; `request` is the request's digest.

        Raises:
            NoProof: the request did not run, or too long ago.
        """
        cached = self.replies.get(request)
        header = None if cached is None else self._headers.get(cached.sequence)
        if cached is None or header is None:
            raise NoProof("this replica has no reply to this request to prove", seen=request)
        ran = self.replies.of(cached.sequence)
        leaves = [reply_leaf(each.digest, each.reply) for each in ran]
        if merkle_root(leaves) != header.replies:
            raise NoProof("the replies beside this one are forgotten already", seen=request)
        index = next(index for index, each in enumerate(ran) if each.digest == request)
        signature = self._identity.sign(header.signed(self.membership.network_id))
        attestation = Attestation(self.index, signature)
        return ReplyProof(header, request, cached.reply, merkle_proof(leaves, index), (attestation,))

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
            self._tick(input_.now_ms)
        elif isinstance(input_, Restored):
            self._restore_own(input_)
        else:
            self._recover(input_)
        if self.recovered and not self.halted:
            if self._suspicion is not None:
                self.counters["suspected_" + self._suspicion] += 1
                self._change_view(self.view + 1)
            self._advance()
            view = self.view, self.changing
            self._keep_time()
            if view != (self.view, self.changing):
                self._advance()
        effects, self._effects = self._effects, []
        return effects

    def _tick(self, now_ms: int) -> None:
        """Take the time. A replica that should have been woken long ago stood still, and blames nobody for it."""
        if self._timer_ms is not None and 0 <= self._timer_ms < now_ms - _STOOD_STILL_MS:
            self._patience.extend(now_ms - self._timer_ms, now_ms)
            self._watching_since_ms = now_ms
            self.counters["stood_still"] += 1
        self.now_ms = max(self.now_ms, now_ms)

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
        elif isinstance(message, Decisions):
            self._on_decisions(sender, message)
        elif isinstance(message, Checkpoint):
            self._on_checkpoint(sender, message)
        elif isinstance(message, Stable):
            self._on_stable(message.proof)
        elif isinstance(message, ViewChange):
            self._on_view_change(sender, message)
        elif isinstance(message, NewView):
            self._on_new_view(sender, message)
        elif isinstance(message, FetchViewChanges):
            self._on_fetch_view_changes(sender, message)
        elif isinstance(message, FetchBatches):
            self._on_fetch_batches(sender, message)
        elif isinstance(message, BatchContent):
            self._fill(message.sequence, message.time_ms, message.requests)
        elif isinstance(message, Offer):
            self._on_offer(sender, message)
        elif isinstance(message, FetchChunk):
            self._on_fetch_chunk(sender, message)
        else:
            self._on_chunk(sender, message)

    def _slot(self, sequence: int) -> Slot:
        """The slot of a sequence, made when it is not there."""
        slot = self._slots.get(sequence)
        if slot is None:
            slot = self._slots[sequence] = Slot()
            self._highest_slot = max(self._highest_slot, sequence)
        return slot

    def _in_window(self, sender: int, message: PrePrepare | Vote) -> bool:
        """Whether the message is for now; what comes early is kept, what comes late is counted."""
        sequence = message.sequence
        if (
            message.view < self.view
            or sequence <= self.low
            or (sequence <= self.executed and sequence not in self._slots)
        ):
            self.counters["dropped_stale"] += 1
            return False
        if message.view > self.view or self.changing:
            kept = self._stash.put(_LATER_VIEW, sender, message)
        elif sequence > self.low + self.parameters.window:
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

    # Pre-prepare.

    def _propose(self) -> bool:
        """As the primary, open the next batch if there is a free place and a reason; returns whether it did."""
        limits = self.parameters
        sequence = self._next_sequence
        open_batches = sequence - 1 - self.executed
        if not self.is_primary or self.changing or open_batches >= limits.in_flight:
            return False
        if sequence > self.low + limits.window or sequence <= self.executed:
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
        slot = self._slot(sequence)
        slot.proposal, slot.digest, slot.arrived_ms, slot.accepted = proposal, digest, self.now_ms, True
        slot.vote = signed_vote(proposal)
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
        slot = self._slot(message.sequence)
        if slot.executed and (slot.vote is None or slot.digest == digest):
            self.counters["dropped_stale"] += 1
            return
        if slot.vote is not None and slot.proposal is None and slot.digest == digest:
            self._fill(message.sequence, message.time_ms, message.bodies)
            return
        if slot.proposal is not None and slot.digest == digest:
            for name, body in zip(message.digests, message.bodies, strict=False):
                if name in slot.missing and request_digest(body) == name:
                    self._on_requests(Requests((body,)))
            return
        if not self._signed_by(self.primary, PRE_PREPARE, message, digest):
            self.counters["dropped_bad_signature"] += 1
        elif slot.vote is not None:
            self._accuse(self.primary, slot.vote, signed_vote(message))
        elif sender == self.primary and not self._vouch(sender, message.executed, message.state):
            pass
        elif self._well_formed(message):
            self._open(slot, message, digest)
        else:
            self.counters["dropped_bad_batch"] += 1
            if sender == self.primary:
                self._suspect("bad_batch")

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
        slot.vote, slot.arrived_ms = signed_vote(message), self.now_ms
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
        if slot.renewed:
            return not slot.missing
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
        if self.is_primary:  # proposed again by its new view, which is its vote
            self._persist(Accepted(proposal, None))
            return
        vote = self._prepare(slot, proposal.sequence)
        self._persist(Accepted(proposal, vote))
        self._effects.append(Broadcast(vote))
        if proposal.sequence == self.executed + 1:
            self._patience.progressed()

    def _prepare(self, slot: Slot, sequence: int) -> Prepare:
        signature = self._sign(PREPARE, sequence, slot.digest)
        vote = Prepare(self.view, sequence, slot.digest, self.executed, self.state, self.index, signature)
        self._count_vote(slot, vote)
        slot.verified.add(self.index)
        return vote

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
        slot = self._slot(message.sequence)
        cast: Vote | None = slot.prepares.get(sender) if isinstance(message, Prepare) else slot.commits.get(sender)
        if cast is None:
            self._count_vote(slot, message)
        elif cast.digest != message.digest:
            self._accuse(sender, signed_vote(cast), signed_vote(message))
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
        if len(valid) < needed or slot.vote is None:
            return
        sequence = slot.vote.sequence
        slot.prepared = True
        self._proofs[sequence] = _proof(slot.vote, valid)
        self._revoting.discard(sequence)
        if sequence == self.executed + 1:
            self._patience.progressed()
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
        """Prepare what may be prepared and commit what is, in sequence.

        Nothing is committed above what is not prepared. It could not run earlier anyway, and so no view change finds a
        gap below a prepared batch, where an account's next nonce would overtake the one before.
        """
        if self.changing:
            return
        gapless = True
        for sequence in sorted(self._revoting):
            self._try_commit(self._slots[sequence])
        sequence, previous_ms = self.executed + 1, self.time_ms
        while (slot := self._slots.get(sequence)) is not None and slot.proposal is not None:
            if not slot.accepted:
                if not self._may_prepare(slot, previous_ms):
                    break
                self._accept(slot)
            if slot.accepted and not slot.prepared and gapless:
                self._try_commit(slot)
            gapless = gapless and slot.prepared
            sequence, previous_ms = sequence + 1, max(previous_ms, slot.proposal.time_ms)

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
        """Run the next decided batch: each request at most once, whoever proposed it again.

        Time never runs back: a batch that an older view prepared, or that fills a gap, runs at the time of the batch
        before it where its own is earlier.
        """
        fresh: dict[bytes, bytes] = {}
        for digest, body in zip(digests, bodies, strict=True):
            if digest not in fresh and self.replies.get(digest) is None:
                fresh[digest] = body
        self.counters["repeats_skipped"] += len(digests) - len(fresh)
        digest = batch_digest(sequence, time_ms, digests)
        time_ms = max(time_ms, self.time_ms)
        execution = self._application.execute(Batch(sequence, time_ms, tuple(fresh.values())))
        if len(execution.replies) != len(fresh):
            raise AssertionError(f"application gave {len(execution.replies)} replies to {len(fresh)} requests")
        answered = tuple(zip(fresh, execution.replies, strict=True))
        for name, reply in answered:
            self.replies.put(CachedReply(name, sequence, time_ms, reply))
            if self.recovered:
                self._effects.append(Reply(name, sequence, time_ms, reply))
        for name in digests:
            self.pool.remove(name)
        self.executed, self.time_ms = sequence, time_ms
        header = Header(
            sequence,
            self.state,
            digest,
            _root([reply_leaf(name, reply) for name, reply in answered]),
            _root(execution.events),
            execution.digest,
        )
        self.state = header.state
        self._headers[sequence] = header
        if len(self._headers) > _HEADERS_KEPT:
            self._headers.popitem(last=False)
        self._states[sequence] = self.state
        slot = self._slots.get(sequence)
        if slot is not None and self.index in slot.commits:
            self._commits[sequence] = slot.commits[self.index]
        self._commits.pop(sequence - self.parameters.window, None)
        while len(self._states) > 2 * self.parameters.window:
            self._states.popitem(last=False)
        self._digests[sequence] = digest
        self._batch_bytes += sum(map(len, bodies))
        self._after_execution(sequence)
        due_ms = self._application.due_ms()
        self._due_ms = None if due_ms is None else max(due_ms, time_ms + 1)
        self.counters["batches_executed"] += 1
        self.counters["requests_executed"] += len(fresh)
        self._effects.append(Executed(sequence, time_ms, len(digests), execution, self.state, not self.recovered))
        if sequence % self.parameters.checkpoint_batches == 0:
            self._checkpoint(sequence)

    def _after_execution(self, sequence: int) -> None:
        slot = self._slots.get(sequence)
        if slot is not None:
            for digest in slot.missing:
                waiting = self._wanted.get(digest)
                if waiting is not None:
                    waiting.discard(sequence)
                    if not waiting:
                        del self._wanted[digest]
            slot.executed, slot.proposal = True, None
            slot.bodies, slot.missing = {}, set()
        self._contents.pop(sequence, None)
        self._patience.executed()
        self._next_sequence = max(self._next_sequence, sequence + 1)
        for old in [key for key in self._diverging if key <= sequence - 2 * self.parameters.window]:
            del self._diverging[old]
        self._vouchers = {key: peers for key, peers in self._vouchers.items() if key[0] > sequence}
        self._behind_since_ms = None
        self._resend_after_ms = self.parameters.resend_ms
        self._resend_at_ms = None

    # Leaving a view and beginning the next (view_change.py).

    def _suspect(self, reason: str) -> None:
        """The primary broke a rule for all to see: leave its view at the end of this step."""
        if self.recovered and not self.changing and self._suspicion is None:
            self._suspicion = reason

    def _leave_view(self) -> None:
        """Keep what was proposed by digest, forget who voted for it."""
        for slot in self._slots.values():
            if slot.proposal is not None and not slot.missing and not slot.executed:
                self._keep_content(slot.full_proposal(), slot.digest)
        self._slots.clear()
        self._highest_slot = 0
        self._wanted.clear()
        self._revoting.clear()
        self._suspicion = None
        self.pool.release()

    def _content(self, sequence: int, digest: bytes) -> PrePrepare | None:
        contents = self._contents.get(sequence)
        return None if contents is None else contents.get(digest)

    def _keep_content(self, proposal: PrePrepare, digest: bytes) -> None:
        contents = self._contents.setdefault(proposal.sequence, OrderedDict())
        contents[digest] = proposal
        if len(contents) > _CONTENTS_EACH:
            own = self._proofs.get(proposal.sequence)
            oldest = next(name for name in contents if own is None or name != own.proposal.digest)
            del contents[oldest]

    def _change_view(self, view: int) -> None:
        """Leave for `view`: say so, with everything that was prepared above the stable checkpoint."""
        self._leave_view()
        self.view, self.changing = view, True
        self._patience.left_view()
        self.counters["view_changes"] += 1
        prepared = tuple(proof for sequence, proof in sorted(self._proofs.items()) if sequence > self.low)
        change = ViewChange(view, self.checkpoints.stable, prepared, self.index, NO_SIGNATURE)
        signature = self._sign_content(VIEW_CHANGE, change)
        change = msgspec.structs.replace(change, signature=signature)
        self._resend_after_ms = self.parameters.resend_ms
        self._own_change, self._own_change_at_ms = change, self.now_ms + self._resend_after_ms
        self._changes.add(change)
        self._persist(Changing(change))
        self._effects.append(Broadcast(change))
        self._begin_view()
        self._resolve()

    def _sign_content(self, phase: int, message: ViewChange | NewView) -> bytes:
        digest = content_digest(message)
        return self._identity.sign(vote_digest(self.membership.network_id, phase, message.view, 0, digest, 0, NO_HASH))

    def _on_view_change(self, sender: int, message: ViewChange) -> None:
        conflicting = self._changes.conflicting(message)
        if conflicting is not None:
            self._accuse(message.replica, signed_vote(conflicting), signed_vote(message))
        if message.view < self.view or (message.view == self.view and not self.changing):
            if self._entered is not None and not self.changing and sender == message.replica:
                self._send(sender, self._entered.new_view)
            self.counters["dropped_stale"] += 1
            return
        if message.replica == self.index or not self._changes.wants(message):
            return
        try:
            check_view_change(message, self._verifier, self.parameters.window)
        except BadViewChange:
            self.counters["dropped_bad_view_change"] += 1
            return
        self._changes.add(message)
        if message.stable is not None:
            self._know_stable(message.stable)
        view = self._changes.joinable(self.view, self.f)
        if view is not None:
            self.counters["view_changes_joined"] += 1
            self._change_view(view)
        else:
            self._begin_view()
            self._resolve()

    def _begin_view(self) -> None:
        """As the primary of the view that this replica waits for, begin it once q replicas do."""
        if not self.changing or not self.is_primary or self._own_change is None:
            return
        others = [change for change in self._changes.of(self.view) if change.replica != self.index]
        if len(others) < self.q - 1:
            return
        changes = (self._own_change, *others[: self.q - 1])
        planned = plan(changes)
        proposals = tuple(
            SignedVote(
                PRE_PREPARE,
                self.view,
                sequence,
                digest,
                self.executed,
                self.state,
                self._sign(PRE_PREPARE, sequence, digest),
            )
            for sequence, digest in planned.batches.items()
        )
        votes = tuple(ViewVote(change.replica, content_digest(change)) for change in changes)
        new_view = NewView(self.view, votes, proposals, NO_SIGNATURE)
        new_view = msgspec.structs.replace(new_view, signature=self._sign_content(NEW_VIEW, new_view))
        self._enter(Entered(new_view, changes), planned)
        self._effects.append(Broadcast(new_view))

    def _on_new_view(self, sender: int, message: NewView) -> None:
        primary = message.view % self.n
        known = [each for each, _ in self._changes.expected if each.view == message.view]
        if self._entered is not None and self._entered.new_view.view == message.view:
            known.append(self._entered.new_view)
        if message in known and (message.view < self.view or not self.changing):
            return
        if primary == self.index or not self._verifier.vote(primary, signed_vote(message)):
            self.counters["dropped_bad_signature"] += 1
            return
        for other in known:
            if other != message:
                self._accuse(primary, signed_vote(other), signed_vote(message))
        if message.view < self.view or (message.view == self.view and not self.changing):
            self.counters["dropped_stale"] += 1
            return
        self._changes.expect(message, sender)
        self._resolve(ask=message.view)

    def _resolve(self, ask: int | None = None) -> None:
        """Enter a new view that was shown, once the view changes that it stands on are here."""
        for new_view, sender in self._changes.expected:
            found, missing = self._changes.resolve(new_view.votes)
            if missing:
                if new_view.view == ask:
                    self._send(sender, FetchViewChanges(new_view.view, tuple(missing)))
                continue
            try:
                planned = check_new_view(new_view, found, self._verifier)
            except BadViewChange:
                self.counters["dropped_bad_new_view"] += 1
                self._changes.forget(new_view.view)
                if new_view.view == self.view:
                    self._change_view(self.view + 1)
                return
            self._enter(Entered(new_view, tuple(found)), planned)
            return

    def _on_fetch_view_changes(self, sender: int, message: FetchViewChanges) -> None:
        if self._entered is not None and self._entered.new_view.view == message.view:
            changes = self._entered.changes
        else:
            changes = tuple(self._changes.of(message.view))
        for change in changes:
            if change.replica in message.replicas:
                self._send(sender, change)

    def _enter(self, record: Entered, planned: Plan) -> None:
        """Take part in a view that began: vote for what it proposes again, then go on."""
        new_view, live = record.new_view, self.recovered
        self._leave_view()
        self.view, self.changing, self._entered = new_view.view, False, record
        self._watching_since_ms, self._resend_after_ms = self.now_ms, self.parameters.resend_ms
        self._changes.forget(self.view)
        if live:
            self.counters["views_entered"] += 1
            self._persist(record)
            if planned.stable is not None:
                self._know_stable(planned.stable)
        self._next_sequence = max(self.executed, planned.low, *planned.batches, 0) + 1
        missing: list[BatchName] = []
        for vote in new_view.proposals:
            if vote.sequence <= self.low:
                continue
            slot = self._slot(vote.sequence)
            slot.vote, slot.digest, slot.renewed = vote, vote.digest, True
            if vote.sequence <= self.executed:
                self._vote_again(slot, vote.sequence)
            elif vote.digest == null_digest(vote.sequence):
                self._adopt(slot, 0, ())
            elif (content := self._content(vote.sequence, vote.digest)) is not None:
                self._adopt(slot, content.time_ms, content.bodies)
            else:
                missing.append(BatchName(vote.sequence, vote.digest))
        if not live:
            return
        if missing:
            for peer in self._holders(record.changes, missing):
                self._send(peer, FetchBatches(tuple(missing)))
        for entry in self.pool:
            entry.forward_ms, entry.overtaken_at = self.now_ms + self.parameters.forward_delay_ms, 0
        for sender, message in self._stash.take(_LATER_VIEW, lambda m: m.view <= self.view):
            self._receive(sender, message)

    def _holders(self, changes: Sequence[ViewChange], missing: Sequence[BatchName]) -> list[int]:
        """Up to two replicas that prepared the first of these batches, so they have it."""
        digest = missing[0].digest
        holders = [
            change.replica
            for change in changes
            if change.replica != self.index and any(proof.proposal.digest == digest for proof in change.prepared)
        ]
        return holders[:2]

    def _vote_again(self, slot: Slot, sequence: int) -> None:
        """Vote for a batch that this replica executed already; others may need the vote.

        Nothing of it needs the log but the commit: the view that stands there fixes the digest.
        """
        own = self._digests.get(sequence)
        if own is not None and own != slot.digest:
            self._halt(
                StateDiverged(f"a new view proposes another batch {sequence} than was executed", seen=slot.digest)
            )
            return
        slot.executed = slot.accepted = True
        self._revoting.add(sequence)
        if not self.is_primary:
            vote = self._prepare(slot, sequence)
            if self.recovered:
                self._effects.append(Broadcast(vote))

    def _adopt(self, slot: Slot, time_ms: int, bodies: Sequence[bytes]) -> None:
        """Give a batch that is proposed again its content."""
        vote = slot.vote
        assert vote is not None
        digests = tuple(map(request_digest, bodies))
        slot.proposal = PrePrepare(
            vote.view, vote.sequence, time_ms, digests, tuple(bodies), vote.executed, vote.state, vote.signature
        )
        slot.bodies = dict(zip(digests, bodies, strict=True))
        slot.arrived_ms = self.now_ms
        self._proposed_ms = max(self._proposed_ms, time_ms)
        self.pool.propose(digests)

    def _fill(self, sequence: int, time_ms: int, bodies: Sequence[bytes]) -> None:
        """Take the content of a batch that is only named, if this is it."""
        slot = self._slots.get(sequence)
        if slot is None or slot.vote is None or slot.proposal is not None or slot.executed:
            return
        if batch_digest(sequence, time_ms, tuple(map(request_digest, bodies))) == slot.digest:
            self.counters["batches_filled"] += 1
            self._adopt(slot, time_ms, bodies)

    def _on_fetch_batches(self, sender: int, message: FetchBatches) -> None:
        for name in message.batches[: 2 * _RESEND_SLOTS]:
            slot = self._slots.get(name.sequence)
            content = self._content(name.sequence, name.digest)
            if self._digests.get(name.sequence) == name.digest:
                self._effects.append(ServeDecisions(sender, name.sequence, name.sequence))
            elif content is not None:
                self._send(sender, BatchContent(name.sequence, content.time_ms, content.bodies))
            elif slot is not None and slot.digest == name.digest and slot.proposal is not None and not slot.missing:
                proposal = slot.full_proposal()
                self._send(sender, BatchContent(name.sequence, proposal.time_ms, proposal.bodies))

    def _watch(self) -> int | None:
        """Time the primary; leave its view when it lets work lie. Returns when to look again."""
        now_ms = self.now_ms
        if self.changing:
            assert self._own_change is not None
            if now_ms >= self._own_change_at_ms:
                self._effects.append(Broadcast(self._own_change))
                self._resend_after_ms = min(2 * self._resend_after_ms, _RESEND_BACK_OFF * self.parameters.resend_ms)
                self._own_change_at_ms = now_ms + self._resend_after_ms
            end_ms = self._patience.until(now_ms, self._changes.at_least(self.view) >= self.q)
            if end_ms is not None and now_ms >= end_ms:
                self.counters["suspected_no_new_view"] += 1
                self._change_view(self.view + 1)
                end_ms = None
            return self._own_change_at_ms if end_ms is None else min(end_ms, self._own_change_at_ms)
        due = self._due_ms is not None and self._due_ms <= now_ms
        behind = self._behind()
        if behind:
            self._patience.progressed()
        waiting = bool(len(self.pool)) or due or self._highest_slot > self.executed
        end_ms = self._patience.until(now_ms, waiting)
        if end_ms is None:
            return self._due_ms
        if now_ms >= end_ms:
            self.counters["suspected_slow"] += 1
            self._change_view(self.view + 1)
            return self._own_change_at_ms
        return end_ms

    def _behind(self) -> bool:
        """Whether a correct replica is ahead for sure: then it is not the primary that is slow."""
        claims = sorted(self._claims.values(), reverse=True)
        return len(claims) > self.f and claims[self.f] > self.executed

    def _censored(self, entry: Pending) -> bool:
        """Whether the primary leaves out a request that has been its account's next for long.

        Accounts take turns, so no more requests come before it than wait now, and as many again that arrive; and if
        all that waits fits one batch, it belongs into the next.
        """
        age_ms = self.now_ms - max(entry.seen_ms, self._watching_since_ms)
        timeout_ms = self._patience.timeout_ms
        if entry.proposed or age_ms < timeout_ms or not self.pool.head(entry):
            return False
        executed = self.counters["requests_executed"]
        if not entry.overtaken_at:
            entry.overtaken_at = executed + 2 * len(self.pool) + _OVERTAKEN_SPARE
        fits = len(self.pool) <= self.parameters.batch_requests and self.pool.size_bytes <= self.parameters.batch_bytes
        return executed > entry.overtaken_at or (fits and age_ms >= 2 * timeout_ms)

    # Checkpoints (checkpoint.py).

    def _checkpoint(self, sequence: int) -> None:
        """Sign the state that was reached; at some places, take it as a snapshot too."""
        limits, digest = self.parameters, NO_HASH
        if takes_snapshot(
            sequence, self._snapshot_at, self._batch_bytes, limits.snapshot_batches, limits.snapshot_bytes
        ):
            data = encode_snapshot(
                Snapshot(sequence, self.time_ms, self.state, self._application.snapshot(), self.replies.snapshot())
            )
            self._taken = Taken(sequence, len(data), manifest_of(data))
            digest = self._taken.digest
            self._snapshot_at, self._batch_bytes = sequence, 0
            self.counters["snapshots_taken"] += 1
            self._effects.append(KeepSnapshot(sequence, data))
        if self.checkpoints.in_window(sequence):
            signed = vote_digest(self.membership.network_id, CHECKPOINT, 0, sequence, digest, sequence, self.state)
            own = Checkpoint(sequence, self.state, digest, self.index, self._identity.sign(signed))
            self.checkpoints.add(own)
            if self.recovered:
                self._effects.append(Broadcast(own))
                self._settle(sequence)
        if self._ahead is not None and self._ahead.sequence <= sequence:
            proof, self._ahead = self._ahead, None
            self._know_stable(proof)

    def _on_checkpoint(self, sender: int, message: Checkpoint) -> None:
        if message.replica != sender or not self.checkpoints.in_window(message.sequence):
            self.counters["dropped_stale"] += 1
            return
        known = self.checkpoints.kept(message.sequence, sender)
        if known is not None:
            if known.snapshot != message.snapshot:
                self._accuse(sender, signed_vote(known), signed_vote(message))
        elif not self.checkpoints.add(message):
            self.counters["dropped_bad_signature"] += 1
        else:
            self._settle(message.sequence)

    def _settle(self, sequence: int) -> None:
        proof = self.checkpoints.agreed(sequence)
        if proof is not None:
            self._know_stable(proof)

    def _on_stable(self, proof: CheckpointProof) -> None:
        if proof.sequence <= self.low:
            self.counters["dropped_stale"] += 1
        elif not self._verifier.stable(proof):
            self.counters["dropped_bad_signature"] += 1
        else:
            self._know_stable(proof)

    def _know_stable(self, proof: CheckpointProof) -> None:
        """Move the low watermark to a proved checkpoint, or remember it until this replica has come so far."""
        sequence = proof.sequence
        for each in proof.attestations:
            if each.replica != self.index:
                self._claims[each.replica] = max(self._claims.get(each.replica, 0), sequence)
        if sequence <= self.low:
            return
        if sequence > self.executed:
            if self._ahead is None or self._ahead.sequence < sequence:
                self._ahead = proof
            return
        own, taken = self._states.get(sequence), self._taken
        mine = taken is not None and taken.sequence == sequence
        if (own is not None and own != proof.state) or (mine and taken is not None and taken.digest != proof.snapshot):
            self._halt(StateDiverged(f"q replicas signed another state at checkpoint {sequence}", seen=own))
            return
        self._move_low(proof)
        if self.recovered:
            self._persist(Stabilised(proof), urgent=False)
        if mine and proof.snapshot != NO_HASH:
            self._compact(proof)
        if self.recovered:
            highest = sequence + self.parameters.window
            for sender, message in self._stash.take(_BEYOND_WINDOW, lambda m: m.sequence <= highest):
                self._receive(sender, message)

    def _move_low(self, proof: CheckpointProof) -> None:
        self.checkpoints.settle(proof)
        low = proof.sequence
        self.counters["checkpoints_stable"] += 1
        for kept in (self._slots, self._proofs, self._digests, self._contents):
            for sequence in [each for each in kept if each <= low]:
                del kept[sequence]
        self._revoting = {sequence for sequence in self._revoting if sequence > low}
        self._wanted = {
            digest: left for digest, waiting in self._wanted.items() if (left := {s for s in waiting if s > low})
        }

    def _compact(self, proof: CheckpointProof) -> None:
        """Let the log below a stable snapshot go; while the log is being read, that waits."""
        assert self._taken is not None
        self._offered = proof, self._taken
        if self.recovered:
            self._effects.append(Compact(proof))
        else:
            self._compact_later = True

    def _halt(self, error: PotLabError) -> None:
        self.halted = True
        self._effects.append(Halt(error))

    # Evidence.

    def _accuse(self, accused: int, first: SignedVote, second: SignedVote) -> None:
        """Keep two contradicting votes as evidence, if their signatures bear it out; a primary loses its place."""
        evidence = Equivocation(first, second)
        key = (accused, first.phase, first.view, first.sequence)
        if key in self._accused or sum(each[0] == accused for each in self._accused) >= _EVIDENCE_EACH:
            return
        try:
            liar = evidence.accused(self.membership.network_id)
        except PotLabError:
            liar = b""
        if liar != self.membership.addresses[accused]:
            self.counters["dropped_bad_signature"] += 1
            return
        self._accused[key] = None
        self.counters["equivocations"] += 1
        self._persist(Found(evidence), urgent=False)
        self._effects.append(Accuse(accused, evidence))
        if accused == self.primary:
            self._suspect("equivocated")

    # Trailing behind.

    def _on_status(self, sender: int, message: Status) -> None:
        self._vouch(sender, message.executed, message.state)
        if self.halted:
            return
        if message.ask:
            self._send(sender, self._own_status(ask=False))
        far = message.stable + self.parameters.checkpoint_batches < self.low
        if far and self.checkpoints.stable is not None:
            self._send(sender, Stable(self.checkpoints.stable))
        if self._entered is not None and (message.view, message.active) < (self._entered.new_view.view, True):
            self._send(sender, self._entered.new_view)
        for sequence in range(message.executed + 1, min(message.executed + _RESEND_SLOTS, self.executed) + 1):
            commit = self._commits.get(sequence)
            if commit is not None:
                self._send(sender, commit)

    def _own_status(self, *, ask: bool) -> Status:
        return Status(self.view, not self.changing, self.executed, self.state, self.low, ask)

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
        if self._offered is not None and message.first <= self._offered[0].sequence:
            self._offer(sender)
        elif 1 <= message.first <= last:
            self.counters["decisions_served"] += 1
            self._effects.append(ServeDecisions(sender, message.first, last))
        else:
            self._send(sender, Decisions(()))

    def _on_decisions(self, sender: int, message: Decisions) -> None:
        for batch in message.batches:
            self._fill(batch.sequence, batch.time_ms, batch.requests)
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

    # Fetching a snapshot (catch_up.py).

    def _offer(self, to: int) -> None:
        if self._offered is not None:
            proof, taken = self._offered
            self.counters["snapshots_offered"] += 1
            self._send(to, Offer(proof, taken.size_bytes, taken.manifest))

    def _on_fetch_chunk(self, sender: int, message: FetchChunk) -> None:
        if self._offered is None:
            return
        proof, taken = self._offered
        if proof.sequence != message.sequence:
            self._offer(sender)
        elif message.index < len(taken.manifest):
            self._effects.append(ServeChunk(sender, message.sequence, message.index))

    def _on_offer(self, sender: int, message: Offer) -> None:
        if sender != self._asked or message.proof.sequence <= self.executed:
            self.counters["dropped_unasked"] += 1
            return
        if not is_sound(message, self._verifier):
            self.counters["dropped_unproved"] += 1
            return
        if self._fetch is not None and self._fetch.proof.snapshot == message.proof.snapshot:
            self._fetch.turn_to(sender)
        else:
            self._fetch = SnapshotFetch(message, sender)
        self._ask_for_chunks()

    def _ask_for_chunks(self) -> None:
        assert self._fetch is not None
        self._ask_again_ms = self.now_ms + self.parameters.fetch_timeout_ms
        for index in self._fetch.next_indices():
            self._send(self._fetch.peer, FetchChunk(self._fetch.proof.sequence, index))

    def _on_chunk(self, sender: int, message: Chunk) -> None:
        fetch = self._fetch
        if fetch is None or sender != fetch.peer or message.sequence != fetch.proof.sequence:
            self.counters["dropped_unasked"] += 1
        elif not fetch.take(message.index, message.data):
            self.counters["dropped_unproved"] += 1
            self._ask_again_ms = self.now_ms
        elif not fetch.complete:
            self._ask_for_chunks()
        else:
            self._fetch = None
            if fetch.proof.sequence > self.executed:
                self._jump(fetch.proof, fetch.data)

    def _jump(self, proof: CheckpointProof, data: bytes) -> None:
        """Go on from a fetched snapshot."""
        try:
            self._restore(decode_snapshot(data, proof), proof, data)
        except PotLabError as error:  # q replicas signed it, so this program is not theirs
            self._halt(error)
            return
        self.counters["snapshots_fetched"] += 1
        self._effects += [KeepSnapshot(self.executed, data), Compact(proof)]
        for entry in list(self.pool):
            cached = self.replies.get(entry.digest)
            if cached is not None:
                self.pool.remove(entry.digest)
                self._effects.append(Reply(entry.digest, cached.sequence, cached.time_ms, cached.reply))
        self._commits = {sequence: commit for sequence, commit in self._commits.items() if sequence > self.executed}
        self._vouchers = {key: peers for key, peers in self._vouchers.items() if key[0] > self.executed}
        self._diverging.clear()
        self._patience.executed()
        self._asked = self._behind_since_ms = None
        if self._ahead is not None and self._ahead.sequence <= self.executed:
            self._ahead = None

    def _decided(self, sender: int, batch: DecidedBatch, digests: Sequence[bytes]) -> bool:
        """Whether a batch is shown to be committed: by q signed commits, or by f+1 replicas that each say so."""
        digest = batch_digest(batch.sequence, batch.time_ms, digests)
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
        wake = [self._catch_up(), self._resend(), self._remind(), self._watch()]
        if now_ms >= self._status_at_ms:
            self._effects.append(Broadcast(self._own_status(ask=False)))
            self._status_at_ms = now_ms + self.parameters.status_ms
            self._repeat_checkpoints()
        wake.append(self._status_at_ms)
        tolerance_ms = self.parameters.time_tolerance_ms
        for sequence in range(self.executed + 1, self._highest_slot + 1):
            slot = self._slots.get(sequence)
            if slot is not None and slot.proposal is not None and slot.proposal.time_ms - tolerance_ms > now_ms:
                wake.append(slot.proposal.time_ms - tolerance_ms)
        timer_ms = min((at_ms for at_ms in wake if at_ms is not None), default=None)
        if timer_ms != self._timer_ms:
            self._timer_ms = timer_ms
            self._effects.append(SetTimer(timer_ms))

    def _resend(self) -> int | None:
        """Repeat our own part of the oldest open batches when nothing has been executed for a while."""
        if not self._revoting and self._highest_slot <= self.executed:
            self._resend_at_ms = None
            return None
        if self._resend_at_ms is None:
            self._resend_at_ms = self.now_ms + self._resend_after_ms
        elif self.now_ms >= self._resend_at_ms:
            self._repeat_votes()
            self._resend_after_ms = min(2 * self._resend_after_ms, _RESEND_BACK_OFF * self.parameters.resend_ms)
            self._resend_at_ms = self.now_ms + self._resend_after_ms
        return self._resend_at_ms

    def _repeat_checkpoints(self) -> None:
        """Say again what this replica signed since the stable checkpoint, all but the newest, which is on its way."""
        every = self.parameters.checkpoint_batches
        for sequence in range(self.low + every, self.executed - every + 1, every):
            own = self.checkpoints.kept(sequence, self.index)
            if own is not None:
                self._effects.append(Broadcast(own))

    def _repeat_votes(self) -> None:
        following = range(self.executed + 1, self.executed + 1 + _RESEND_SLOTS)
        for sequence in (*sorted(self._revoting)[:_RESEND_SLOTS], *following):
            slot = self._slots.get(sequence)
            if slot is None or (slot.vote is None and slot.proposal is None):
                continue
            if slot.proposal is None and not slot.executed:
                self._next_peer = (self._next_peer + 1) % self.n
                self._send(self._next_peer, FetchBatches((BatchName(sequence, slot.digest),)))
            if slot.missing:
                self._next_peer = (self._next_peer + 1) % self.n
                to = self._next_peer if self._next_peer != self.index else self.primary
                self._send(to, FetchBodies(tuple(sorted(slot.missing))))
            if self.is_primary and slot.proposal is not None:
                self._effects.append(Broadcast(slot.full_proposal()))
            for vote in (slot.prepares.get(self.index), slot.commits.get(self.index)):
                if vote is not None:
                    self._effects.append(Broadcast(vote))
            self.counters["votes_repeated"] += 1

    def _remind(self) -> int | None:
        """As a backup, hand the primary what still waits, and all others what it seems to leave out; as anyone, forget
        what nobody orders.
        """
        if not len(self.pool):
            return None
        if self.now_ms < self._scan_at_ms:
            return self._scan_at_ms
        self._scan_at_ms = self.now_ms + self.parameters.forward_delay_ms
        self.counters["requests_expired"] += self.pool.expire(self.now_ms - self.parameters.pending_ttl_ms)
        if self.is_primary:
            return self._scan_at_ms
        if not self.changing and any(map(self._censored, self.pool)):
            self._suspect("censored")
            return self.now_ms + 1
        room = _FORWARD_BYTES
        stalled = self._patience.half_spent(self.now_ms)
        to_primary: list[bytes] = []
        to_all: list[bytes] = []
        for entry in self.pool:
            if not entry.proposed and entry.forward_ms <= self.now_ms and len(entry.body) <= room:
                room -= len(entry.body)
                (to_all if stalled or entry.overtaken_at else to_primary).append(entry.body)
                entry.forward_ms = self.now_ms + _REMIND_MS
        if to_primary:
            self._send(self.primary, Forward(tuple(to_primary)))
        if to_all:  # the others must know of it too: one replica alone removes no primary
            self._effects.append(Broadcast(Forward(tuple(to_all))))
        return self._scan_at_ms

    # Coming back.

    def _restore_own(self, input_: Restored) -> None:
        """Begin from this replica's own snapshot; raises BadLog or Malformed when it is not the checkpoint's."""
        if self.recovered or self.executed:
            raise BadLog("a replica that runs was given a snapshot to begin from")
        self._restore(decode_snapshot(input_.snapshot, input_.proof), input_.proof, input_.snapshot)

    def _restore(self, snapshot: Snapshot, proof: CheckpointProof, data: bytes) -> None:
        """Take a snapshot's state over."""
        self._application.restore(snapshot.application)
        self.replies.restore(snapshot.replies, limit_bytes=len(data))
        self.executed, self.time_ms, self.state = snapshot.sequence, snapshot.time_ms, snapshot.state
        self._states = OrderedDict({self.executed: self.state})
        self._snapshot_at, self._batch_bytes = self.executed, 0
        self._next_sequence = max(self._next_sequence, self.executed + 1)
        self._taken = Taken(self.executed, len(data), manifest_of(data))
        self._offered = proof, self._taken
        self._move_low(proof)
        due_ms = self._application.due_ms()
        self._due_ms = None if due_ms is None else max(due_ms, self.time_ms + 1)

    def _recover(self, input_: Recovered) -> None:
        if self.recovered:
            raise BadLog("a replica that runs was given a log to recover from")
        for record in input_.records:
            self._replay(record)
        if input_.final:
            self.recovered = True
            self._watching_since_ms = self.now_ms
            if self._compact_later and self._offered is not None:
                self._effects.append(Compact(self._offered[0]))
            if self.executed or self._slots:
                self._returned_ms, self._returned_until = self.now_ms, self.executed + self.parameters.window
            due_ms = self._application.due_ms()
            self._due_ms = None if due_ms is None else max(due_ms, self.time_ms + 1)
            self._effects.append(Broadcast(self._own_status(ask=True)))
            if self.changing and self._own_change is not None:
                self._effects.append(Broadcast(self._own_change))
                self._own_change_at_ms = self.now_ms + self.parameters.resend_ms
            self._repeat_votes()

    def _replay(self, record: LogRecord) -> None:
        if isinstance(record, Accepted):
            proposal = record.proposal
            if proposal.sequence <= self.executed:
                return
            if proposal.view > self.view:  # the record of entering it went with the log below a snapshot
                self._leave_view()
                self.view, self.changing = proposal.view, False
            slot = self._slot(proposal.sequence)
            slot.proposal, slot.accepted, slot.missing = proposal, True, set()
            slot.vote = signed_vote(proposal)
            slot.digest = batch_digest(proposal.sequence, proposal.time_ms, proposal.digests)
            slot.bodies = dict(zip(proposal.digests, proposal.bodies, strict=True))
            if record.prepare is not None:
                self._count_vote(slot, record.prepare)
                slot.verified.add(self.index)
            self._next_sequence = max(self._next_sequence, proposal.sequence + 1)
            self._proposed_ms = max(self._proposed_ms, proposal.time_ms)
        elif isinstance(record, Prepared):
            if record.commit.sequence <= self.low:
                return
            prepared = self._slots.get(record.commit.sequence)
            if prepared is None or prepared.digest != record.commit.digest:
                raise BadLog("a log has a commit without its proposal", seen=record.commit.sequence)
            prepared.prepares.update({vote.replica: vote for vote in record.prepares})
            prepared.commits[self.index] = record.commit
            prepared.verified.update(vote.replica for vote in record.prepares)
            prepared.prepared = True
            self._revoting.discard(record.commit.sequence)
            if prepared.vote is not None:
                self._proofs[record.commit.sequence] = _proof(prepared.vote, record.prepares)
        elif isinstance(record, Decided):
            decided = self._slots.get(record.sequence)
            if record.sequence <= self._snapshot_at and record.sequence <= self.executed:
                return
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
        elif isinstance(record, Changing):
            self._leave_view()
            self.view, self.changing, self._own_change = record.change.view, True, record.change
            self._changes.add(record.change)
        elif isinstance(record, Entered):
            self._enter(record, plan(record.changes))
        elif isinstance(record, Stabilised):
            if record.proof.sequence > self.executed:
                raise BadLog("a log goes on from a snapshot that is not there", seen=record.proof.sequence)
            self._know_stable(record.proof)
        else:
            evidence = record.evidence.first
            accused = self.membership.addresses.index(record.evidence.accused(self.membership.network_id))
            self._accused[accused, evidence.phase, evidence.view, evidence.sequence] = None

    # Effects.

    def _persist(self, record: LogRecord, *, urgent: bool = True) -> None:
        self._effects.append(Persist(record, urgent))

    def _send(self, to: int, message: Message) -> None:
        if to != self.index:
            self._effects.append(Send(to, message))


def _root(leaves: Sequence[bytes]) -> bytes:
    return merkle_root(leaves) if leaves else bytes(32)


def _proof(proposal: SignedVote, prepares: Sequence[Prepare]) -> PreparedProof:
    return PreparedProof(
        proposal, tuple(Endorsement(vote.replica, vote.executed, vote.state, vote.signature) for vote in prepares)
    )
