"""The sockets of an aggregator: the gate that checks keys, links to the other aggregators, the port for clients."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping

import zmq

from pot_lab.network.config import AggregatorEntry
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.transport import Gate, PeerLinks
from pot_lab.network.wake_up import WakeUp
from pot_lab.network.wire import MAX_CLIENT_FRAME_BYTES, Answer, encode_frame
from pot_lab.network.zmtp.listener import ListeningPort

_PEER_FRAMES_A_TURN = 2_000
_UNSENT_BYTES = 8 << 20
_MEND_EVERY_MS = 1_000
_LEAST_SOCKETS, _SOCKETS_PER_AGGREGATOR = 1_023, 8


class Sockets:
    """All sockets of one aggregator, with one set of its keys.

    Args:
        entry, keys: where this aggregator listens, and its CURVE keys.
        peers: the other aggregators by number (`OwnSeat.peers`).
        n: how many aggregators there are, for the limit of sockets.
        wake_up: polled besides; outlives the sockets.
    Raises:
        PortTaken: another process listens on one of the two ports; nothing stays open.
    """

    def __init__(
        self, entry: AggregatorEntry, keys: CurveKeyPair, peers: Mapping[int, AggregatorEntry], n: int, wake_up: WakeUp
    ) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.max_sockets = max(_LEAST_SOCKETS, _SOCKETS_PER_AGGREGATOR * n)
        self._wake_up = wake_up
        self._mend_at_ms = 0
        with contextlib.ExitStack() as opened:
            opened.callback(context.term)  # waits until the ports are free
            self._gate = Gate(context, [each.curve_public for each in peers.values()])
            opened.callback(self._gate.socket.close)  # last of the sockets: connections that begin meanwhile need it
            self._links = PeerLinks(context, entry, keys, peers)
            opened.callback(self._links.close)
            self._clients = ListeningPort(
                entry.host,
                entry.client_port,
                keys,
                limit_bytes=MAX_CLIENT_FRAME_BYTES,
                unsent_limit_bytes=_UNSENT_BYTES,
            )
            opened.callback(self._clients.close)
            self._opened = opened.pop_all()
        self._poller = self._new_poller()

    @property
    def counters(self) -> Counter[str]:
        """What the links and the clients' port counted."""
        return self._links.counters + self._clients.counters

    @property
    def busy(self) -> bool:
        """Whether frames wait that `poll` does not tell of."""
        return self._clients.busy

    @property
    def client_connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @property
    def keys_refused(self) -> int:
        """How many connections the gate refused."""
        return self._gate.refused

    def poll(self, timeout_ms: int) -> set[object]:
        """Wait until something can be read, `wake_up` was woken or time is up; returns what can be read."""
        return {source for source, _ in self._poller.poll(timeout_ms)}

    def update(self, peers: Mapping[int, AggregatorEntry]) -> None:
        """Let these peers connect, and have links to them and no others."""
        self._gate.admit([each.curve_public for each in peers.values()])
        self._links.update(peers)
        self._poller = self._new_poller()

    def maintain(self, ready: Container[object], now_ms: int) -> None:
        """Answer the gate's requests, and dial again where libzmq gave up; once a turn, before frames are read."""
        if self._gate.socket in ready:
            self._gate.serve()
        if now_ms >= self._mend_at_ms:
            self._links.mend()
            self._mend_at_ms = now_ms + _MEND_EVERY_MS

    def was_woken(self, ready: Container[object]) -> bool:
        """Whether `wake_up` was woken; reads what was written to it."""
        return self._wake_up.source.fileno() in ready and self._wake_up.drain()

    def peer_frames(self, ready: Container[object]) -> Iterator[tuple[int, bytes]]:
        """Frames from peers, a turn's share of them, each with the number of the peer whose key sent it."""
        return self._links.receive(ready, _PEER_FRAMES_A_TURN)

    def client_frames(self, ready: Container[object]) -> Iterator[tuple[str, bytes, bytes | None]]:
        """Frames from clients, a turn's share of them: the client's CURVE key, the route back, the frame (None where
        the message had another number of frames).
        """
        if self._clients.source.fileno() in ready or self._clients.busy:
            for sender, frame in self._clients.messages():
                yield sender.key, sender.route, frame

    def send(self, to: int, frame: bytes) -> None:
        """Send a frame to one peer by its number; dropped when it is not connected."""
        self._links.send(to, frame)

    def broadcast(self, frame: bytes, below: int) -> None:
        """Send a frame to every peer whose number is below this."""
        self._links.broadcast(frame, below)

    def answer(self, route: bytes, answer: Answer) -> bool:
        """Queue an answer to a client for `flush`; False when its connection is gone or it reads too slowly."""
        return self._clients.send(route, encode_frame(answer))

    def flush(self) -> None:
        """Send the answers that were queued."""
        self._clients.flush()

    def close(self) -> None:
        """Close all sockets, dropping what was not sent, and wait until the ports are free."""
        self._opened.close()

    def _new_poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        for source in (self._gate.socket, *self._links.sources, self._clients.source, self._wake_up.source):
            poller.register(source, zmq.POLLIN)
        return poller
