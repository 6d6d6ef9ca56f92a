"""Signing checkpoints, and dropping what lies below a stable one (`checkpoint` has the rules)."""

from __future__ import annotations

from pot_lab.agreement.votes import CHECKPOINT, vote_digest
from pot_lab.consensus.checkpoint import Snapshot, encode_snapshot, manifest_of, takes_snapshot
from pot_lab.consensus.messages import NO_HASH, Checkpoint, CheckpointProof, signed_vote
from pot_lab.consensus.records import Stabilised
from pot_lab.consensus.replica_state import BEYOND_WINDOW, ReplicaState, StateDiverged
from pot_lab.consensus.slots import Taken
from pot_lab.consensus.steps import Broadcast, Compact, KeepSnapshot
from pot_lab.errors import InvariantBroken


class Checkpointing(ReplicaState):
    """The part that makes checkpoints stable."""

    def _checkpoint(self, sequence: int) -> None:
        """Sign the state that was reached; at some places, take it as a snapshot too."""
        limits, digest = self.parameters, NO_HASH
        if sequence == self._ends or takes_snapshot(
            sequence,
            self._snapshots.last_at,
            self._snapshots.bytes_since,
            limits.snapshot_batches,
            limits.snapshot_bytes,
        ):
            members, ends = self._members_after(), 0 if sequence == self._ends else self._ends
            application, replies = self._application.snapshot(), self.replies.snapshot()
            data = encode_snapshot(
                Snapshot(
                    sequence=sequence,
                    time_ms=self.time_ms,
                    state=self.state,
                    before=members.before,
                    era=members.since,
                    seats=members.seats,
                    ends=ends,
                    application=application,
                    replies=replies,
                )
            )
            taken = Taken(
                sequence=sequence,
                size_bytes=len(data),
                manifest=manifest_of(data, limits.chunk_bytes),
                members=members.digest,
            )
            self._snapshots.taken, digest = taken, taken.digest
            self._snapshots.last_at, self._snapshots.bytes_since = sequence, 0
            self.counters["snapshots_taken"] += 1
            self._effects.append(KeepSnapshot(sequence, data))
        if self.has_seat and self.checkpoints.in_window(sequence):
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
        elif self._ends and proof.sequence > self._ends:
            self.counters["dropped_other_era"] += 1
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
        own, taken = self._states.get(sequence), self._snapshots.taken
        mine = taken is not None and taken.sequence == sequence
        if (own is not None and own != proof.state) or (mine and taken is not None and taken.digest != proof.snapshot):
            self._halt(StateDiverged(f"q replicas signed another state at checkpoint {sequence}", seen=own))
            return
        self._move_low(proof)
        if self.recovered:
            self._persist(Stabilised(proof), urgent=False)
        ends = sequence == self._ends
        if ends:
            self._succeed(self._hand_over(proof))
        if mine and proof.snapshot != NO_HASH:
            self._compact(proof)
        if self.recovered and not ends:
            highest = sequence + self.parameters.window
            self._receive_early(BEYOND_WINDOW, lambda m: m.sequence <= highest)

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
        taken = self._snapshots.taken
        if taken is None:
            raise InvariantBroken("a log is compacted without a snapshot", seen=proof.sequence)
        self._snapshots.offered = proof, taken
        if self.recovered:
            self._effects.append(Compact(proof))
        else:
            self._snapshots.compact_later = True

    def _repeat_checkpoints(self) -> None:
        """Repeat what this replica signed since the stable checkpoint, all but the newest, which is on its way."""
        every = self.parameters.checkpoint_batches
        newest = self.executed if self._at_end else self.executed - every
        for sequence in range(self.low + every, newest + 1, every):
            own = self.checkpoints.kept(sequence, self.index)
            if own is not None:
                self._effects.append(Broadcast(own))
