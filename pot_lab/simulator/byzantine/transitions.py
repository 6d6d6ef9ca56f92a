"""Byzantine view changes, checkpoints and snapshots."""

from __future__ import annotations

import msgspec

from pot_lab.agreement.votes import CHECKPOINT, NEW_VIEW, PRE_PREPARE, VIEW_CHANGE, vote_digest
from pot_lab.consensus.messages import (
    NO_HASH,
    NO_SIGNATURE,
    Checkpoint,
    CheckpointProof,
    Chunk,
    Message,
    NewView,
    Offer,
    Stable,
    Status,
    ViewChange,
    content_digest,
)
from pot_lab.consensus.steps import Effect, Send
from pot_lab.consensus.view_change import null_digest
from pot_lab.crypto.canonical import sha256
from pot_lab.simulator.byzantine.behaviour import Behaviour
from pot_lab.simulator.nodes import SimulatedNode


class BadViews(Behaviour):
    """Leaves views that work, hides what it prepared, and begins views without the last batch that it must keep."""

    kind = "bad_view"

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """A view change for nothing, now and then, to some or to all."""
        if self.random.random() > 0.02:
            return effects
        self.count()
        replica = node.replica
        change = self.signed_content(
            ViewChange(replica.view + self.random.choice([1, 2, 4, 1_000]), None, (), node.index, NO_SIGNATURE)
        )
        others = [index for index in range(replica.n) if index != node.index]
        return [*effects, *(Send(to, change) for to in self.random.sample(others, self.random.randint(1, len(others))))]

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """View changes without their certificates; new views with nothing in the place of a batch."""
        if isinstance(message, ViewChange):
            if message.replica != node.index or not message.prepared or message.view % node.replica.n == node.index:
                return [message]
            self.count()
            return [self.signed_content(msgspec.structs.replace(message, prepared=()))]
        if isinstance(message, NewView) and message.view % node.replica.n == node.index and message.proposals:
            self.count()
            last = message.proposals[-1]
            nothing = null_digest(last.sequence)
            signed = vote_digest(
                self.network_id, PRE_PREPARE, last.view, last.sequence, nothing, last.executed, last.state
            )
            changed = msgspec.structs.replace(last, digest=nothing, signature=self.identity.sign(signed))
            proposals = (*message.proposals[:-1], changed)
            return [self.signed_content(msgspec.structs.replace(message, proposals=proposals))]
        return [message]

    def signed_content(self, message: ViewChange | NewView) -> ViewChange | NewView:
        """The message with a valid signature."""
        phase = VIEW_CHANGE if isinstance(message, ViewChange) else NEW_VIEW
        signed = vote_digest(self.network_id, phase, message.view, 0, content_digest(message), 0, NO_HASH)
        return msgspec.structs.replace(message, signature=self.identity.sign(signed))


class BadCheckpoints(Behaviour):
    """Signs states that it is not in, and serves invented snapshots."""

    kind = "bad_checkpoint"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Another state, another proof, another snapshot."""
        if isinstance(message, Checkpoint):
            self.count()
            state = sha256(message.state)
            signed = vote_digest(
                self.network_id, CHECKPOINT, 0, message.sequence, message.snapshot, message.sequence, state
            )
            return [msgspec.structs.replace(message, state=state, signature=self.identity.sign(signed))]
        if isinstance(message, Stable | Offer) and self.random.random() < 0.5:
            self.count()
            return [msgspec.structs.replace(message, proof=self._altered(message.proof))]
        if isinstance(message, Chunk):
            self.count()
            return [msgspec.structs.replace(message, data=bytes(len(message.data)))]
        if isinstance(message, Status):
            return [msgspec.structs.replace(message, stable=message.stable + self.random.choice([0, 1, 1_000]))]
        return [message]

    def _altered(self, proof: CheckpointProof) -> CheckpointProof:
        if self.random.random() < 0.5:
            return msgspec.structs.replace(proof, attestations=proof.attestations[:1] * len(proof.attestations))
        return msgspec.structs.replace(proof, sequence=proof.sequence + 1_000, state=sha256(proof.state))
