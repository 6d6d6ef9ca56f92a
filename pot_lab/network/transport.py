"""ZeroMQ between aggregators and to clients: CURVE on everything, and the sender is who its key proves.

One ROUTER for peers, one for clients, one DEALER to each peer. Three traps, each with a test:

- libzmq consults a ZAP handler only at `inproc://zeromq.zap.01`; bound anywhere else, any key gets in. `Gate` is bound
  there before any socket listens, and the sockets enforce their domains, so without it nobody gets in.
- A routing id is the sender's own choice. Who sent a frame is its `User-Id`, which `Gate` derives from the proven key.
- ROUTER_HANDOVER lets one allowed key take over another's routing id. It stays off.

A message to a peer that is not connected is dropped, not queued (`IMMEDIATE`): the replica repeats what matters, and a
peer that was away for an hour is not drowned in old votes. libzmq gives a connection up for good when its handshake
fails (another program may have had the port for a moment), so `mend` makes links anew that took nothing for a while.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import zmq
from zmq.utils import z85

from pot_lab.network.config import AggregatorEntry
from pot_lab.network.errors import PortTaken
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
_MEND_S = 5.0
_RECONNECT_MS, _RECONNECT_MAX_MS = 20, 1_000


class Gate:
    """Decides which CURVE keys may connect where (ZeroMQ RFC 27), and names them.

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
        """Let these keys use the peer port from now on, and no others; who is connected already stays so."""
        self._peers = frozenset(peers)

    def serve(self) -> None:
        """Answer the questions that wait."""
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
    """This aggregator's links to the others.

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
        self.inbox = listen(context, own.host, own.peer_port, keys, PEER_DOMAIN, MAX_PEER_FRAME_BYTES, pace=self._pace)
        self._outboxes: dict[int, zmq.Socket[bytes]] = {}
        self._peers: dict[int, AggregatorEntry] = {}
        self._senders: dict[str, int] = {}
        self._silent_since_s: dict[int, float] = {}
        self.update(peers)

    def update(self, peers: Mapping[int, AggregatorEntry]) -> None:
        """Have links to these and no others; one to the same place under the same key goes on under its new number."""
        known = {_way_to(entry): self._outboxes[number] for number, entry in self._peers.items()}
        self._outboxes = {
            number: known.pop(way) if (way := _way_to(entry)) in known else self._connect(entry)
            for number, entry in peers.items()
        }
        for socket in known.values():
            socket.close(0)
        self._peers = dict(peers)
        self._senders = {entry.curve_public: number for number, entry in peers.items()}
        self._silent_since_s.clear()

    def _connect(self, entry: AggregatorEntry) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        prepare_dealer(socket, self._keys, entry.curve_public, pace=self._pace)
        socket.connect(entry.peer_url)
        return socket

    def receive(self, limit: int) -> Iterator[tuple[int, bytes]]:
        """Up to `limit` frames that wait, each with the number of the peer whose key sent it."""
        for user, _, data in receive(self.inbox, limit):
            sender = self._senders.get(user)
            if data is None or sender is None:
                self.counters["peer_frames_malformed"] += 1
            else:
                yield sender, data

    def send(self, to: int, data: bytes) -> None:
        """Hand a frame to one peer; dropped when it is not connected or its queue is full."""
        if to not in self._outboxes:
            self.counters["peer_frames_unsent"] += 1
            return
        try:
            self._outboxes[to].send(data, zmq.NOBLOCK)
        except zmq.Again:
            self.counters["peer_frames_unsent"] += 1
            self._silent_since_s.setdefault(to, time.monotonic())
            return
        if self._silent_since_s:
            self._silent_since_s.pop(to, None)

    def broadcast(self, data: bytes, below: int) -> None:
        """Hand a frame to every peer whose number is below this."""
        for to in self._outboxes:
            if to < below:
                self.send(to, data)

    def mend(self) -> None:
        """Connect anew to peers that took nothing for a while; called now and then."""
        now_s = time.monotonic()
        for to, since_s in list(self._silent_since_s.items()):
            if now_s - since_s >= _MEND_S:
                reconnect(self._outboxes[to], self._peers[to].peer_url)
                self._silent_since_s[to] = now_s

    def close(self) -> None:
        """Close all sockets, dropping what was not sent."""
        for socket in (self.inbox, *self._outboxes.values()):
            socket.close(0)


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
    """A ROUTER that listens under CURVE, its keys judged by the context's `Gate`; raises PortTaken.

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
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        data: bytes | None = frame.bytes
        while frame.more:
            frame, data = socket.recv(zmq.NOBLOCK, copy=False), None
        try:
            user = frame.get("User-Id")
        except zmq.ZMQError:
            user = ""
        yield str(user), route, data


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
