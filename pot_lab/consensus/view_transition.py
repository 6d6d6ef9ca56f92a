"""Leaving a view and beginning the next (Castro and Liskov 1999, section 4.4); `view_change` has the rules.

A view that was left is on disk before a message about it is sent, and a replica never votes in it again. What was
prepared is shown to the next primary, proposed again by digest, and fetched by replicas that lack it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from pot_lab.agreement.votes import NEW_VIEW, PRE_PREPARE, VIEW_CHANGE, SignedVote, vote_digest
from pot_lab.consensus.messages import (
    NO_HASH,
    NO_SIGNATURE,
    BatchContent,
    BatchName,
    FetchBatches,
    FetchViewChanges,
    NewView,
    PrePrepare,
    ViewChange,
    ViewVote,
    batch_digest,
    content_digest,
    request_digest,
    signed_vote,
)
from pot_lab.consensus.records import Changing, Entered
from pot_lab.consensus.replica_state import LATER_VIEW, RESEND_BACK_OFF, RESEND_SLOTS, ReplicaState, StateDiverged
from pot_lab.consensus.slots import Slot
from pot_lab.consensus.steps import Broadcast, ServeDecisions
from pot_lab.consensus.view_change import BadViewChange, Plan, check_new_view, check_view_change, null_digest, plan
from pot_lab.errors import InvariantBroken

_CONTENTS_EACH = 8


class ViewTransition(ReplicaState):
    """The part that replaces a primary."""

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
        """Leave for `view`: send a view change with everything that was prepared above the stable checkpoint."""
        self._leave_view()
        self.view, self.changing = view, True
        self._patience.left_view()
        self.counters["view_changes"] += 1
        prepared = tuple(proof for sequence, proof in sorted(self._proofs.items()) if sequence > self.low)
        change = ViewChange(view, self.checkpoints.stable, prepared, self.index, NO_SIGNATURE, self.era)
        signature = self._sign_content(VIEW_CHANGE, change)
        change = msgspec.structs.replace(change, signature=signature)
        self._resending.after_ms = self.parameters.resend_ms
        self._own_change, self._own_change_at_ms = change, self.now_ms + self._resending.after_ms
        self._changes.add(change)
        self._persist(Changing(change))
        self._effects.append(Broadcast(change))
        self._begin_view()
        self._resolve()

    def _sign_content(self, phase: int, message: ViewChange | NewView) -> bytes:
        digest = content_digest(message)
        network_id, era = self.membership.network_id, message.era
        return self._identity.sign(vote_digest(network_id, phase, message.view, era, digest, 0, NO_HASH))

    def _on_view_change(self, sender: int, message: ViewChange) -> None:
        if message.era != self.era or message.replica >= self.n:
            self.counters["dropped_other_era"] += 1
            return
        conflicting = self._changes.conflicting(message)
        if conflicting is not None:
            self._accuse(message.replica, signed_vote(conflicting), signed_vote(message))
        if message.view < self.view or (message.view == self.view and not self.changing):
            if self._entered is not None and not self.changing and sender == message.replica:
                self._send(sender, self._entered.new_view)
            self.counters["dropped_stale"] += 1
            return
        if message.replica == self.index or not self._changes.is_news(message):
            return
        try:
            check_view_change(message, self._verifier, self.succession, self.parameters.window)
        except BadViewChange:
            self.counters["dropped_bad_view_change"] += 1
            return
        self._changes.add(message)
        if message.stable is not None:
            self._know_stable(message.stable)
            if message.era != self.era or self.halted:
                return
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
        new_view = NewView(self.view, votes, proposals, NO_SIGNATURE, self.era)
        new_view = msgspec.structs.replace(new_view, signature=self._sign_content(NEW_VIEW, new_view))
        self._enter(Entered(new_view, changes), planned)
        self._effects.append(Broadcast(new_view))

    def _on_new_view(self, sender: int, message: NewView) -> None:
        if message.era != self.era:
            self.counters["dropped_other_era"] += 1
            return
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
        self._watching_since_ms, self._resending.after_ms = self.now_ms, self.parameters.resend_ms
        self._changes.forget(self.view)
        if live:
            self.counters["views_entered"] += 1
            self._persist(record)
            if planned.stable is not None:
                self._know_stable(planned.stable)
                if new_view.era != self.era or self.halted:
                    return
        self._proposing.next_sequence = max(self.executed, planned.low, *planned.batches, 0) + 1
        missing: list[BatchName] = []
        for vote in new_view.proposals:
            if vote.sequence <= self.low:
                continue
            slot = self._slot(vote.sequence)
            slot.vote, slot.digest, slot.renewed = vote, vote.digest, True
            if vote.sequence <= self.executed:
                if vote.sequence <= self.high:
                    self._vote_again(slot, vote.sequence)
            elif vote.digest == null_digest(vote.sequence):
                self._adopt(slot, 0, (), ())
            elif (content := self._content(vote.sequence, vote.digest)) is not None:
                self._adopt(slot, content.time_ms, content.digests, content.bodies)
            else:
                missing.append(BatchName(vote.sequence, vote.digest))
        if not live:
            return
        if missing:
            for peer in self._holders(record.changes, missing):
                self._send(peer, FetchBatches(tuple(missing)))
        for entry in self.pool:
            entry.forward_ms, entry.overtaken_at = self.now_ms + self.parameters.forward_delay_ms, 0
        self._receive_early(LATER_VIEW, lambda m: m.view <= self.view)

    def _enter_again(self, record: Entered) -> None:
        """Enter a view again that the log holds."""
        self._enter(record, plan(record.changes))

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

    def _adopt(self, slot: Slot, time_ms: int, digests: tuple[bytes, ...], bodies: Sequence[bytes]) -> None:
        """Give a batch that is proposed again its content: its time, and its requests with their digests."""
        vote = slot.vote
        if vote is None:
            raise InvariantBroken("a batch without a proposal is given content", seen=time_ms)
        slot.proposal = PrePrepare(
            vote.view, vote.sequence, time_ms, digests, tuple(bodies), vote.executed, vote.state, vote.signature
        )
        slot.bodies = dict(zip(digests, bodies, strict=True))
        slot.arrived_ms = self.now_ms
        self._proposing.time_ms = max(self._proposing.time_ms, time_ms)
        self.pool.propose(digests)

    def _fill(self, sequence: int, time_ms: int, bodies: Sequence[bytes]) -> None:
        """Take the content of a batch that is only named, if this is it."""
        slot = self._slots.get(sequence)
        if slot is None or slot.vote is None or slot.proposal is not None or slot.executed:
            return
        digests = tuple(map(request_digest, bodies))
        if batch_digest(sequence, time_ms, digests) == slot.digest:
            self.counters["batches_filled"] += 1
            self._adopt(slot, time_ms, digests, bodies)

    def _on_fetch_batches(self, sender: int, message: FetchBatches) -> None:
        for name in message.batches[: 2 * RESEND_SLOTS]:
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
        """Leave the primary's view when work is overdue. Returns when to look again."""
        now_ms = self.now_ms
        if not self.has_seat:
            return None
        if self.changing:
            if self._own_change is None:
                raise InvariantBroken("a view was left without a view change", seen=self.view)
            if now_ms >= self._own_change_at_ms:
                self._effects.append(Broadcast(self._own_change))
                self._resending.after_ms = min(
                    2 * self._resending.after_ms, RESEND_BACK_OFF * self.parameters.resend_ms
                )
                self._own_change_at_ms = now_ms + self._resending.after_ms
            end_ms = self._patience.until(now_ms, self._changes.at_least(self.view) >= self.q)
            if end_ms is not None and now_ms >= end_ms:
                self.counters["suspected_no_new_view"] += 1
                self._change_view(self.view + 1)
                end_ms = None
            return self._own_change_at_ms if end_ms is None else min(end_ms, self._own_change_at_ms)
        due_ms = None if self._proposing.due_ms is None else self._by_own_time(self._proposing.due_ms)
        due = due_ms is not None and due_ms <= now_ms
        if self._behind() or self._at_end:
            self._patience.progressed()
        waiting = bool(len(self.pool)) or due or bool(self._ends) or self._highest_slot > self.executed
        waiting = waiting and not self._at_end  # then only checkpoints are missing, which need no primary
        end_ms = self._patience.until(now_ms, waiting)
        if end_ms is None:
            return due_ms
        if now_ms >= end_ms:
            self.counters["suspected_slow"] += 1
            self._change_view(self.view + 1)
            return self._own_change_at_ms
        return end_ms

    def _behind(self) -> bool:
        """Whether a correct replica is ahead for sure: then it is not the primary that is slow."""
        if max(self._claims.values(), default=0) <= self.executed:
            return False
        claims = self._members_claims()
        return len(claims) > self.f and claims[self.f] > self.executed
