"""Streams of executed batches, bounded by connection, key and site, and pushed within a turn's time.

A stream runs on credit, which the client renews, so a slow reader never makes an aggregator keep anything for it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from pot_lab.network.aggregator.fair_queue import UsedTime
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.wire import Answer, Follow, Pushed
from pot_lab.network.zmtp.listener import Sender

STREAMS_IN_ALL = 4_096
STREAMS_PER_CONNECTION, STREAMS_PER_KEY = 16, 64
STREAM_TTL_MS = 30_000
PUSHES_A_TURN = 64
"""So many batches at most are pushed to a stream in one turn."""


class Stream(msgspec.Struct, kw_only=True):
    """One subscriber, and where it stands.

    Attributes:
        sender: whose it is, with the connection to it.
        stream: the number that it gave the stream.
        next_sequence: the batch that it gets next.
        credit: how many batches it may be sent before it renews.
        renewed_ms: when it last did, milliseconds since the Unix epoch.
    """

    sender: Sender
    stream: int
    next_sequence: int
    credit: int
    renewed_ms: int


class Streams:
    """All subscribers of an aggregator, in the order in which they were renewed."""

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[bytes, int], Stream] = OrderedDict()
        self._counts: Counter[tuple[str, str | bytes]] = Counter()
        self._sites: dict[str, OrderedDict[tuple[bytes, int], None]] = {}
        self._used_by_site, self._used_by_key = UsedTime(), UsedTime()
        self._is_behind = False
        self._looked_at_height = -1

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def busy(self) -> bool:
        """Whether `push` ended for lack of time and not of batches."""
        return self._is_behind

    def follow(self, sender: Sender, question: Follow, now_ms: int) -> bool:
        """Open or renew a stream; False when its connection or key has too many, or its site most of all there are.

        Where there are too many in all, the site that has most loses the one that was not renewed for longest.
        """
        name = sender.route, question.stream
        if name not in self._streams:
            if self._counts["route", sender.route] >= STREAMS_PER_CONNECTION:
                return False
            if self._counts["key", sender.key] >= STREAMS_PER_KEY:
                return False
            if len(self._streams) >= STREAMS_IN_ALL:
                largest = max(self._sites, key=lambda site: len(self._sites[site]))
                if len(self._sites.get(sender.site, ())) >= len(self._sites[largest]):
                    return False
                self.unfollow(*next(iter(self._sites[largest])))
            self._counts["route", sender.route] += 1
            self._counts["key", sender.key] += 1
            self._sites.setdefault(sender.site, OrderedDict())
        self._streams[name] = Stream(
            sender=sender,
            stream=question.stream,
            next_sequence=max(question.next_sequence, 1),
            credit=question.credit,
            renewed_ms=now_ms,
        )
        self._streams.move_to_end(name)
        self._sites[sender.site][name] = None
        self._sites[sender.site].move_to_end(name)
        self._looked_at_height = -1
        return True

    def unfollow(self, route: bytes, stream: int) -> None:
        """End a stream."""
        ended = self._streams.pop((route, stream), None)
        if ended is None:
            return
        sender = ended.sender
        for name in (("route", sender.route), ("key", sender.key)):
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
        del self._sites[sender.site][route, stream]
        if not self._sites[sender.site]:
            del self._sites[sender.site]

    def owed(self, height: int, now_ms: int) -> list[Stream]:
        """Streams with credit for a batch that is there; those whose client went silent end here."""
        while self._streams:
            oldest = next(iter(self._streams.values()))
            if oldest.renewed_ms >= now_ms - STREAM_TTL_MS:
                break
            self.unfollow(oldest.sender.route, oldest.stream)
        if not self._is_behind and height == self._looked_at_height:
            return []
        self._looked_at_height = height
        return [each for each in self._streams.values() if each.credit and each.next_sequence <= height]

    def push(
        self,
        history: History,
        now_ms: int,
        send: Callable[[bytes, Answer], bool],
        *,
        budget_s: float,
        clock: Callable[[], float],
    ) -> int:
        """Push executed batches to the streams that have credit for them, those first whose site and key have used
        least time, until the budget is spent; at least one stream has its turn.

        Returns: how many frames could not be sent.
        """
        owed = self.owed(history.height, now_ms)
        by_site, by_key = self._used_by_site, self._used_by_key
        owed.sort(key=lambda each: (by_site.of(each.sender.site), by_key.of(each.sender.key)))
        started_s = before_s = clock()
        unsent = 0
        read: dict[int, Sequence[HistoryRow]] = {}
        self._is_behind = False
        for number, stream in enumerate(owed):
            if number and before_s - started_s >= budget_s:
                self._is_behind = True
                break
            first = stream.next_sequence
            if first not in read:
                read[first] = history.read(first, PUSHES_A_TURN)
            rows = read[first][: stream.credit]
            for row in rows:
                pushed = Pushed(stream=stream.stream, sequence=row.sequence, time_ms=row.time_ms, events=row.events)
                unsent += not send(stream.sender.route, pushed)
            if rows:
                stream.next_sequence, stream.credit = rows[-1].sequence + 1, stream.credit - len(rows)
                self._is_behind |= stream.credit > 0 and stream.next_sequence <= history.height
            after_s = clock()
            by_site.charge(stream.sender.site, after_s - before_s)
            by_key.charge(stream.sender.key, after_s - before_s)
            before_s = after_s
        return unsent
