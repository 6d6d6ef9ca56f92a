"""A listening port for ZMTP connections under CURVE: many strangers, bounded by address and by key.

libzmq would buffer what comes without regard to who sent it, and aborts the process when a connection whose input it
stopped hangs up (security.md, "What a stranger reaches"). Here everything has a bound, and what is beyond it costs the
address that has most.
"""

from __future__ import annotations

import ipaddress
import itertools
import resource
import select
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pot_lab.errors import PortTaken
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.z85 import decode_z85, encode_z85
from pot_lab.network.zmtp.connection import Connection, tune
from pot_lab.network.zmtp.curve import ServerHandshake
from pot_lab.network.zmtp.registry import AcceptedConnection, ConnectionRegistry, site_of

MOST_CONNECTIONS = 4_096
CONNECTIONS_PER_KEY = 16
_ACCEPTS_A_TURN = 32
_EVENTS_A_TURN = 1_024
_MESSAGES_A_TURN = 32
_READING_S = 0.02
_NEW_EVERY = 4
_HANDSHAKE_S = 10.0
_SWEEP_S = 1.0
_UNWANTED_WAIT_MS = 5
_BYTES_IN_ALL = 256 << 20
_BACKLOG = 512
_WATCHED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Sender(NamedTuple):
    """Who sent a message: its CURVE key (Z85), where it comes from (`registry.site_of`), its connection's number."""

    key: str
    site: str
    route: bytes


class _Site:
    """Connections of one site that may have something to read: those that have a key, and those that shake hands."""

    def __init__(self) -> None:
        self.known: OrderedDict[bytes, AcceptedConnection] = OrderedDict()
        self.new: OrderedDict[bytes, AcceptedConnection] = OrderedDict()
        self._popped = 0

    def __len__(self) -> int:
        return len(self.known) + len(self.new)

    def add(self, accepted: AcceptedConnection) -> None:
        if accepted.connection.key:
            self.new.pop(accepted.route, None)
            self.known[accepted.route] = accepted
        else:
            self.new[accepted.route] = accepted

    def pop(self) -> AcceptedConnection:
        """The next one: of those that have a key, but for every fourth."""
        self._popped += 1
        is_news_turn = self.new and self._popped % _NEW_EVERY == 0
        _, accepted = (self.new if is_news_turn or not self.known else self.known).popitem(last=False)
        return accepted

    def discard(self, route: bytes) -> None:
        self.known.pop(route, None)
        self.new.pop(route, None)


class _Turns:
    """Connections that may have something to read, one of each site in turn; `has_progress` says whether the last
    reading looked at any. One reading takes at most `longest_s` of the thread's time, not of other processes'.

    A handshake is dear, and a new key costs its sender nothing: whoever opens connections all the time delays those
    that its neighbours at one address have already by little.
    """

    def __init__(self, longest_s: float, used_s: Callable[[], float]) -> None:
        self._longest_s, self._used_s, self._began_s = longest_s, used_s, 0.0
        self.has_progress = False
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def begin(self) -> None:
        """A reading begins."""
        self._began_s = self._used_s()

    @property
    def is_over(self) -> bool:
        """Whether the reading has taken as long as it may."""
        return self._used_s() - self._began_s >= self._longest_s

    def add(self, accepted: AcceptedConnection) -> None:
        waiting = self._sites.setdefault(accepted.site, _Site())
        self._size -= len(waiting)
        waiting.add(accepted)
        self._size += len(waiting)

    def pop(self) -> AcceptedConnection:
        site, waiting = self._sites.popitem(last=False)
        accepted = waiting.pop()
        self._size -= 1
        if len(waiting):
            self._sites[site] = waiting
        return accepted

    def discard(self, accepted: AcceptedConnection) -> None:
        waiting = self._sites.get(accepted.site)
        if waiting is not None:
            self._size -= len(waiting)
            waiting.discard(accepted.route)
            self._size += len(waiting)
            if not len(waiting):
                del self._sites[accepted.site]


class ListeningPort:
    """A port and its connections. Poll `source` for input, then call `messages`; call `flush` at the end of a turn.

    A turn takes a bounded number of messages of each connection, for a bounded time; the rest waits in the kernel,
    where it slows its sender down and nobody else.

    Args:
        host, port: where to listen; all interfaces for a name.
        keys: this side's CURVE keys.
        limit_bytes: the largest message that is taken.
        unsent_limit_bytes: above this a connection is sent nothing more until its reader catches up.
        admits: whether the holder of a CURVE key (Z85) may connect; anybody by default.
        most: so many connections at once, of which one site has at most half.
        share: at most one of so many descriptors that the process may open.
        reading_s: how long one turn of reading may take.
        clock: seconds, never going back.
        used_s: processor time of the thread, in seconds; `reading_s` is of this.
    Attributes:
        source: an epoll object, readable when there is something to do.
        counters: what was refused, evicted or broken.
    Raises:
        PortTaken: another process listens there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        keys: CurveKeyPair,
        *,
        limit_bytes: int,
        unsent_limit_bytes: int,
        admits: Callable[[str], bool] = lambda key: True,
        most: int = MOST_CONNECTIONS,
        share: int = 2,
        reading_s: float = _READING_S,
        clock: Callable[[], float] = time.monotonic,
        used_s: Callable[[], float] = time.thread_time,
    ) -> None:
        secret, public = decode_z85(keys.secret), decode_z85(keys.public)
        self._new_handshake: Callable[[], ServerHandshake] = lambda: ServerHandshake(
            secret, public, b"ROUTER", lambda key: admits(encode_z85(key))
        )
        self._limits = limit_bytes, unsent_limit_bytes
        self._clock = clock
        self._most = min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // share)
        self.counters: Counter[str] = Counter()
        self._accepting = _listen(host, port)
        self.source = select.epoll()
        self.source.register(self._accepting, select.EPOLLIN)
        self._connections, self._turns = ConnectionRegistry(), _Turns(reading_s, used_s)
        self._dirty: dict[bytes, AcceptedConnection] = {}
        self._numbers = itertools.count(1)
        self._sweep_at_s = 0.0

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def wait_ms(self) -> int | None:
        """How long to wait at most before `messages` is called again, since there may be some that `source` does not
        tell of; None where there are none. Where none of them was wanted it is some time, so that nobody spins.
        """
        if not self._turns:
            return None
        return 0 if self._turns.has_progress else _UNWANTED_WAIT_MS

    def messages(self, wants: Callable[[Sender], bool] = lambda sender: True) -> Iterator[tuple[Sender, bytes | None]]:
        """A turn's share of the messages that wait, each with who sent it; None for one of several parts.

        Args:
            wants: asked before a message is taken; while it says no, what this sender sends waits in the kernel.
        """
        now_s = self._clock()
        self._turns.begin()
        if now_s >= self._sweep_at_s:
            self._sweep(now_s)
        for number, mask in self.source.poll(0, _EVENTS_A_TURN):
            if number == self._accepting.fileno():
                self._accept(now_s)
            elif (accepted := self._connections.by_descriptor.get(number)) is not None:
                if mask & select.EPOLLOUT and accepted.connection.unsent_bytes:
                    self._flush(accepted)
                if mask & ~select.EPOLLOUT:
                    accepted.has_more = True
                    self._turns.add(accepted)
        self._turns.has_progress = False
        for _ in range(len(self._turns)):
            if not self._turns:
                return  # those that were left have ended
            yield from self._messages_of(self._turns.pop(), wants)
            if self._turns.is_over:
                return

    def send(self, route: bytes, body: bytes) -> bool:
        """Queue a message for a connection; False when it is gone, or its reader too slow."""
        accepted = self._connections.by_route.get(route)
        if accepted is None or not accepted.connection.send(body):
            return False
        self._count(accepted)
        self._dirty[route] = accepted
        return True

    def route_to(self, key: str) -> bytes | None:
        """The connection of a key that was heard of last; None without one."""
        held = self._connections.of_key(key)
        return held[-1].route if held else None

    def flush(self) -> None:
        """Hand what was queued to the kernel; what it does not take goes out as the readers read."""
        dirty, self._dirty = self._dirty, {}
        for accepted in dirty.values():
            self._flush(accepted)

    def disconnect(self, key: str) -> None:
        """End all connections of a key."""
        for accepted in self._connections.of_key(key):
            self._end(accepted)

    def close(self) -> None:
        """Close the port and all connections, dropping what was not sent."""
        for accepted in list(self._connections.by_route.values()):
            self._end(accepted)
        self.source.close()
        self._accepting.close()

    def _accept(self, now_s: float) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                stream, peer = self._accepting.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor is left: without room it would be reported for ever
                self.counters["descriptors_lacking"] += 1
                self._evict(self._connections.first_to_end())
                return
            try:
                tune(stream)
            except OSError:  # it hung up already
                stream.close()
                continue
            self._add(stream, site_of(str(peer[0])), now_s)

    def _add(self, stream: socket.socket, site: str, now_s: float) -> None:
        limit_bytes, unsent_limit_bytes = self._limits
        connection = Connection(
            stream, self._new_handshake(), limit_bytes=limit_bytes, unsent_limit_bytes=unsent_limit_bytes
        )
        route = next(self._numbers).to_bytes(8, "big")
        accepted = AcceptedConnection(connection=connection, route=route, site=site, began_s=now_s)
        self._connections.add(accepted)
        self.source.register(stream, _WATCHED)
        self._flush(accepted)
        if self._connections.of_site(site) > max(1, self._most // 2):
            self._evict(self._connections.first_to_end(site))
        if len(self._connections) > self._most:
            self._evict(self._connections.first_to_end())

    def _messages_of(
        self, accepted: AcceptedConnection, wants: Callable[[Sender], bool]
    ) -> Iterator[tuple[Sender, bytes | None]]:
        """One connection's share; it keeps its place among those to read until nothing more is there."""
        connection = accepted.connection
        self._turns.add(accepted)  # before anything is given: the caller may stop at any message
        sender = Sender(connection.key, accepted.site, accepted.route)
        for _ in range(_MESSAGES_A_TURN):
            if sender.key and not wants(sender):
                break
            self._turns.has_progress = True
            taken = connection.take()
            if taken is None:
                if connection.ended or not accepted.has_more:
                    self._turns.discard(accepted)
                    break
                accepted.has_more = connection.read()
            elif taken.is_message:
                self._connections.heard_of(accepted)
                yield sender, taken.body
                if connection.ended:
                    return  # the caller closed it
            elif connection.ready and not sender.key:
                sender = self._begin(accepted)
        if connection.ended:
            self._end(accepted)
        else:
            self._flush(accepted)  # what the handshake or a ping asked for

    def _begin(self, accepted: AcceptedConnection) -> Sender:
        """A handshake is over."""
        self._connections.became_ready(accepted)
        key = accepted.connection.key
        held = self._connections.of_key(key)
        if len(held) > CONNECTIONS_PER_KEY:
            self._evict(held[0])
        return Sender(key, accepted.site, accepted.route)

    def _flush(self, accepted: AcceptedConnection) -> None:
        if accepted.connection.unsent_bytes:
            accepted.connection.flush()
        if accepted.route in self._connections.by_route:
            self._count(accepted)

    def _count(self, accepted: AcceptedConnection) -> None:
        self._connections.count(accepted)
        while self._connections.bytes_in_all > _BYTES_IN_ALL:
            self._evict(self._connections.largest())

    def _sweep(self, now_s: float) -> None:
        """End what has not finished its handshake in time."""
        self._sweep_at_s = now_s + _SWEEP_S
        for accepted in list(self._connections.unready.values()):
            if accepted.began_s >= now_s - _HANDSHAKE_S:
                return  # they stand in the order in which they began
            self._end(accepted)

    def _evict(self, accepted: AcceptedConnection | None) -> None:
        if accepted is not None:
            self.counters["connections_evicted"] += 1
            self._end(accepted)

    def _end(self, accepted: AcceptedConnection) -> None:
        if accepted.route not in self._connections.by_route:
            return
        if accepted.connection.refused:
            self.counters["keys_refused"] += 1
        elif accepted.route in self._connections.unready:
            self.counters["handshakes_failed"] += 1
        self._connections.remove(accepted)
        self._turns.discard(accepted)
        self._dirty.pop(accepted.route, None)
        accepted.connection.close()  # epoll forgets a closed descriptor by itself


def _listen(host: str, port: int) -> socket.socket:
    name = bind_host(host)
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    accepting = socket.socket(family, socket.SOCK_STREAM)
    try:
        accepting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        accepting.setblocking(False)
        accepting.bind((name, port))
        accepting.listen(_BACKLOG)
    except OSError as error:
        accepting.close()
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}", seen=port) from error
    return accepting


def bind_host(host: str) -> str:
    """The interface to listen on: the address itself where it is one, all interfaces for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "127.0.0.1" if host == "localhost" else "0.0.0.0"
