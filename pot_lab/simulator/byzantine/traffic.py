"""Byzantine senders: too little, too much, too late, or nothing of one account."""

from __future__ import annotations

from collections import deque

from pot_lab.agreement.application import RequestId
from pot_lab.consensus.messages import (
    Commit,
    Decisions,
    FetchBodies,
    FetchDecisions,
    Forward,
    Message,
    Prepare,
    PrePrepare,
    Requests,
)
from pot_lab.consensus.steps import Effect, Executed, Input, Received, Send, SendReply, Submitted
from pot_lab.crypto.canonical import sha256
from pot_lab.errors import PotLabError
from pot_lab.simulator.byzantine.behaviour import Behaviour, Vote
from pot_lab.simulator.nodes import SimulatedNode


class Withhold(Behaviour):
    """Sends some kinds of messages to some of the others only."""

    kind = "withhold"

    def start(self) -> None:
        """Choose the kinds of messages, and the share of them."""
        self._kinds = self.random.sample([PrePrepare, Prepare, Commit, Forward, Requests, Decisions], 3)
        self._share = self.random.choice([0.3, 0.7, 1.0])

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Nothing, often, of the chosen kinds."""
        if type(message) in self._kinds and self.random.random() < self._share:
            self.count()
            return []
        return [message]


class Silent(Behaviour):
    """Receives everything and sends nothing."""

    kind = "silent"

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """No replies to clients either."""
        self.count()
        return [effect for effect in effects if not isinstance(effect, SendReply)]

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Nothing."""
        return []


class Replay(Behaviour):
    """Sends what was sent before, by itself or by others, to any receiver."""

    kind = "replay"

    def start(self) -> None:
        """Nothing was received yet."""
        self._heard: deque[Message] = deque(maxlen=200)

    def on_inputs(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]:
        """Remembers."""
        self._heard.extend(each.message for each in inputs if isinstance(each, Received))
        return inputs

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """Adds an old message now and then."""
        if self._heard and self.random.random() < 0.2:
            self.count()
            receiver = self.random.choice([i for i in range(node.replica.n) if i != node.index])
            effects = [*effects, Send(receiver, self.random.choice(self._heard))]
        return effects


class Flood(Behaviour):
    """Sends more than anyone needs: votes far ahead, requests without end, bodies that were not requested."""

    kind = "flood"

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """Scores of useless messages each time a batch is run."""
        if not any(isinstance(effect, Executed) for effect in effects):
            return effects
        replica, more = node.replica, list(effects)
        for _ in range(16):
            self.count()
            receiver = self.random.choice([i for i in range(replica.n) if i != node.index])
            sequence = replica.executed + self.random.choice(
                [1, 1 << 40, *(self.random.randrange(1, top) for top in (300, 300, 10_000))]
            )
            digest = sha256(self.random.randbytes(8))
            vote: Vote = Prepare(replica.view, sequence, digest, replica.executed, replica.state, node.index, bytes(65))
            more += [
                Send(receiver, self.signed(vote)),
                Send(receiver, self.signed(vote, view=replica.view + self.random.randrange(50))),
                Send(receiver, FetchDecisions(1, 1 << 40)),
                Send(receiver, FetchBodies((digest,) * 50)),
                Send(receiver, Requests((self.random.randbytes(200),))),
                Send(receiver, Forward((self.random.randbytes(100),) * 3)),
            ]
        return more


class Censor(Behaviour):
    """Never lets one account's requests through."""

    kind = "censor"

    def start(self) -> None:
        """The first account that is seen becomes the victim."""
        self._victim: bytes | None = None

    def on_inputs(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]:
        """Drops the victim's requests, from whatever source."""
        kept: list[Input] = []
        for each in inputs:
            if isinstance(each, Submitted):
                if self._is_victims(node, each.request):
                    self.count()
                    continue
            elif isinstance(each, Received) and isinstance(each.message, Forward):
                left = tuple(body for body in each.message.requests if not self._is_victims(node, body))
                if len(left) < len(each.message.requests):
                    self.count()
                    each = Received(each.sender, Forward(left))
            kept.append(each)
        return kept

    def _is_victims(self, node: SimulatedNode, request: bytes) -> bool:
        try:
            id_: RequestId = node.application.validate(request)
        except PotLabError:
            return False
        if self._victim is None:
            self._victim = id_.account
        return id_.account == self._victim
