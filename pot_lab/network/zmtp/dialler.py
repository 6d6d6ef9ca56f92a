"""A connection that is dialled, and dialled again whenever it ends.

Nothing that the other side is, sends or lacks raises: a name that leads nowhere, a closed port and a wrong key are
counted and tried again.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from pot_lab.errors import Malformed
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.z85 import decode_z85
from pot_lab.network.zmtp.connection import Connection, tune
from pot_lab.network.zmtp.curve import ClientHandshake

_FIRST_RETRY_S, _LAST_RETRY_S = 0.02, 1.0
_HANDSHAKE_S = 10.0
_WATCHED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class HostLookup:
    """The address behind a host, looked up on a thread of its own unless it is an address already."""

    def __init__(self, host: str) -> None:
        self.address = ""
        self.is_over = False
        try:
            self._found(str(ipaddress.ip_address(host)))
        except ValueError:
            threading.Thread(target=self._look_up, args=(host,), daemon=True).start()

    def _look_up(self, host: str) -> None:
        try:
            self._found(str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]))
        except (OSError, UnicodeError):
            self._found("")

    def _found(self, address: str) -> None:
        self.address = address
        self.is_over = True


class Dialler:
    """The connection to one place, which must have one key.

    Args:
        host, port: where to.
        server_key: the CURVE key (Z85) that must answer there.
        keys: this side's CURVE keys.
        events: where the socket is registered; poll it and pass its events on to `on_event`.
        limit_bytes, unsent_limit_bytes: see `Connection`.
        counters: counts `dials_failed`, of these `dials_refused` where a ZMTP port ended the handshake (keys do not
            fit), and `connections_lost`.
    Attributes:
        busy: whether messages may wait that no event tells of again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        server_key: str,
        keys: CurveKeyPair,
        events: select.epoll,
        *,
        limit_bytes: int,
        unsent_limit_bytes: int,
        counters: Counter[str],
    ) -> None:
        self._place = host, port
        secret, public = decode_z85(keys.secret), decode_z85(keys.public)
        try:
            server = decode_z85(server_key)
        except Malformed:
            server = bytes(32)  # nobody's key: each handshake with it fails, and is counted
        self._new_handshake: Callable[[], ClientHandshake] = lambda: ClientHandshake(secret, public, server, b"DEALER")
        self._events, self._counters = events, counters
        self._limits = limit_bytes, unsent_limit_bytes
        self._lookup: HostLookup | None = None
        self._connection: Connection | None = None
        self._dialled_at_s = self._retry_at_s = 0.0
        self._retry_s = _FIRST_RETRY_S
        self.busy = self._is_greeted = False

    @property
    def ready(self) -> bool:
        """Whether messages can be sent."""
        return self._connection is not None and self._connection.ready

    @property
    def descriptor(self) -> int:
        """The socket's descriptor, by which events name it; -1 without one."""
        return -1 if self._connection is None else self._connection.stream.fileno()

    def maintain(self, now_s: float) -> None:
        """Dial where there is no connection; give up what takes too long. Called every turn."""
        if self._connection is None:
            if now_s >= self._retry_at_s:
                self._dial(now_s)
        elif not self._connection.ready and now_s - self._dialled_at_s > _HANDSHAKE_S:
            self._lose(now_s)

    def on_event(self, mask: int) -> None:
        """Its socket has something to read, or takes more."""
        if self._connection is not None and mask & select.EPOLLOUT:
            self._connection.flush()
        if mask & ~select.EPOLLOUT:
            self.busy = True

    def messages(self, most: int, now_s: float) -> Iterator[bytes | None]:
        """Up to `most` messages that wait; None for one of several parts. The caller may stop at any."""
        connection = self._connection
        for _ in range(most):
            if connection is None or not self.busy:
                return
            taken = connection.take()
            if taken is not None:
                if taken.is_message:
                    yield taken.body
            elif connection.ended:
                self._lose(now_s)
                return
            else:
                self.busy = connection.read() or connection.is_broken
                self._greet()

    def send(self, body: bytes) -> bool:
        """Queue a message for `flush`; False when there is no connection or its reader is too slow."""
        return self._connection is not None and self._connection.send(body)

    def flush(self) -> None:
        """Hand what was queued to the kernel."""
        if self._connection is not None:
            self._connection.flush()

    def close(self) -> None:
        """End the connection and dial no more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._retry_at_s = float("inf")
        self.busy = False

    def _greet(self) -> None:
        """Send what the handshake asks for. Once it is over the next failure is a first one again, and an empty message
        tells a ROUTER of libzmq, as an older release has, the way back.
        """
        if self._connection is not None:
            if self._connection.ready and not self._is_greeted:
                self._is_greeted = True
                self._retry_s = _FIRST_RETRY_S
                self._connection.send(b"")
            self._connection.flush()

    def _dial(self, now_s: float) -> None:
        host, port = self._place
        if self._lookup is None:
            self._lookup = HostLookup("127.0.0.1" if host == "localhost" else host)
        if not self._lookup.is_over:
            return
        address, self._lookup = self._lookup.address, None
        stream = None
        try:
            if not address:
                raise OSError(f"no address is known for {host}")
            stream = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            tune(stream)
            stream.connect_ex((address, port))  # what becomes of it is told by an event
            self._events.register(stream, _WATCHED)
        except (OSError, OverflowError):
            self._counters["dials_failed"] += 1
            if stream is not None:
                stream.close()
            self._wait(now_s)
            return
        limit_bytes, unsent_limit_bytes = self._limits
        self._connection = Connection(
            stream, self._new_handshake(), limit_bytes=limit_bytes, unsent_limit_bytes=unsent_limit_bytes
        )
        self._dialled_at_s, self.busy, self._is_greeted = now_s, False, False

    def _lose(self, now_s: float) -> None:
        connection, self._connection, self.busy = self._connection, None, False
        if connection is not None:
            self._counters["connections_lost" if connection.key else "dials_failed"] += 1
            if connection.is_greeted and not connection.key:
                self._counters["dials_refused"] += 1
            connection.close()
        self._wait(now_s)

    def _wait(self, now_s: float) -> None:
        self._retry_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
