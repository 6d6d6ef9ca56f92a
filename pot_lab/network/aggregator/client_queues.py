"""Bounded queues of an aggregator's clients: questions, connections that wait for a reply, streams of batches.

Every client (one CURVE key) has its own short queue, served in turn, so a flood by one costs another at most one
message of each other client. Everything here is bounded; what exceeds its bound is refused or dropped and counted. A
stream of executed batches runs on credit: the client renews it, so a slow reader never makes an aggregator keep
anything for it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

import msgspec

from pot_lab.network.wire import Follow, Question

QUEUED_PER_CLIENT = 512
QUEUED_IN_ALL = 8_192
WAITING_IN_ALL = 50_000
WAITING_TTL_MS = 180_000
STREAMS_IN_ALL = 4_096
STREAMS_PER_CONNECTION = 16
STREAM_TTL_MS = 30_000


class FairQueue:
    """Questions of clients, taken one client at a time."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[tuple[bytes, Question]]] = OrderedDict()
        self._size = 0
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._size

    def put(self, client: str, route: bytes, question: Question) -> None:
        """Queue a client's question, or drop it when the client (or all of them) have too many."""
        queue = self._queues.get(client)
        if self._size >= QUEUED_IN_ALL or (queue is not None and len(queue) >= QUEUED_PER_CLIENT):
            self.counters["client_frames_dropped"] += 1
            return
        if queue is None:
            queue = self._queues[client] = deque()
        queue.append((route, question))
        self._size += 1

    def take(self) -> tuple[bytes, Question]:
        """The next client's oldest question, with the route back."""
        client, queue = self._queues.popitem(last=False)
        route, question = queue.popleft()
        self._size -= 1
        if queue:
            self._queues[client] = queue
        return route, question


class Waiting:
    """The connections that wait for the reply to a request, by the request's digest."""

    def __init__(self) -> None:
        self._routes: OrderedDict[bytes, tuple[int, list[bytes]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._routes)

    def add(self, digest: bytes, route: bytes, now_ms: int) -> None:
        """Note that `route` waits for this request; the longest waiting are dropped when there are too many."""
        known = self._routes.get(digest)
        if known is None:
            self._routes[digest] = (now_ms, [route])
        elif route not in known[1] and len(known[1]) < STREAMS_PER_CONNECTION:
            known[1].append(route)
        while self._routes:
            oldest_ms, _ = next(iter(self._routes.values()))
            if len(self._routes) <= WAITING_IN_ALL and oldest_ms >= now_ms - WAITING_TTL_MS:
                break
            self._routes.popitem(last=False)

    def pop(self, digest: bytes) -> list[bytes]:
        """Remove and return the connections that wait for this request."""
        _, routes = self._routes.pop(digest, (0, []))
        return routes


class Stream(msgspec.Struct, kw_only=True):
    """One subscriber, and where it stands.

    Attributes:
        route: the connection to it.
        stream: the number that it gave the stream.
        next_sequence: the batch that it gets next.
        credit: how many batches it may be sent before it renews.
        renewed_ms: when it last did, milliseconds since the Unix epoch.
    """

    route: bytes
    stream: int
    next_sequence: int
    credit: int
    renewed_ms: int


class Streams:
    """All subscribers of an aggregator."""

    def __init__(self) -> None:
        self._streams: dict[tuple[bytes, int], Stream] = {}
        self._per_route: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._streams)

    def follow(self, route: bytes, question: Follow, now_ms: int) -> bool:
        """Open or renew a stream; False when there are too many."""
        key = route, question.stream
        if key not in self._streams:
            if len(self._streams) >= STREAMS_IN_ALL or self._per_route[route] >= STREAMS_PER_CONNECTION:
                return False
            self._per_route[route] += 1
        first = max(question.next_sequence, 1)
        self._streams[key] = Stream(
            route=route, stream=question.stream, next_sequence=first, credit=question.credit, renewed_ms=now_ms
        )
        return True

    def unfollow(self, route: bytes, stream: int) -> None:
        """End a stream."""
        if self._streams.pop((route, stream), None) is not None:
            self._per_route[route] -= 1
            if not self._per_route[route]:
                del self._per_route[route]

    def owed(self, height: int, now_ms: int) -> list[Stream]:
        """Streams with credit for a batch that is there; those whose client went silent end here."""
        for stream in [each for each in self._streams.values() if each.renewed_ms < now_ms - STREAM_TTL_MS]:
            self.unfollow(stream.route, stream.stream)
        return [each for each in self._streams.values() if each.credit and each.next_sequence <= height]
