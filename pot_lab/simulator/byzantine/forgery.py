"""Byzantine authors: bad signatures, invented requests, impossible times."""

from __future__ import annotations

import msgspec

from pot_lab.consensus.messages import (
    Commit,
    DecidedBatch,
    Decisions,
    Message,
    Prepare,
    PrePrepare,
    Requests,
    request_digest,
)
from pot_lab.simulator.byzantine.behaviour import Behaviour, Vote
from pot_lab.simulator.nodes import SimulatedNode

_HOUR_MS = 3_600_000


class Forge(Behaviour):
    """Signs badly, speaks in others' names, and answers questions with made-up proofs and bodies."""

    kind = "forge"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Forgeries beside or instead of the message."""
        if isinstance(message, PrePrepare):
            return self._proposals(node, message)
        if isinstance(message, Prepare | Commit):
            self.count()
            others = [index for index in range(node.replica.n) if index != node.index]
            forged = [msgspec.structs.replace(message, replica=other) for other in others]
            return [message, *forged, self._garbled(message), self._in_the_primarys_name(node, message)]
        if isinstance(message, Decisions):
            self.count()
            return [Decisions(tuple(map(self._altered, message.batches)))]
        if isinstance(message, Requests):
            self.count()
            return [Requests(tuple(body[:-1] + b"\0" for body in message.bodies))]
        return [message]

    def start(self) -> None:
        """Nothing was forged yet."""
        self._chosen: dict[tuple[int, int], int] = {}
        self._earlier = b""

    def _proposals(self, node: SimulatedNode, message: PrePrepare) -> list[Message]:
        """All receivers get the same forgery, so that it could be decided."""
        if message.view % node.replica.n != node.index or not any(message.bodies):
            return [message]
        place = (message.view, message.sequence)
        if place not in self._chosen:
            self._chosen = {place: self.random.randrange(5)}
        kind, body = self._chosen[place], max(message.bodies, key=len)
        earlier, self._earlier = self._earlier, body
        if kind > 2:
            return [message]
        self.count()
        if kind == 0:
            return [self._garbled(message), message]
        if kind == 1:  # a request that its author never signed, named rightly
            invented = body[:-20] + bytes(20)
            digests = (*message.digests, request_digest(invented))
            return [self.signed(message, digests=digests, bodies=(*message.bodies, invented))]
        bodies = tuple(earlier or body for _ in message.bodies)  # not those that are named
        return [msgspec.structs.replace(message, bodies=bodies)]

    def _in_the_primarys_name(self, node: SimulatedNode, vote: Prepare | Commit) -> Message:
        """An empty batch for the next place, with a signature that the primary never made."""
        sequence, time_ms = vote.sequence + 1, node.replica.now_ms
        proposal = PrePrepare(vote.view, sequence, time_ms, (), (), vote.executed, vote.state, bytes(65))
        return self.signed(proposal)

    def _garbled(self, message: Vote) -> Vote:
        signature = bytearray(message.signature)
        signature[self.random.randrange(60)] ^= 1
        return msgspec.structs.replace(message, signature=bytes(signature))

    def _altered(self, batch: DecidedBatch) -> DecidedBatch:
        if self.random.random() < 0.5:
            return msgspec.structs.replace(batch, time_ms=batch.time_ms + 1)
        return msgspec.structs.replace(batch, requests=batch.requests[:-1], commits=batch.commits[:1] * 4)


class BadTimes(Behaviour):
    """Proposes batches at times that no right clock shows."""

    kind = "bad_time"

    def start(self) -> None:
        """Choose by how much."""
        self._by_ms = self.random.choice([-_HOUR_MS, -6_000, 6_000, 60_000, _HOUR_MS])

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Its own proposals get a wrong time."""
        if isinstance(message, PrePrepare) and message.view % node.replica.n == node.index:
            self.count()
            return [self.signed(message, time_ms=max(0, message.time_ms + self._by_ms))]
        return [message]
