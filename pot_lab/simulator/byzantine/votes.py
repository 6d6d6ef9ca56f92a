"""Byzantine voters: two votes for one step, votes for a state that they are not in, votes under an old key."""

from __future__ import annotations

import msgspec

from pot_lab.consensus.messages import Commit, Message, Prepare, PrePrepare, Status, batch_digest
from pot_lab.consensus.steps import Effect, SendReply
from pot_lab.crypto.canonical import sha256
from pot_lab.simulator.byzantine.behaviour import Behaviour
from pot_lab.simulator.nodes import SimulatedNode


class Equivocate(Behaviour):
    """Signs one thing for one half of the others, and another for the other half."""

    kind = "equivocate"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Every second receiver gets the other version."""
        if receiver % 2 or not isinstance(message, PrePrepare | Prepare | Commit):
            return [message]
        if isinstance(message, PrePrepare):
            if message.view % node.replica.n != node.index:
                return [message]
            self.count()
            return [self.signed(message, time_ms=message.time_ms + 1)]
        self.count()
        return [self.signed(message, digest=sha256(message.digest))]


class Twins(Equivocate):
    """As `Equivocate`, and votes for both versions too, so that each half is as near to a quorum as it can be."""

    kind = "twins"

    def start(self) -> None:
        """No proposal has a twin yet."""
        self._twins: dict[tuple[int, int], bytes] = {}

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Proposals by halves; of every vote the version of the receiver's half."""
        if isinstance(message, PrePrepare) and message.view % node.replica.n == node.index:
            if receiver % 2:
                return [message]
            self.count()
            twin = self.signed_proposal(message, time_ms=message.time_ms + 1)
            digest = batch_digest(twin.sequence, twin.time_ms, twin.digests)
            self._twins[message.view, message.sequence] = digest
            while len(self._twins) > 256:
                del self._twins[next(iter(self._twins))]
            vote = Commit(twin.view, twin.sequence, digest, twin.executed, twin.state, node.index, bytes(65))
            return [twin, self.signed(vote)]
        if isinstance(message, Commit) and not receiver % 2:
            other = self._twins.get((message.view, message.sequence))
            if other is not None:
                return [self.signed(message, digest=other)]
        return [message]


class LieAboutState(Behaviour):
    """Reports a state that it is not in, to replicas and to clients."""

    kind = "lie_about_state"

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """Clients get another reply than the ledger's."""
        changed: list[Effect] = []
        for effect in effects:
            if isinstance(effect, SendReply):
                self.count("lie_to_client")
                effect = msgspec.structs.replace(effect, reply=effect.reply + b"\0")
            changed.append(effect)
        return changed

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Votes and reports with a wrong state, or a height that no replica has reached."""
        if isinstance(message, PrePrepare | Prepare | Commit):
            if isinstance(message, PrePrepare) and message.view % node.replica.n != node.index:
                return [message]
            self.count()
            return [self.signed(message, state=sha256(message.state))]
        if isinstance(message, Status):
            self.count()
            ahead = self.random.choice([0, 1, 5, 1_000_000])
            return [msgspec.structs.replace(message, executed=message.executed + ahead, state=sha256(message.state))]
        return [message]


class TwoViews(Behaviour):
    """Votes in its view and in others at the same time."""

    kind = "two_views"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Every vote twice: in this view, and in one that has not begun."""
        if isinstance(message, Prepare | Commit) and self.random.random() < 0.5:
            self.count()
            return [message, self.signed(message, view=message.view + self.random.choice([1, 2, 5]))]
        if isinstance(message, PrePrepare) and self.random.random() < 0.5:
            self.count()
            return [message, self.signed(message, view=message.view + node.replica.n)]
        return [message]


class OldKey(Behaviour):
    """Goes on signing with the key that its seat had at first."""

    kind = "old_key"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Votes under a signature that was good once."""
        if isinstance(message, Prepare | Commit) and node.members.since:
            self.count()
            return [self.signed(message)]
        return [message]
