"""ZeroMQ between aggregators and to clients: CURVE on everything, and a sender is identified by its proven key.

One ROUTER for peers, one for clients, one DEALER to each peer that this aggregator dials. Three traps, each tested:

- libzmq consults a ZAP handler only at `inproc://zeromq.zap.01`; bound anywhere else, any key gets in. `Gate` is bound
  there before any socket listens, and the sockets enforce their domains, so without it nobody gets in.
- A routing id is the sender's own choice. Who sent a frame is its `User-Id`, which `Gate` derives from the proven key.
- ROUTER_HANDOVER lets one allowed key take over another's routing id. It stays off.

A message to a peer that is not connected is dropped, not queued (`IMMEDIATE`): the replica repeats what matters, and a
peer that was away for an hour is not drowned in old votes. libzmq gives a connection up for good when its handshake
fails (another program may have had the port for a moment, or the other did not know this key yet); `mend` dials anew.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.errors import PortTaken
from pot_lab.network.config import AggregatorEntry
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.wire import MAX_PEER_FRAME_BYTES

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
PEER_DOMAIN, CLIENT_DOMAIN = b"peer", b"client"
_HIGH_WATER_MARK = 2_000
_HEARTBEAT_MS, _SILENCE_MS = 2_000, 10_000
_PEERS_A_HEARTBEAT = 16
"""Heartbeats come so many times more seldom, squared, for each whole 16 aggregators: libzmq walks over all timers of a
thread to cancel one, and at n=100 that took a quarter of all processor time.
"""
_KEEP_ALIVE_S, _UNACKNOWLEDGED_MS = 10, 10_000
"""What finds a dead host in a large set: the kernel probes quiet connections, and has so much patience with others."""
_MEND_S = 20.0
_LOST_OR_RETRIED = int(zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
_RECONNECT_MS, _RECONNECT_MAX_MS = 20, 1_000


class Gate:
    """The ZAP handler (ZeroMQ RFC 27): decides which CURVE keys may connect where, and identifies them.

    Args:
        context: the context of the sockets it guards; one gate a context.
        peers: CURVE public keys (Z85) of those who may use the peer port.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], peers: Collection[str]) -> None:
        self.admit(peers)
        self.refused = 0
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)

    def admit(self, peers: Collection[str]) -> None:
        """Let these keys and no others use the peer port from now on; existing connections stay."""
        self._peers = frozenset(peers)

    def serve(self) -> None:
        """Answer the requests that wait."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._answer(frames))

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        version, call = (frames[0], frames[1]) if len(frames) >= 2 else (b"1.0", b"")
        user = b""
        if len(frames) == 7 and version == b"1.0" and frames[5] == b"CURVE" and len(frames[6]) == 32:
            key = z85.encode(frames[6]).decode()
            if frames[2] == CLIENT_DOMAIN or (frames[2] == PEER_DOMAIN and key in self._peers):
                user = key.encode()
        if not user:
            self.refused += 1
            return [b"1.0", call, b"400", b"this key may not connect here", b"", b""]
        return [b"1.0", call, b"200", b"OK", user, b""]


class PeerLinks:
    """This aggregator's links to the others: one connection for each pair, which carries both ways.

    Which of two dials follows from their keys (`dials`). The one that dials has a DEALER of its own for the other, and
    sends an empty frame on each new connection (PROBE_ROUTER); from that frame, whose sender its key proves, the other
    one's ROUTER learns the route back.

    Args:
        context: ZeroMQ context whose `Gate` stands already.
        own, keys: where this aggregator listens, and its CURVE keys.
        peers: the others by number.
    Raises:
        PortTaken: another process listens on this aggregator's peer port.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        own: AggregatorEntry,
        keys: CurveKeyPair,
        peers: Mapping[int, AggregatorEntry],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._context, self._keys = context, keys
        self._pace = max(1, (len(peers) + 1) // _PEERS_A_HEARTBEAT) ** 2
        self._inbox = listen(context, own.host, own.peer_port, keys, PEER_DOMAIN, MAX_PEER_FRAME_BYTES, pace=self._pace)
        self._inbox.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._peers: dict[int, AggregatorEntry] = {}
        self._dialled: dict[int, _Dialled] = {}
        self._numbers: dict[str, int] = {}
        self._routes: dict[str, bytes] = {}
        self.update(peers)

    @property
    def sources(self) -> list[zmq.Socket[bytes]]:
        """The sockets at which frames arrive; others after an `update`."""
        return [self._inbox, *(link.socket for link in self._dialled.values())]

    def update(self, peers: Mapping[int, AggregatorEntry]) -> None:
        """Have links to these and no others; one to the same place under the same key goes on under its new number."""
        known = {_way_to(self._peers[number]): link for number, link in self._dialled.items()}
        self._dialled = {
            number: known.pop(way) if (way := _way_to(entry)) in known else self._dial(entry)
            for number, entry in peers.items()
            if dials(self._keys.public, entry.curve_public)
        }
        for link in known.values():
            link.close()
        self._peers = dict(peers)
        self._numbers = {entry.curve_public: number for number, entry in peers.items()}

    def _dial(self, entry: AggregatorEntry) -> _Dialled:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.PROBE_ROUTER, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_PEER_FRAME_BYTES)
        prepare_dealer(socket, self._keys, entry.curve_public, pace=self._pace)
        return _Dialled(socket, entry.peer_url)

    def receive(self, ready: Container[object], limit: int) -> Iterator[tuple[int, bytes]]:
        """About `limit` frames that wait at those sources that are `ready`, each with the number of the peer whose key
        sent it. Each connection has its share of them.
        """
        if self._inbox in ready:
            yield from self._accepted(limit)
        share = max(1, limit // (1 + len(self._dialled)))
        for number, link in self._dialled.items():
            if link.socket in ready:
                for data in _single_frames(link.socket, share):
                    if data is None:
                        self.counters["peer_frames_malformed"] += 1
                    else:
                        yield number, data

    def _accepted(self, limit: int) -> Iterator[tuple[int, bytes]]:
        for user, route, data in receive(self._inbox, limit):
            if data == b"":
                self._routes[user] = route  # a new connection, so the one before is gone, or soon will be
                continue
            number = self._numbers.get(user)
            if data is None or number is None:
                self.counters["peer_frames_malformed"] += 1
            else:
                yield number, data

    def send(self, to: int, data: bytes) -> None:
        """Hand a frame to one peer; dropped when it is not connected or its queue is full."""
        if not self._sent(to, data):
            self.counters["peer_frames_unsent"] += 1

    def _sent(self, to: int, data: bytes) -> bool:
        entry = self._peers.get(to)
        if entry is None:
            return False
        dialled, route = self._dialled.get(to), self._routes.get(entry.curve_public)
        try:
            if dialled is not None:
                dialled.socket.send(data, zmq.NOBLOCK)
            elif route is not None:
                self._inbox.send(route, zmq.NOBLOCK | zmq.SNDMORE)
                self._inbox.send(data, zmq.NOBLOCK)
            else:
                return False
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            del self._routes[entry.curve_public]
            return False
        return True

    def broadcast(self, data: bytes, below: int) -> None:
        """Hand a frame to every peer whose number is below this."""
        for to in self._peers:
            if to < below:
                self.send(to, data)

    def mend(self) -> None:
        """Dial anew where libzmq gave up, or where nothing could be sent for `_MEND_S`; called from time to time."""
        for link in self._dialled.values():
            link.mend()

    def close(self) -> None:
        """Close all sockets, dropping what was not sent."""
        self._inbox.close(0)
        for link in self._dialled.values():
            link.close()


class _Dialled:
    """A DEALER that dials, and what has become of that. A connection that was lost and is not tried again was given up:
    the handshake was refused, or another protocol was spoken.
    """

    def __init__(self, socket: zmq.Socket[bytes], url: str) -> None:
        self.socket, self._url = socket, url
        self._monitor = socket.get_monitor_socket(_LOST_OR_RETRIED)
        self._is_lost = False
        self._writable_s = time.monotonic()
        socket.connect(url)

    def mend(self) -> None:
        now_s, was_lost = time.monotonic(), self._is_lost
        while int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._is_lost = recv_monitor_message(self._monitor)["event"] == zmq.EVENT_DISCONNECTED
            was_lost = False  # what follows may be on its way
        if int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
            self._is_lost, self._writable_s = False, now_s
        elif was_lost or now_s - self._writable_s >= _MEND_S:
            reconnect(self.socket, self._url)
            self._is_lost, self._writable_s = False, now_s

    def close(self) -> None:
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(0)


def dials(own: str, other: str) -> bool:
    """Whether the holder of the CURVE key `own` dials that of `other`, or is dialled by it.

    Both come to the same, and of a large set each dials about half.
    """
    low, high = sorted((own, other))
    is_low = tagged_hash("pot-lab/network/dials/1", low.encode(), high.encode())[0] % 2 == 0
    return (own == low) == is_low


def _way_to(entry: AggregatorEntry) -> tuple[str, str]:
    return entry.peer_url, entry.curve_public


def listen(
    context: zmq.Context[zmq.Socket[bytes]],
    host: str,
    port: int,
    keys: CurveKeyPair,
    domain: bytes,
    limit_bytes: int,
    *,
    pace: int = 1,
) -> zmq.Socket[bytes]:
    """A ROUTER that listens under CURVE, keys checked by the context's `Gate`; raises PortTaken.

    `pace`: so many times longer than usual between heartbeats.
    """
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, limit_bytes)
    socket.setsockopt(zmq.BACKLOG, 512)
    _common(socket, pace)
    try:
        socket.bind(f"tcp://{_bind_host(host)}:{port}")
    except zmq.ZMQError as error:
        socket.close(0)
        if error.errno in (zmq.EADDRINUSE, zmq.EADDRNOTAVAIL):
            raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}", seen=port) from error
        raise
    return socket


def prepare_dealer(socket: zmq.Socket[bytes], keys: CurveKeyPair, server_key: str, *, pace: int = 1) -> None:
    """Give a DEALER its CURVE keys, limits and reconnection rules; `pace` as for `listen`."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    _common(socket, pace)


def reconnect(socket: zmq.Socket[bytes], url: str) -> None:
    """Begin a connection again that may have been given up."""
    try:
        socket.disconnect(url)
    except zmq.ZMQError:
        pass  # it was given up already
    socket.connect(url)


def receive(socket: zmq.Socket[bytes], limit: int) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Up to `limit` messages that wait at a ROUTER: the proven `User-Id`, the route back, and the one frame after it.

    The frame is None where there is another number of them. Read frame by frame: `recv_multipart` takes twice as long.
    """
    for _ in range(limit):
        try:
            route = socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        frame, data = _one_frame(socket)
        try:
            user = frame.get("User-Id")
        except zmq.ZMQError:
            user = ""
        yield str(user), route, data


def _single_frames(socket: zmq.Socket[bytes], limit: int) -> Iterator[bytes | None]:
    """Up to `limit` messages that wait at a DEALER that is ready; None for one of several frames.

    Asks before each read but the first: an empty read raises, which takes seven times as long.
    """
    for count in range(limit):
        if count and not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return
        try:
            yield _one_frame(socket)[1]
        except zmq.Again:
            return


def _one_frame(socket: zmq.Socket[bytes]) -> tuple[zmq.Frame, bytes | None]:
    """The last frame of the message that waits, and its bytes if it is the only one."""
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    data: bytes | None = frame.bytes
    while frame.more:
        frame, data = socket.recv(zmq.NOBLOCK, copy=False), None
    return frame, data


def _common(socket: zmq.Socket[bytes], pace: int) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS * pace)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS * pace)
    socket.setsockopt(zmq.HEARTBEAT_TTL, _SILENCE_MS * pace)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEP_ALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEP_ALIVE_S // 2)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    socket.setsockopt(zmq.TCP_MAXRT, _UNACKNOWLEDGED_MS)


def _bind_host(host: str) -> str:
    """The interface to listen on: the address itself where it is one, all interfaces for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "127.0.0.1" if host == "localhost" else "*"
