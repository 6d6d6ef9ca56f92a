"""Links between aggregators: one connection for each pair, which carries both ways, under CURVE.

No part of libzmq: a peer that floods or hangs up can end nobody (security.md, "What a stranger reaches"), and what
cannot be dialled is counted and tried again. A message to a peer that is not connected is dropped, not queued: the
replica repeats what matters, and a peer that was away for an hour is not drowned in old votes.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.network.config import AggregatorEntry
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.wire import MAX_PEER_FRAME_BYTES
from pot_lab.network.zmtp.dialler import Dialler
from pot_lab.network.zmtp.listener import ListeningPort

_UNSENT_BYTES = 16 << 20
_MESSAGES_OF_ONE = 200
_DIALLING_WAIT_MS = 20
_MOST_ACCEPTED = 1_024


class PeerLinks:
    """This aggregator's links to the others. Which of two dials follows from their keys (`dials`).

    Args:
        own, keys: where this aggregator listens, and its CURVE keys.
        peers: the others by number.
        clock: seconds, never going back.
    Raises:
        PortTaken: another process listens on this aggregator's peer port.
    """

    def __init__(
        self,
        own: AggregatorEntry,
        keys: CurveKeyPair,
        peers: Mapping[int, AggregatorEntry],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters: Counter[str] = Counter()
        self._keys, self._clock = keys, clock
        self._numbers: dict[str, int] = {}
        self._peers: dict[int, AggregatorEntry] = {}
        self._dialled: dict[int, Dialler] = {}
        self._inbox = ListeningPort(
            own.host,
            own.peer_port,
            keys,
            limit_bytes=MAX_PEER_FRAME_BYTES,
            unsent_limit_bytes=_UNSENT_BYTES,
            admits=self._numbers.__contains__,
            most=_MOST_ACCEPTED,
            share=4,
            clock=clock,
        )
        self._events = select.epoll()
        self.update(peers)

    @property
    def counters(self) -> Counter[str]:
        """What was dropped, refused or not reached."""
        return self._counters + self._inbox.counters

    @property
    def sources(self) -> list[select.epoll]:
        """What to poll for input; always the same."""
        return [self._inbox.source, self._events]

    @property
    def wait_ms(self) -> int | None:
        """How long the loop may wait at most; None for as long as it likes."""
        if any(link.busy for link in self._dialled.values()):
            return 0
        dialling_ms = None if all(link.ready for link in self._dialled.values()) else _DIALLING_WAIT_MS
        waits_ms = [each for each in (dialling_ms, self._inbox.wait_ms) if each is not None]
        return min(waits_ms, default=None)

    def update(self, peers: Mapping[int, AggregatorEntry]) -> None:
        """Have links to these and no others; one to the same place under the same key goes on under its new number."""
        known = {_way_to(self._peers[number]): link for number, link in self._dialled.items()}
        self._dialled = {
            number: known.pop(way) if (way := _way_to(entry)) in known else self._dialler(entry)
            for number, entry in peers.items()
            if dials(self._keys.public, entry.curve_public)
        }
        for link in known.values():
            link.close()
        self._peers = dict(peers)
        gone = set(self._numbers) - {entry.curve_public for entry in peers.values()}
        self._numbers.clear()
        self._numbers.update((entry.curve_public, number) for number, entry in peers.items())
        for key in gone:
            self._inbox.disconnect(key)
        self.maintain()

    def _dialler(self, entry: AggregatorEntry) -> Dialler:
        return Dialler(
            entry.host,
            entry.peer_port,
            entry.curve_public,
            self._keys,
            self._events,
            limit_bytes=MAX_PEER_FRAME_BYTES,
            unsent_limit_bytes=_UNSENT_BYTES,
            counters=self._counters,
        )

    def receive(
        self, ready: Container[object], limit: int, wants: Callable[[int], bool] = lambda number: True
    ) -> Iterator[tuple[int, bytes]]:
        """About `limit` frames that wait, each with the number of the peer whose key sent it; each connection has its
        share of them.

        Args:
            ready: the descriptors of those `sources` that can be read.
            wants: asked for each peer before a frame of it is taken; while it says no, they wait in the kernel.
        """
        if self._inbox.source.fileno() in ready or self._inbox.wait_ms is not None:
            yield from self._accepted(wants)
        if self._events.fileno() in ready:
            self._take_events()
        share, now_s = min(_MESSAGES_OF_ONE, max(1, limit // (1 + len(self._dialled)))), self._clock()
        for number, link in self._dialled.items():
            if link.busy and wants(number):
                for data in link.messages(share, now_s):
                    if data is None:
                        self._counters["peer_frames_malformed"] += 1
                    elif data:
                        yield number, data
                    if not wants(number):
                        break

    def _take_events(self) -> None:
        links = {link.descriptor: link for link in self._dialled.values()}
        for descriptor, mask in self._events.poll(0):
            link = links.get(descriptor)
            if link is not None:
                link.on_event(mask)

    def _accepted(self, wants: Callable[[int], bool]) -> Iterator[tuple[int, bytes]]:
        for sender, data in self._inbox.messages(lambda sender: wants(self._numbers.get(sender.key, -1))):
            number = self._numbers.get(sender.key)
            if data is None or number is None:
                self._counters["peer_frames_malformed"] += 1
            elif data:  # an empty one is the beginning of a connection from an older release
                yield number, data

    def send(self, to: int, data: bytes) -> None:
        """Queue a frame for one peer, for `flush`; dropped when it is not connected or too much is unsent."""
        if not self._sent(to, data):
            self._counters["peer_frames_unsent"] += 1

    def _sent(self, to: int, data: bytes) -> bool:
        entry = self._peers.get(to)
        if entry is None:
            return False
        dialled = self._dialled.get(to)
        if dialled is not None:
            return dialled.send(data)
        route = self._inbox.route_to(entry.curve_public)
        return route is not None and self._inbox.send(route, data)

    def broadcast(self, data: bytes, below: int) -> None:
        """Queue a frame for every peer whose number is below this."""
        for to in self._peers:
            if to < below:
                self.send(to, data)

    def flush(self) -> None:
        """Hand what was queued to the kernel."""
        self._inbox.flush()
        for link in self._dialled.values():
            link.flush()

    def maintain(self) -> None:
        """Dial where there is no connection; once a turn."""
        now_s = self._clock()
        for link in self._dialled.values():
            link.maintain(now_s)

    def close(self) -> None:
        """Close everything, dropping what was not sent."""
        self._inbox.close()
        for link in self._dialled.values():
            link.close()
        self._events.close()


def dials(own: str, other: str) -> bool:
    """Whether the holder of the CURVE key `own` dials that of `other`, or is dialled by it.

    Both come to the same, and of a large set each dials about half.
    """
    low, high = sorted((own, other))
    is_low = tagged_hash("pot-lab/network/dials/1", low.encode(), high.encode())[0] % 2 == 0
    return (own == low) == is_low


def _way_to(entry: AggregatorEntry) -> tuple[str, int, str]:
    return entry.host, entry.peer_port, entry.curve_public
