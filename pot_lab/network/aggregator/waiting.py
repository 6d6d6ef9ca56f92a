"""Which connections wait for the reply to which request."""

from __future__ import annotations

from collections import OrderedDict

WAITING_IN_ALL = 50_000
WAITING_TTL_MS = 180_000
ROUTES_PER_REQUEST = 16


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
        elif route not in known[1] and len(known[1]) < ROUTES_PER_REQUEST:
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
