"""Aggregators that lie: each behaviour is one way to break the protocol with a real key and a real channel.

A liar runs the real replica, so that it is plausible, and changes what it hears and says. It cannot forge another's
signature, nor speak on another's channel: the channel proves the sender. Every act is counted by its kind, so that a
run shows whether it happened. What the correct replicas must do about each is the matter of `checkers`: stay right,
and, once the others are up and connected, go on.
"""

from __future__ import annotations

from collections import Counter, deque
from random import Random
from typing import ClassVar

import msgspec

from pot_lab.agreement.application import RequestId
from pot_lab.agreement.votes import CHECKPOINT, COMMIT, NEW_VIEW, PRE_PREPARE, PREPARE, VIEW_CHANGE, vote_digest
from pot_lab.consensus.messages import (
    NO_HASH,
    NO_SIGNATURE,
    Checkpoint,
    CheckpointProof,
    Chunk,
    Commit,
    DecidedBatch,
    Decisions,
    FetchBodies,
    FetchDecisions,
    Forward,
    Message,
    NewView,
    Offer,
    Prepare,
    PrePrepare,
    Requests,
    Stable,
    Status,
    ViewChange,
    batch_digest,
    content_digest,
    request_digest,
)
from pot_lab.consensus.steps import Effect, Executed, Input, Received, Send, SendReply, Submitted
from pot_lab.consensus.view_change import null_digest
from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.simulator.nodes import SimulatedNode

Vote = PrePrepare | Prepare | Commit
_HOUR_MS = 3_600_000


class Behaviour:
    """A correct replica's manners; each liar overrides some.

    Args:
        identity: the liar's key.
        network_id: what its signatures name.
        random: its whims.
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
        changed = msgspec.structs.replace(vote, **changes)
        if isinstance(changed, PrePrepare):
            phase, digest = PRE_PREPARE, batch_digest(changed.sequence, changed.time_ms, changed.digests)
        else:
            phase, digest = PREPARE if isinstance(changed, Prepare) else COMMIT, changed.digest
        said = vote_digest(
            self.network_id, phase, changed.view, changed.sequence, digest, changed.executed, changed.state
        )
        return msgspec.structs.replace(changed, signature=self.identity.sign(said))


class Equivocate(Behaviour):
    """Tells one half of the others one thing, and the other half another, both signed."""

    kind = "equivocate"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Every second receiver gets the other story."""
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
    """As `Equivocate`, and votes for both stories too, so that each half is as near to a quorum as it can be."""

    kind = "twins"

    def start(self) -> None:
        self._twins: dict[tuple[int, int], bytes] = {}

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Proposals by halves; of every vote both versions to everybody's half."""
        if isinstance(message, PrePrepare) and message.view % node.replica.n == node.index:
            if receiver % 2:
                return [message]
            self.count()
            twin = self.signed(message, time_ms=message.time_ms + 1)
            assert isinstance(twin, PrePrepare)
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


class Withhold(Behaviour):
    """Sends some kinds of messages to some of the others only."""

    kind = "withhold"

    def start(self) -> None:
        self._kinds = self.random.sample([PrePrepare, Prepare, Commit, Forward, Requests, Decisions], 3)
        self._share = self.random.choice([0.3, 0.7, 1.0])

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Nothing, often, of the chosen kinds."""
        if type(message) in self._kinds and self.random.random() < self._share:
            self.count()
            return []
        return [message]


class Silent(Behaviour):
    """Hears everything and says nothing."""

    kind = "silent"

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """No replies to clients either."""
        self.count()
        return [effect for effect in effects if not isinstance(effect, SendReply)]

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Nothing."""
        return []


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
        """Votes and reports with a wrong state, or a height that nobody has reached."""
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


class Replay(Behaviour):
    """Sends what was sent before, by itself or by others, to whoever it likes."""

    kind = "replay"

    def start(self) -> None:
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
        self._chosen: dict[tuple[int, int], int] = {}
        self._earlier = b""

    def _proposals(self, node: SimulatedNode, message: PrePrepare) -> list[Message]:
        """Everybody gets the same forgery, so that it could come to be decided."""
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


class Censor(Behaviour):
    """Never lets one account's requests through."""

    kind = "censor"

    def start(self) -> None:
        self._victim: bytes | None = None

    def on_inputs(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]:
        """Drops the victim's requests, whoever brings them."""
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


class BadTimes(Behaviour):
    """Proposes batches at times that no right clock shows."""

    kind = "bad_time"

    def start(self) -> None:
        self._by_ms = self.random.choice([-_HOUR_MS, -6_000, 6_000, 60_000, _HOUR_MS])

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Its own proposals get a wrong time."""
        if isinstance(message, PrePrepare) and message.view % node.replica.n == node.index:
            self.count()
            return [self.signed(message, time_ms=max(0, message.time_ms + self._by_ms))]
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


class Flood(Behaviour):
    """Sends more than anyone needs: votes far ahead, questions without end, bodies that nobody asked for."""

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
            said = vote_digest(
                self.network_id, PRE_PREPARE, last.view, last.sequence, nothing, last.executed, last.state
            )
            changed = msgspec.structs.replace(last, digest=nothing, signature=self.identity.sign(said))
            proposals = (*message.proposals[:-1], changed)
            return [self.signed_content(msgspec.structs.replace(message, proposals=proposals))]
        return [message]

    def signed_content(self, message: ViewChange | NewView) -> ViewChange | NewView:
        """The message with a valid signature."""
        phase = VIEW_CHANGE if isinstance(message, ViewChange) else NEW_VIEW
        said = vote_digest(self.network_id, phase, message.view, 0, content_digest(message), 0, NO_HASH)
        return msgspec.structs.replace(message, signature=self.identity.sign(said))


class BadCheckpoints(Behaviour):
    """Signs states that it is not in, and serves snapshots that nobody took."""

    kind = "bad_checkpoint"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Another state, another proof, another snapshot."""
        if isinstance(message, Checkpoint):
            self.count()
            state = sha256(message.state)
            said = vote_digest(
                self.network_id, CHECKPOINT, 0, message.sequence, message.snapshot, message.sequence, state
            )
            return [msgspec.structs.replace(message, state=state, signature=self.identity.sign(said))]
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


class OldKey(Behaviour):
    """Goes on signing with the key that its seat had at first."""

    kind = "old_key"

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """Votes under a signature that was good once."""
        if isinstance(message, Prepare | Commit) and node.members.since:
            self.count()
            return [self.signed(message)]
        return [message]


KINDS: tuple[type[Behaviour], ...] = (
    Equivocate,
    Twins,
    Withhold,
    Silent,
    LieAboutState,
    Replay,
    Forge,
    Censor,
    BadTimes,
    TwoViews,
    Flood,
    BadViews,
    BadCheckpoints,
    OldKey,
)
"""Every way to lie."""


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
