"""Virtual clients: they send signed requests to the aggregators, ask again until f+1 give the same reply, and remember
what was acknowledged.

A client numbers its transactions and keeps one of a kind on its way at a time. It sends to every aggregator, or now and
then to a single one that has to spread the request itself; when no answer comes it sends to all, at longer and longer
intervals. What f+1 equal replies state is acknowledged: `checkers` hold the ledger to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.steps import SendReply
from pot_lab.crypto.canonical import decode, sha256
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.transactions import Reply as LedgerReply
from pot_lab.protocol.transactions import Withdraw, sign
from pot_lab.simulator.people import Cast, Person
from pot_lab.simulator.virtual_time import MILLISECOND_US, EventQueue

_FIRST_WAIT_US, _LONGEST_WAIT_US = 1_000 * MILLISECOND_US, 4_000 * MILLISECOND_US
_REPLY_LIMIT_BYTES = 1 << 20
_REFUSED_PAUSE_MS = 1_000
_FAULT_EVERY_US = 150 * MILLISECOND_US
_OVERSIZE_BYTES = 300_000


class Network(Protocol):
    """What a client needs of the network."""

    queue: EventQueue

    def ledger(self) -> Ledger | None:
        """The ledger as the aggregator that is furthest shows it; None while none is up."""

    def on_submitted(self, client: int, request: bytes, name: str) -> None:
        """A client has signed a request, to do what `name` says."""

    def submit(self, client: int, aggregator: int, request: bytes, spread: bool) -> None:
        """Send a request to an aggregator; with `spread` the client sends it to all."""

    def on_acknowledged(self, client: int, digest: bytes, reply: SendReply) -> None:
        """A client has f+1 equal replies to the request with this digest."""


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How a virtual client behaves.

    Attributes:
        aggregators: how many there are.
        needed: equal replies that make a result, f+1.
        pause_us: how long it waits between two looks at the ledger.
        alone: the chance that it sends a request to one aggregator only, which has to spread it.
    """

    aggregators: int
    needed: int
    pause_us: int
    alone: float


class _Waiting:
    __slots__ = ("name", "replies", "request", "sent_us", "wait_us")

    def __init__(self, name: str, request: bytes, sent_us: int) -> None:
        self.name, self.request, self.sent_us = name, request, sent_us
        self.wait_us = _FIRST_WAIT_US
        self.replies: dict[int, tuple[int, int, bytes]] = {}


class VirtualClient:
    """One person's connection to the network.

    Args:
        network: the aggregators.
        number: its number among the clients.
        person: whose requests it submits.
        random: decides when it looks, and whom it asks.
        settings: how it behaves.
    Attributes:
        answered: how many requests got their result.
        has_stopped: whether it submits nothing new.
    """

    def __init__(self, network: Network, number: int, person: Person, random: Random, settings: ClientSettings) -> None:
        self._network, self.number, self.person, self._random = network, number, person, random
        self._settings = settings
        self._nonce = 0
        self._waiting: dict[bytes, _Waiting] = {}
        self._not_before_ms: dict[str, int] = {}
        self.answered = 0
        self.has_stopped = False

    @property
    def unanswered(self) -> list[tuple[str, bytes]]:
        """Requests without a result: what they were for, and their digests."""
        return [(waiting.name, digest) for digest, waiting in self._waiting.items()]

    def begin(self) -> None:
        """Start to look at the ledger now and then."""
        self._network.queue.after(int(self._random.random() * self._settings.pause_us), self._look)

    def stop(self) -> None:
        """Submit nothing new; what was submitted is still asked for."""
        self.has_stopped = True

    def _look(self) -> None:
        self._resubmit()
        ledger = self._network.ledger()
        if ledger is not None and not self.has_stopped:
            now_ms = self._network.queue.now_ms
            under_way = {waiting.name for waiting in self._waiting.values()}
            for name, body in self.person.intents(ledger, now_ms):
                if name not in under_way and now_ms >= self._not_before_ms.get(name, 0):
                    self._nonce += 1
                    request = sign(self.person.cast.network_id, body, self.person.identity, self._nonce)
                    self._submit(name, request)
        if not self.has_stopped or self._waiting:
            self._network.queue.after(self._settings.pause_us, self._look)

    def _submit(self, name: str, request: bytes) -> None:
        waiting = _Waiting(name, request, self._network.queue.now_us)
        self._waiting[request_digest(request)] = waiting
        self._network.on_submitted(self.number, request, name)
        if self._random.random() < self._settings.alone:
            self._network.submit(self.number, self._random.randrange(self._settings.aggregators), request, False)
        else:
            self._submit_to_all(request)

    def _submit_to_all(self, request: bytes) -> None:
        for aggregator in range(self._settings.aggregators):
            self._network.submit(self.number, aggregator, request, True)

    def _resubmit(self) -> None:
        now_us = self._network.queue.now_us
        for waiting in self._waiting.values():
            if now_us - waiting.sent_us >= waiting.wait_us:
                waiting.sent_us = now_us
                waiting.wait_us = min(2 * waiting.wait_us, _LONGEST_WAIT_US)
                self._submit_to_all(waiting.request)

    def on_reply(self, aggregator: int, reply: SendReply) -> None:
        """An aggregator's reply has arrived."""
        waiting = self._waiting.get(reply.digest)
        if waiting is None:
            return
        given = (reply.sequence, reply.time_ms, reply.reply)
        waiting.replies[aggregator] = given
        if sum(other == given for other in waiting.replies.values()) < self._settings.needed:
            return
        del self._waiting[reply.digest]
        self.answered += 1
        result = decode(reply.reply, LedgerReply, limit_bytes=_REPLY_LIMIT_BYTES)
        if not result.accepted:
            self._not_before_ms[waiting.name] = self._network.queue.now_ms + _REFUSED_PAUSE_MS
        self._network.on_acknowledged(self.number, reply.digest, reply)


class ByzantineClient:
    """A client that breaks the rules: two requests under one nonce, one here and one there; garbage; altered requests;
    requests that are too large; floods. It is owed no answer, and must not cost any other client its answer.

    Args:
        until_us: when it has had enough.
        on_fault: called at each of its faults.
    """

    def __init__(
        self,
        network: Network,
        number: int,
        cast: Cast,
        random: Random,
        aggregators: int,
        until_us: int,
        on_fault: Callable[[], None],
    ) -> None:
        self._network, self._number, self._cast, self._random = network, number, cast, random
        self._aggregators, self._until_us, self._on_fault = aggregators, until_us, on_fault
        self._nonce = 0
        self._sent: list[bytes] = []

    def begin(self) -> None:
        """Send something now and then."""
        self._network.queue.after(int(self._random.random() * _FAULT_EVERY_US), self._misbehave)

    def _misbehave(self) -> None:
        if self._network.queue.now_us >= self._until_us:
            return
        self._on_fault()
        faults = (self._send_two_with_one_nonce, self._send_garbage, self._alter, self._repeat, self._flood)
        self._random.choice(faults)()
        self._network.queue.after(int(self._random.expovariate(1.0) * _FAULT_EVERY_US), self._misbehave)

    def _send_two_with_one_nonce(self) -> None:
        self._nonce += 1
        requests = [self._signed(self._nonce) for _ in range(2)]
        for aggregator in range(self._aggregators):
            self._send(aggregator, self._random.choice(requests))

    def _send_garbage(self) -> None:
        size = self._random.choice([0, 1, 65, 1_000, _OVERSIZE_BYTES])
        self._send(self._random.randrange(self._aggregators), self._random.randbytes(size))

    def _alter(self) -> None:
        if self._sent:
            body = bytearray(self._random.choice(self._sent))
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
            self._send(self._random.randrange(self._aggregators), bytes(body))

    def _repeat(self) -> None:
        if self._sent:
            self._send(self._random.randrange(self._aggregators), self._random.choice(self._sent))

    def _flood(self) -> None:
        aggregator = self._random.randrange(self._aggregators)
        for _ in range(self._random.choice([10, 40])):
            self._nonce += self._random.choice([1, 1, 1, 1_000])
            self._send(aggregator, self._signed(self._nonce))

    def _signed(self, nonce: int) -> bytes:
        body = Withdraw(OrderId(sha256(self._random.randbytes(8))))
        request = sign(self._cast.network_id, body, self._cast.byzantine_client, nonce)
        self._network.on_submitted(self._number, request, "lie")
        self._sent.append(request)
        return request

    def _send(self, aggregator: int, request: bytes) -> None:
        self._network.submit(self._number, aggregator, request, self._random.random() < 0.5)

    def on_reply(self, aggregator: int, reply: SendReply) -> None:
        """Replies are ignored."""
