"""Who is served next: the site that has used least time, and of it the client that has.

Time is measured, not questions counted, so a client whose questions are dear has fewer turns. CURVE keys cost nothing,
so a site (an address, see `zmtp.registry.site_of`) has one share whatever number of keys it uses, and its clients share
that. This is fair queueing by virtual time: who was idle begins at the least that anybody active has used, and saves
nothing up.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pot_lab.network.zmtp.listener import Sender

QUEUED_PER_CLIENT, QUEUED_PER_SITE, QUEUED_IN_ALL = 512, 4_096, 8_192
BYTES_PER_CLIENT, BYTES_PER_SITE, BYTES_IN_ALL = 4 << 20, 32 << 20, 64 << 20
_ALWAYS_PER_CLIENT = 8
_REMEMBERED = 16_384

T = TypeVar("T")


class UsedTime:
    """Time used by each name, in seconds; one that was idle counts from where the others are."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._floor = 0.0

    def of(self, name: str) -> float:
        """What counts as used by this name."""
        return max(self._floor, self._used.get(name, 0.0))

    def charge(self, name: str, seconds: float) -> None:
        """It was served, as the one that had used least, and that took so long."""
        self._floor = used = self.of(name)
        self._used[name] = used + seconds
        if len(self._used) > _REMEMBERED:
            self._used = {each: at for each, at in self._used.items() if at > self._floor}


class _Clients(Generic[T]):
    """The queues of one site's clients, and the order in which they are served."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[tuple[Sender, T, int]]] = {}
        self.bytes: Counter[str] = Counter()
        self.size = self.size_bytes = 0
        self.order: list[tuple[float, int, str]] = []
        self.used = UsedTime()


class FairQueue(Generic[T]):
    """Items of many clients, each served in its turn. Bounded in number and bytes, for each client and in all."""

    def __init__(self) -> None:
        self._sites: dict[str, _Clients[T]] = {}
        self._order: list[tuple[float, int, str]] = []
        self._used = UsedTime()
        self._tickets = itertools.count()
        self._size = self._bytes = 0
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._size

    def has_room(self, sender: Sender, items: int = 1) -> bool:
        """Whether so many items of this client may be added.

        A client that has next to nothing here has room even where the others have filled the queue, up to twice its
        size. One site fills no more than half of either.
        """
        clients = self._sites.get(sender.site)
        queue = None if clients is None else clients.queues.get(sender.key)
        held = 0 if queue is None else len(queue)
        factor = 2 if held < _ALWAYS_PER_CLIENT else 1
        if clients is not None and (
            clients.bytes[sender.key] > BYTES_PER_CLIENT
            or clients.size + items > factor * QUEUED_PER_SITE
            or clients.size_bytes > factor * BYTES_PER_SITE
        ):
            return False
        is_full = self._size + items > factor * QUEUED_IN_ALL or self._bytes > factor * BYTES_IN_ALL
        return not is_full and held + items <= QUEUED_PER_CLIENT

    def put(self, sender: Sender, item: T, size_bytes: int = 0) -> None:
        """Add an item of this many bytes, or drop it where there is no room."""
        if not self.has_room(sender):
            self.counters["client_frames_dropped"] += 1
            return
        self.adopt(sender, item, size_bytes)

    def adopt(self, sender: Sender, item: T, size_bytes: int = 0) -> None:
        """Add an item that another queue had room for."""
        clients = self._sites.get(sender.site)
        if clients is None:
            clients = self._sites[sender.site] = _Clients()
            heapq.heappush(self._order, (self._used.of(sender.site), next(self._tickets), sender.site))
        queue = clients.queues.get(sender.key)
        if queue is None:
            queue = clients.queues[sender.key] = deque()
            heapq.heappush(clients.order, (clients.used.of(sender.key), next(self._tickets), sender.key))
        queue.append((sender, item, size_bytes))
        clients.bytes[sender.key] += size_bytes
        self._count(clients, 1, size_bytes)

    def serve(
        self,
        handle: Callable[[Sender, T], float | None],
        clock: Callable[[], float],
        stays: Callable[[Sender], bool] = lambda sender: True,
    ) -> list[tuple[Sender, T, int]]:
        """Give the next item to `handle`, and charge its client what that took by the clock, in seconds; or what
        `handle` returns, where its cost comes later. There must be an item.

        Args:
            stays: asked afterwards whether what else the client has here is still to wait here.
        Returns: what is not, in its order; it is gone from this queue.
        """
        _, _, site = heapq.heappop(self._order)
        clients = self._sites[site]
        _, _, key = heapq.heappop(clients.order)
        sender, item, size_bytes = clients.queues[key].popleft()
        self._count(clients, -1, -size_bytes)
        clients.bytes[key] -= size_bytes
        started_s, cost_s, moved = clock(), None, list[tuple[Sender, T, int]]()
        try:
            cost_s = handle(sender, item)
            if not stays(sender):
                moved = [*clients.queues[key]]
                clients.queues[key].clear()
                self._count(clients, -len(moved), -clients.bytes[key])
        finally:
            self._settle(site, key, clock() - started_s if cost_s is None else cost_s)
        return moved

    def _count(self, clients: _Clients[T], items: int, size_bytes: int) -> None:
        clients.size += items
        clients.size_bytes += size_bytes
        self._size += items
        self._bytes += size_bytes

    def _settle(self, site: str, key: str, cost_s: float) -> None:
        clients = self._sites[site]
        self._used.charge(site, cost_s)
        clients.used.charge(key, cost_s)
        if clients.queues[key]:
            heapq.heappush(clients.order, (clients.used.of(key), next(self._tickets), key))
        else:
            del clients.queues[key], clients.bytes[key]
        if clients.queues:
            heapq.heappush(self._order, (self._used.of(site), next(self._tickets), site))
        else:
            del self._sites[site]
