"""One set of replicas following another: planned by an ordered transaction, in force after a checkpoint.

`Application.seats` names the set that the application asks for. Once it asks for another than the one in force, the era
ends at the first checkpoint at least a window later. A replica votes on a batch only when it has executed all that lies
a window below it, so every replica that votes has the end in time; none votes above it until it is stable. There the
old set signs its last checkpoint, which names the new one, and the new one begins: no batch and no view change is open
across an era's end. The primary proposes empty batches to get there.
"""

from __future__ import annotations

from pot_lab.agreement.application import Seat
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import CheckpointProof, Handover
from pot_lab.consensus.records import Succeeded
from pot_lab.consensus.replica_state import ReplicaState
from pot_lab.consensus.steps import MembersChanged
from pot_lab.errors import InvariantBroken


class Eras(ReplicaState):
    """The part that changes the set of replicas."""

    def _plan_end(self, sequence: int) -> None:
        seats = self._application.seats()
        if self._ends or seats is None or seats == self.membership.seats:
            return
        every = self.parameters.checkpoint_batches
        self._ends = -(-(sequence + self.parameters.window) // every) * every
        self.counters["eras_ending"] += 1

    def _members_after(self) -> Membership:
        seats = self._application.seats() if self._at_end else None
        return self.membership if seats is None else self.membership.succeeded(self.executed, seats)

    def _hand_over(self, proof: CheckpointProof) -> Handover:
        taken = self._snapshots.taken
        if taken is None or taken.sequence != proof.sequence:
            raise InvariantBroken("an era ends without a snapshot of its last batch", seen=proof.sequence)
        return Handover(proof, taken.body, self._members_after().seats)

    def _succeed(self, handover: Handover) -> None:
        """Begin the next era, at its first place; every batch of this one is executed here."""
        self.succession.recall(handover)
        self._join_era(self.membership.digest, handover.proof.sequence, handover.seats)
        self.checkpoints.stable = handover.proof
        self.counters["eras_begun"] += 1
        if self.recovered:
            self._persist(Succeeded(handover))
            self._effects.append(MembersChanged(self.membership))
        else:
            self._unwritten.append(handover)

    def _join_era(self, before: bytes, era: int, seats: tuple[Seat, ...]) -> None:
        addresses = {seat.address for seat in seats}
        own = next((each.address for each in self._identities if each.address in addresses), b"")
        self._begin_era(self.membership.of(before, era, seats, own))
        self.pool.release()
