"""Recovery after the process ended: the snapshot, then the log decide what this replica has signed and executed.

Votes that were on disk may have been received, so they are sent again, the same bytes; decided batches run again.
"""

from __future__ import annotations

from collections import OrderedDict

from pot_lab.consensus.checkpoint import Snapshot, decode_snapshot, manifest_of
from pot_lab.consensus.messages import CheckpointProof, batch_digest, prepared_proof, request_digest, signed_vote
from pot_lab.consensus.records import (
    Accepted,
    Changing,
    Decided,
    Entered,
    Fetched,
    LogRecord,
    Prepared,
    Stabilised,
    Succeeded,
)
from pot_lab.consensus.replica_state import BadLog, ReplicaState
from pot_lab.consensus.slots import Taken
from pot_lab.consensus.steps import Broadcast, Compact, MembersChanged, Recovered, ReportEquivocation, Restored


class Recovery(ReplicaState):
    """The part that reads the log back."""

    def _restore_own(self, input_: Restored) -> None:
        """Begin from this replica's own snapshot; raises BadLog or Malformed when it is not the checkpoint's."""
        if self.recovered or self.executed:
            raise BadLog("a replica that runs was given a snapshot to begin from")
        snapshot = decode_snapshot(input_.snapshot, input_.proof, self.parameters.chunk_bytes)
        self._restore(snapshot, input_.proof, input_.snapshot)

    def _restore(self, snapshot: Snapshot, proof: CheckpointProof, data: bytes) -> None:
        """Take a snapshot's state over."""
        self._application.restore(snapshot.application)
        if snapshot.era != self.era:
            self._join_era(snapshot.before, snapshot.era, snapshot.seats)
        self._ends = snapshot.ends
        self.replies.restore(snapshot.replies, limit_bytes=len(data))
        self.executed, self.time_ms, self.state = snapshot.sequence, snapshot.time_ms, snapshot.state
        self._states = OrderedDict({self.executed: self.state})
        self._snapshots.last_at, self._snapshots.bytes_since = self.executed, 0
        self._proposing.next_sequence = max(self._proposing.next_sequence, self.executed + 1)
        taken = Taken(
            sequence=self.executed,
            size_bytes=len(data),
            manifest=manifest_of(data, self.parameters.chunk_bytes),
            members=self.membership.digest,
        )
        self._snapshots.taken, self._snapshots.offered = taken, (proof, taken)
        self._move_low(proof)
        due_ms = self._application.due_ms()
        self._proposing.due_ms = None if due_ms is None else max(due_ms, self.time_ms + 1)

    def _recover(self, input_: Recovered) -> None:
        if self.recovered:
            raise BadLog("a replica that runs was given a log to recover from")
        for record in input_.records:
            self._replay(record)
        if input_.final:
            if self.succession.of(self.era) is None:
                raise BadLog("a log lacks the handover to its set of replicas", seen=self.era)
            self.recovered = True
            if self.era:
                self._effects.append(MembersChanged(self.membership))
            self._watching_since_ms = self.now_ms
            for handover in self._unwritten:
                self._persist(Succeeded(handover))
            if self._snapshots.compact_later and self._snapshots.offered is not None:
                self._effects.append(Compact(self._snapshots.offered[0]))
            if self.executed or self._slots:
                self._returned.at_ms, self._returned.until = self.clock_ms, self.executed + self.parameters.window
            due_ms = self._application.due_ms()
            self._proposing.due_ms = None if due_ms is None else max(due_ms, self.time_ms + 1)
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
                slot.votes.count(record.prepare)
                slot.votes.verified.add(self.index)
            self._proposing.next_sequence = max(self._proposing.next_sequence, proposal.sequence + 1)
            self._proposing.time_ms = max(self._proposing.time_ms, proposal.time_ms)
        elif isinstance(record, Prepared):
            if record.commit.sequence <= self.low:
                return
            prepared = self._slots.get(record.commit.sequence)
            if prepared is None or prepared.digest != record.commit.digest:
                raise BadLog("a log has a commit without its proposal", seen=record.commit.sequence)
            prepared.votes.prepares.update({vote.replica: vote for vote in record.prepares})
            prepared.votes.commits[self.index] = record.commit
            prepared.votes.verified.update(vote.replica for vote in record.prepares)
            prepared.prepared = True
            self._revoting.discard(record.commit.sequence)
            if prepared.vote is not None:
                self._proofs[record.commit.sequence] = prepared_proof(prepared.vote, record.prepares)
        elif isinstance(record, Decided):
            decided = self._slots.get(record.sequence)
            if record.sequence <= self._snapshots.last_at and record.sequence <= self.executed:
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
            if record.change.era != self.era:
                return
            self._leave_view()
            self.view, self.changing, self._own_change = record.change.view, True, record.change
            self._changes.add(record.change)
        elif isinstance(record, Entered):
            if record.new_view.era == self.era:
                self._enter_again(record)
        elif isinstance(record, Succeeded):
            self.succession.recall(record.handover)
            self._unwritten = [each for each in self._unwritten if each != record.handover]
        elif isinstance(record, Stabilised):
            if record.proof.sequence > self.executed:
                raise BadLog("a log goes on from a snapshot that is not there", seen=record.proof.sequence)
            self._know_stable(record.proof)
        else:
            first, accused = (
                record.evidence.first,
                record.evidence.accused(self.membership.network_id, self._recover_signer),
            )
            self._accused[accused, first.phase, first.view, first.sequence] = None
            if accused in self.membership.addresses:  # it may not have been brought to the ledger yet
                self._effects.append(ReportEquivocation(self.membership.addresses.index(accused), record.evidence))
