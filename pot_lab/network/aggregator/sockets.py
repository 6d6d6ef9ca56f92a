"""The sockets of an aggregator: links to the other aggregators, the port for clients."""

from __future__ import annotations

import contextlib
import select
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping

from pot_lab.network.aggregator.peer_links import PeerLinks
from pot_lab.network.config import AggregatorEntry
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.wake_up import WakeUp
from pot_lab.network.wire import MAX_CLIENT_FRAME_BYTES, Answer, encode_frame
from pot_lab.network.zmtp.listener import ListeningPort, Sender

_PEER_FRAMES_A_TURN = 2_000
_CLIENTS_READING_S = 0.005
"""Clients' frames may take so long of one turn: a request passes some four turns of each aggregator."""
_UNSENT_BYTES = 8 << 20


class Sockets:
    """All sockets of one aggregator, with one set of its keys.

    Args:
        entry, keys: where this aggregator listens, and its CURVE keys.
        peers: the other aggregators by number (`OwnSeat.peers`).
        wake_up: polled besides; outlives the sockets.
    Raises:
        PortTaken: another process listens on one of the two ports; nothing stays open.
    """

    def __init__(
        self, entry: AggregatorEntry, keys: CurveKeyPair, peers: Mapping[int, AggregatorEntry], wake_up: WakeUp
    ) -> None:
        self._wake_up = wake_up
        with contextlib.ExitStack() as opened:
            self._links = PeerLinks(entry, keys, peers)
            opened.callback(self._links.close)
            self._clients = ListeningPort(
                entry.host,
                entry.client_port,
                keys,
                limit_bytes=MAX_CLIENT_FRAME_BYTES,
                unsent_limit_bytes=_UNSENT_BYTES,
                reading_s=_CLIENTS_READING_S,
            )
            opened.callback(self._clients.close)
            self._opened = opened.pop_all()
        self._poller = select.poll()
        for source in (*self._links.sources, self._clients.source):
            self._poller.register(source, select.POLLIN)
        self._poller.register(wake_up.source, select.POLLIN)

    @property
    def counters(self) -> Counter[str]:
        """What the links and the clients' port counted."""
        return self._links.counters + self._clients.counters

    @property
    def wait_ms(self) -> int | None:
        """How long the loop may wait at most; None for as long as it likes."""
        waits_ms = [each for each in (self._clients.wait_ms, self._links.wait_ms) if each is not None]
        return min(waits_ms, default=None)

    @property
    def client_connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def poll(self, timeout_ms: int) -> set[int]:
        """Wait until something can be read, `wake_up` was woken or time is up; the descriptors that can be read."""
        return {descriptor for descriptor, _ in self._poller.poll(timeout_ms)}

    def update(self, peers: Mapping[int, AggregatorEntry]) -> None:
        """Let these peers connect, and have links to them and no others."""
        self._links.update(peers)

    def maintain(self) -> None:
        """Dial again where a connection ended; once a turn, before frames are read."""
        self._links.maintain()

    def was_woken(self, ready: Container[object]) -> bool:
        """Whether `wake_up` was woken; reads what was written to it."""
        return self._wake_up.source.fileno() in ready and self._wake_up.drain()

    def peer_frames(self, ready: Container[object], wants: Callable[[int], bool]) -> Iterator[tuple[int, bytes]]:
        """Frames from peers, a turn's share of them, each with the number of the peer whose key sent it; of one that is
        not wanted none.
        """
        return self._links.receive(ready, _PEER_FRAMES_A_TURN, wants)

    def client_frames(
        self, ready: Container[object], wants: Callable[[Sender], bool]
    ) -> Iterator[tuple[Sender, bytes | None]]:
        """Frames from clients, a turn's share of them, each with who sent it (None where the message had another number
        of frames); of one that is not wanted none.
        """
        if self._clients.source.fileno() in ready or self._clients.wait_ms is not None:
            yield from self._clients.messages(wants)

    def send(self, to: int, frame: bytes) -> None:
        """Queue a frame for one peer by its number; dropped when it is not connected."""
        self._links.send(to, frame)

    def broadcast(self, frame: bytes, below: int) -> None:
        """Queue a frame for every peer whose number is below this."""
        self._links.broadcast(frame, below)

    def answer(self, route: bytes, answer: Answer) -> bool:
        """Queue an answer to a client for `flush`; False when its connection is gone or it reads too slowly."""
        return self._clients.send(route, encode_frame(answer))

    def flush_peers(self) -> None:
        """Send the frames for peers that were queued."""
        self._links.flush()

    def flush(self) -> None:
        """Send the answers that were queued."""
        self._clients.flush()

    def close(self) -> None:
        """Close all sockets, dropping what was not sent, and wait until the ports are free."""
        self._opened.close()
