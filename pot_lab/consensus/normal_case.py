"""A batch's way while the primary does its work (Castro and Liskov 1999, section 4.2): proposed, prepared, committed,
executed, in sequence, several in flight.

Prepares are verified up to the quorum, since a prepared certificate is shown to others; commits count by the channel
that brought them, and their signatures are kept for proofs of replies.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pot_lab.agreement.application import Batch
from pot_lab.agreement.votes import COMMIT, PRE_PREPARE, PREPARE
from pot_lab.consensus.messages import (
    BatchName,
    Commit,
    DecidedBatch,
    FetchBatches,
    FetchBodies,
    Prepare,
    PrePrepare,
    Vote,
    batch_digest,
    prepared_proof,
    request_digest,
    signed_vote,
)
from pot_lab.consensus.proof import BatchHeader, reply_leaf
from pot_lab.consensus.records import Accepted, Decided, Fetched, Prepared
from pot_lab.consensus.replica_state import BEYOND_WINDOW, LATER_VIEW, RESEND_BACK_OFF, RESEND_SLOTS, ReplicaState
from pot_lab.consensus.replies import CachedReply
from pot_lab.consensus.slots import Slot
from pot_lab.consensus.steps import Broadcast, Executed, SendReply
from pot_lab.crypto.merkle import merkle_root
from pot_lab.errors import InvariantBroken, PotLabError

_HEADERS_KEPT = 1_024


class NormalCase(ReplicaState):
    """The part that orders and executes batches."""

    def _in_window(self, sender: int, message: PrePrepare | Vote) -> bool:
        """Whether the message is for the current view and window; an early one is kept, a late one is counted."""
        sequence = message.sequence
        if (
            message.view < self.view
            or sequence <= self.low
            or (sequence <= self.executed and sequence not in self._slots)
        ):
            self.counters["dropped_stale"] += 1
            return False
        if message.view > self.view or self.changing:
            kept = self._early.put(LATER_VIEW, sender, message)
        elif sequence > self.high or 0 < self._ends < sequence:
            kept = self._early.put(BEYOND_WINDOW, sender, message)
        else:
            return True
        self.counters["kept_early" if kept else "dropped_early_full"] += 1
        return False

    def _propose(self) -> bool:
        """As the primary, open the next batch if there is a free place and a reason; returns whether it did."""
        limits = self.parameters
        sequence = self._proposing.next_sequence
        open_batches = sequence - 1 - self.executed
        if not self.is_primary or self.changing or open_batches >= limits.in_flight:
            return False
        if sequence > self.high or sequence <= self.executed or 0 < self._ends < sequence:
            return False
        if open_batches and not self._ends and self.pool.waiting < limits.beside_requests * self.n:
            return False
        is_due = self._proposing.due_ms is not None and not open_batches and self.clock_ms >= self._proposing.due_ms
        if not (self.pool.has_waiting or self._ends or is_due):
            return False
        entries = self.pool.take(limits.batch_requests, limits.batch_bytes)
        time_ms = max(self.clock_ms, self._proposing.time_ms, self.time_ms)
        digests = tuple(entry.digest for entry in entries)
        digest = batch_digest(sequence, time_ms, digests)
        bodies = tuple(entry.body for entry in entries)
        signature = self._sign(PRE_PREPARE, sequence, digest)
        proposal = PrePrepare(self.view, sequence, time_ms, digests, bodies, self.executed, self.state, signature)
        slot = self._slot(sequence)
        slot.proposal, slot.digest, slot.arrived_ms, slot.accepted = proposal, digest, self.now_ms, True
        slot.vote = signed_vote(proposal)
        slot.bodies = {entry.digest: entry.body for entry in entries}
        self._proposing.next_sequence = sequence + 1
        self._proposing.time_ms = time_ms
        self.counters["batches_proposed"] += 1
        self._persist(Accepted(proposal, None))
        self._effects.append(Broadcast(self._lean(proposal)))
        return True

    def _lean(self, proposal: PrePrepare) -> PrePrepare:
        """A large proposal without the bodies that clients gave to everyone; who lacks one asks for it."""
        if sum(map(len, proposal.bodies)) <= self.parameters.inline_bytes:
            return proposal
        bodies = []
        for digest, body in zip(proposal.digests, proposal.bodies, strict=True):
            entry = self.pool.get(digest)
            bodies.append(b"" if entry is not None and entry.spread else body)
        return msgspec.structs.replace(proposal, bodies=tuple(bodies))

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
                    self._on_requested(name, body)
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
        if message.sequence == self.executed + 1:
            self._resending.voted_at_ms = self.now_ms
        for name in missing:
            self._wanted.setdefault(name, set()).add(message.sequence)
        self.pool.propose(message.digests)
        if missing:
            self._bodiless.add(message.sequence)

    def _fetch_bodies(self) -> int | None:
        """Ask the primary for what its proposals only named, once clients had time to send it here too; returns when to
        look again.
        """
        wake_ms = None
        for sequence in sorted(self._bodiless):
            slot = self._slots.get(sequence)
            if slot is not None and slot.missing:
                ask_ms = slot.arrived_ms + self.parameters.body_delay_ms * self._pace
                if self.now_ms < ask_ms:
                    wake_ms = ask_ms if wake_ms is None else min(wake_ms, ask_ms)
                    continue
                self.counters["bodies_fetched"] += len(slot.missing)
                self._send(self.primary, FetchBodies(tuple(sorted(slot.missing))))
            self._bodiless.discard(sequence)
        return wake_ms

    def _may_prepare(self, slot: Slot, previous_ms: int) -> bool:
        """Whether a backup takes the proposal now: every body here, and a time that neither runs back, ahead nor
        behind.

        A proposal that is early waits. One that is late (its way, or this process, was slow) is taken only if this
        replica saw each of its requests in time: then the old time gives none of them a place that it did not have. A
        replica that just came back does not know what was in time while it was away, so it accepts the proposals that
        were open then.
        """
        proposal = slot.proposal
        if proposal is None:
            raise InvariantBroken("a vote is due for a batch that was not proposed")
        tolerance_ms = self.parameters.time_tolerance_ms
        if slot.renewed:
            return not slot.missing
        if slot.refused or slot.missing or proposal.time_ms > self.clock_ms + tolerance_ms:
            return False
        latest_ms = self._by_own_time(proposal.time_ms + tolerance_ms)
        was_away = proposal.time_ms <= self._returned.at_ms and proposal.sequence <= self._returned.until
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
        slot.votes.count(vote)
        slot.votes.verified.add(self.index)
        return vote

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
        cast: Vote | None = (
            slot.votes.prepares.get(sender) if isinstance(message, Prepare) else slot.votes.commits.get(sender)
        )
        if cast is None:
            slot.votes.count(message)
            if (
                message.sequence == self.executed + 1
            ):  # a Byzantine replica has one vote of each kind for it, so delays little
                self._resending.voted_at_ms = self.now_ms
        elif cast.digest != message.digest:
            self._accuse(sender, signed_vote(cast), signed_vote(message))
        if slot.proposal is not None and message.digest != slot.digest and sender not in slot.votes.shown:
            slot.votes.shown.add(sender)
            self._send(sender, msgspec.structs.replace(slot.proposal, bodies=(b"",) * len(slot.proposal.digests)))

    def _try_commit(self, slot: Slot) -> None:
        """Commit once the proposal and the backups' prepares make a quorum, each checked."""
        needed = self.q - 1
        if len(slot.votes.prepares) < needed:
            return
        matching = [vote for vote in slot.votes.prepares.values() if vote.digest == slot.digest]
        if len(matching) < needed:
            return
        valid: list[Prepare] = []
        for vote in matching:
            if vote.replica not in slot.votes.verified:
                if not self._signed_by(vote.replica, PREPARE, vote, slot.digest):
                    self.counters["dropped_bad_signature"] += 1
                    del slot.votes.prepares[vote.replica]
                    continue
                slot.votes.verified.add(vote.replica)
            valid.append(vote)
            if len(valid) == needed:
                break
        if len(valid) < needed or slot.vote is None:
            return
        sequence = slot.vote.sequence
        slot.prepared = True
        self._proofs[sequence] = prepared_proof(slot.vote, valid)
        self._revoting.discard(sequence)
        if sequence == self.executed + 1:
            self._patience.progressed()
        signature = self._sign(COMMIT, sequence, slot.digest)
        commit = Commit(self.view, sequence, slot.digest, self.executed, self.state, self.index, signature)
        slot.votes.commits[self.index] = commit
        self._persist(Prepared(tuple(valid), commit))
        self._effects.append(Broadcast(commit))

    def _vote(self) -> None:
        """Prepare what may be prepared and commit what is, in sequence.

        Nothing is committed above what is not prepared. It could not run earlier anyway, and so no view change finds a
        gap below a prepared batch, where an account's next nonce would overtake the one before.
        """
        if self.changing or not self.has_seat:
            return
        gapless = True
        for sequence in sorted(self._revoting):
            self._try_commit(self._slots[sequence])
        sequence, previous_ms = self.executed + 1, self.time_ms
        last = min(self._ends or self.high, self.high)
        while sequence <= last and (slot := self._slots.get(sequence)) is not None and slot.proposal is not None:
            if not slot.accepted:
                if not self._may_prepare(slot, previous_ms):
                    break
                self._accept(slot)
            if slot.accepted and not slot.prepared and gapless:
                self._try_commit(slot)
            gapless = gapless and slot.prepared
            sequence, previous_ms = sequence + 1, max(previous_ms, slot.proposal.time_ms)

    def _execute_next(self) -> bool:
        slot = self._slots.get(self.executed + 1)
        if slot is None or slot.proposal is None or slot.missing or self._at_end:
            return False
        if len(slot.votes.commits) < self.q:
            return False
        commits = tuple(
            vote
            for vote in slot.votes.commits.values()
            if vote.digest == slot.digest and vote.view == slot.proposal.view
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
        """Run the next decided batch: each request at most once, however often it was proposed.

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
        execution = self._application.execute(Batch(sequence, time_ms, tuple(fresh.values()), self.era))
        if len(execution.replies) != len(fresh):
            raise InvariantBroken(
                "an application does not give each request a reply", seen=len(execution.replies), wanted=len(fresh)
            )
        answered = tuple(zip(fresh, execution.replies, strict=True))
        for name, reply in answered:
            self.replies.put(CachedReply(digest=name, sequence=sequence, time_ms=time_ms, reply=reply))
            if self.recovered:
                self._effects.append(SendReply(digest=name, sequence=sequence, time_ms=time_ms, reply=reply))
        for name in digests:
            self.pool.remove(name)
        self.executed, self.time_ms = sequence, time_ms
        header = BatchHeader(
            sequence=sequence,
            previous=self.state,
            batch=digest,
            replies=_root([reply_leaf(name, reply) for name, reply in answered]),
            events=_root(execution.events),
            application=execution.digest,
        )
        self.state = header.state
        self._headers[sequence] = header
        if len(self._headers) > _HEADERS_KEPT:
            self._headers.popitem(last=False)
        self._states[sequence] = self.state
        slot = self._slots.get(sequence)
        if slot is not None and self.index in slot.votes.commits:
            self._commits[sequence] = slot.votes.commits[self.index]
        self._commits.pop(sequence - self.parameters.window, None)
        while len(self._states) > 2 * self.parameters.window:
            self._states.popitem(last=False)
        self._digests[sequence] = digest
        self._snapshots.bytes_since += sum(map(len, bodies))
        self._after_execution(sequence)
        due_ms = self._application.due_ms()
        self._proposing.due_ms = None if due_ms is None else max(due_ms, time_ms + 1)
        self.counters["batches_executed"] += 1
        self.counters["requests_executed"] += len(fresh)
        self._effects.append(
            Executed(
                sequence=sequence,
                time_ms=time_ms,
                requests=len(digests),
                execution=execution,
                state=self.state,
                replayed=not self.recovered,
            )
        )
        self._plan_end(sequence)
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
        self._proposing.next_sequence = max(self._proposing.next_sequence, sequence + 1)
        for old in [key for key in self._diverging if key <= sequence - 2 * self.parameters.window]:
            del self._diverging[old]
        self._vouchers = {key: peers for key, peers in self._vouchers.items() if key[0] > sequence}
        self._behind_since_ms = None
        self._resending.after_ms = self.parameters.resend_ms
        self._resending.at_ms = None

    def _resend(self) -> int | None:
        """Repeat our own part of the oldest open batches when nothing has come of them for a while.

        As long as votes for the next batch still come, a slow set is at work, and repeating would only make it slower:
        a hundred replicas on two cores take a second for a batch.
        """
        if not self._revoting and self._highest_slot <= self.executed:
            self._resending.at_ms = None
            return None
        if self._resending.at_ms is None:
            self._resending.at_ms = self.now_ms + self._resending.after_ms
        elif self.now_ms >= self._resending.at_ms:
            silent_until_ms = self._resending.voted_at_ms + self._resending.after_ms
            if self.now_ms >= silent_until_ms:
                self._repeat_votes()
                self._resending.after_ms = min(
                    2 * self._resending.after_ms, RESEND_BACK_OFF * self.parameters.resend_ms
                )
                silent_until_ms = self.now_ms + self._resending.after_ms
            self._resending.at_ms = silent_until_ms
        return self._resending.at_ms

    def _repeat_votes(self) -> None:
        following = range(self.executed + 1, self.executed + 1 + RESEND_SLOTS)
        for sequence in (*sorted(self._revoting)[:RESEND_SLOTS], *following):
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
                self._effects.append(Broadcast(self._lean(slot.full_proposal())))
            for vote in (slot.votes.prepares.get(self.index), slot.votes.commits.get(self.index)):
                if vote is not None:
                    self._effects.append(Broadcast(vote))
            self.counters["votes_repeated"] += 1


def _root(leaves: Sequence[bytes]) -> bytes:
    return merkle_root(leaves) if leaves else bytes(32)
