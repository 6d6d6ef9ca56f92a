"""Who may stay connected to the blob server: bounded in all and by address, and only who moves bytes.

When all places are taken, a new connection gets that of the one that has waited longest without a request, else that of
the slowest transfer. So connections that say nothing, or little, keep nobody out, and no client can hold all places.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CONNECTION_LIMIT = 128
ADDRESS_LIMIT = 64
IDLE_TIMEOUT_S = 30.0
"""How long a connection may take to send a request's head, and rest between two requests."""
GRACE_S = 30.0
LEAST_BYTES_PER_S = 32 << 10
"""A request is ended when it has moved less than this on average, beside its first GRACE_S."""
PRESSED_GRACE_S = 2.0
PRESSED_BYTES_PER_S = 256 << 10
"""While all places are taken, a transfer slower than this gives its place up to somebody else."""


@dataclass(kw_only=True, eq=False)
class OpenConnection:
    """A connection: where from, since when it waits or works on its request, and how many bytes that has moved."""

    request: socket.socket
    place: str
    since_s: float
    busy: bool = False
    moved_bytes: int = 0

    def cut(self) -> None:
        """End it; whoever reads or writes on it notices."""
        try:
            self.request.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def rate(self, now_s: float, grace_s: float) -> float:
        """Bytes a second, after a grace; infinite within it."""
        worked_s = now_s - self.since_s - grace_s
        return self.moved_bytes / worked_s if worked_s > 0 else float("inf")


class Connections:
    """The connections of one server; may be used from any thread.

    Args:
        limit: most in all.
        address_limit: most of one address (of one /64 in IPv6).
        clock_s: a clock, in seconds.
    """

    def __init__(
        self,
        limit: int = CONNECTION_LIMIT,
        address_limit: int = ADDRESS_LIMIT,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._address_limit, self._clock_s = limit, address_limit, clock_s
        self._lock = threading.Lock()
        self._open: dict[socket.socket, OpenConnection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, request: socket.socket, address: str) -> bool:
        """Take in a new connection, in the place of another one if need be; False when none can give way."""
        place = place_of(address)
        with self._lock:
            same = [one for one in self._open.values() if one.place == place]
            if len(same) >= self._address_limit:
                leaving = self._give_way(same)
            elif len(self._open) >= self._limit:
                leaving = self._give_way(list(self._open.values()))
            else:
                leaving = None
                self._open[request] = OpenConnection(request=request, place=place, since_s=self._clock_s())
                return True
            if leaving is None:
                return False
            del self._open[leaving.request]
            self._open[request] = OpenConnection(request=request, place=place, since_s=self._clock_s())
        leaving.cut()
        return True

    def _give_way(self, among: list[OpenConnection]) -> OpenConnection | None:
        waiting = [one for one in among if not one.busy]
        if waiting:
            return min(waiting, key=lambda one: one.since_s)
        now_s = self._clock_s()
        slowest = min(among, key=lambda one: one.rate(now_s, PRESSED_GRACE_S))
        return slowest if slowest.rate(now_s, PRESSED_GRACE_S) < PRESSED_BYTES_PER_S else None

    def leave(self, request: socket.socket) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._open.pop(request, None)

    def begin(self, request: socket.socket) -> None:
        """A connection's request has been read and is carried out now."""
        self._turn(request, busy=True)

    def end(self, request: socket.socket) -> None:
        """A connection's request has been answered."""
        self._turn(request, busy=False)

    def _turn(self, request: socket.socket, *, busy: bool) -> None:
        with self._lock:
            one = self._open.get(request)
            if one is not None:
                one.busy, one.since_s, one.moved_bytes = busy, self._clock_s(), 0

    def moved(self, request: socket.socket, size_bytes: int) -> None:
        """So many bytes of a body went over a connection."""
        with self._lock:
            one = self._open.get(request)
            if one is not None:
                one.moved_bytes += size_bytes

    def reap(self) -> int:
        """End connections that wait too long or move too little; returns how many."""
        with self._lock:
            now_s = self._clock_s()
            late = [
                one
                for one in self._open.values()
                if (one.rate(now_s, GRACE_S) < LEAST_BYTES_PER_S if one.busy else now_s - one.since_s > IDLE_TIMEOUT_S)
            ]
            for one in late:
                del self._open[one.request]
        for one in late:
            one.cut()
        return len(late)


def place_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or an IPv6 network of 64 bits, which one host has to itself.

    >>> place_of("192.0.2.7"), place_of("2001:db8::1:2")
    ('192.0.2.7', '2001:db8::')
    """
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(one, ipaddress.IPv6Address):
        mapped = one.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.IPv6Address(int(one) >> 64 << 64))
    return str(one)


def is_loopback(place: str) -> bool:
    """Whether a place, as of `place_of`, is this host."""
    try:
        return ipaddress.ip_address(place).is_loopback or place == "::"
    except ValueError:
        return False
