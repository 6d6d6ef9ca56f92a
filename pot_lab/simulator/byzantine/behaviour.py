"""How a Byzantine aggregator differs from a correct one: it runs the real replica, so that it is plausible, and changes
its inputs, its effects and its messages.

It cannot forge another's signature, nor send on another's channel: the channel proves the sender. Every act is counted
by its kind, so that a run shows whether it happened.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import ClassVar

import msgspec

from pot_lab.agreement.votes import COMMIT, PRE_PREPARE, PREPARE, vote_digest
from pot_lab.consensus.messages import Commit, Message, Prepare, PrePrepare, batch_digest
from pot_lab.consensus.steps import Effect, Input
from pot_lab.crypto.identity import Identity
from pot_lab.simulator.nodes import SimulatedNode

Vote = PrePrepare | Prepare | Commit


class Behaviour:
    """What a correct replica does; each Byzantine behaviour overrides some of it.

    Args:
        identity: its key.
        network_id: what its signatures name.
        random: decides when it acts.
        counts: its acts, by kind.
    """

    kind: ClassVar[str] = "honest"

    def __init__(self, identity: Identity, network_id: bytes, random: Random, counts: Counter[str]) -> None:
        self.identity, self.network_id, self.random, self._counts = identity, network_id, random, counts
        self.start()

    def start(self) -> None:
        """Set up what the behaviour remembers."""

    def count(self, kind: str = "") -> None:
        """One more act."""
        self._counts["byzantine_" + (kind or self.kind)] += 1

    def on_inputs(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]:
        """What reaches its replica of what came."""
        return inputs

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """What it does of what its replica wants done."""
        return effects

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """What one receiver gets instead of a message."""
        return [message]

    def signed(self, vote: Vote, **changes: object) -> Vote:
        """A vote with other contents and a valid signature."""
        if isinstance(vote, PrePrepare):
            return self.signed_proposal(vote, **changes)
        changed = msgspec.structs.replace(vote, **changes)
        phase = PREPARE if isinstance(changed, Prepare) else COMMIT
        return msgspec.structs.replace(changed, signature=self._sign(phase, changed, changed.digest))

    def signed_proposal(self, proposal: PrePrepare, **changes: object) -> PrePrepare:
        """A proposal with other contents and a valid signature."""
        changed = msgspec.structs.replace(proposal, **changes)
        digest = batch_digest(changed.sequence, changed.time_ms, changed.digests)
        return msgspec.structs.replace(changed, signature=self._sign(PRE_PREPARE, changed, digest))

    def _sign(self, phase: int, vote: Vote, digest: bytes) -> bytes:
        signed = vote_digest(self.network_id, phase, vote.view, vote.sequence, digest, vote.executed, vote.state)
        return self.identity.sign(signed)


class Several:
    """More than one way at once, each changing what the one before it left."""

    def __init__(self, parts: list[Behaviour]) -> None:
        self.parts = parts

    def on_inputs(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]:
        """What all of them let through."""
        for part in self.parts:
            inputs = part.on_inputs(node, inputs)
        return inputs

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """What all of them make of it."""
        for part in self.parts:
            effects = part.on_effects(node, effects)
        return effects

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """What all of them make of it, for one receiver."""
        messages = [message]
        for part in self.parts:
            messages = [changed for each in messages for changed in part.on_send(node, receiver, each)]
        return messages
