"""The wires between hosts: delay, jitter, loss, duplication, reordering, bandwidth, cuts.

A link carries frames in order unless it is told to reorder. Bandwidth can be limited on each link (as the paper's
program throttled each connection) and on each host's uplink, which all its links share (as real machines are limited).
A cut has a direction, so a host may send that cannot receive. Frames carry the real encoding's bytes; their receivers
share one decoded message, since messages never change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from pot_lab.consensus.messages import Message, decode_message, encode_message
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US, EventQueue

FRAME_LIMIT_BYTES = 16 * 1024 * 1024
_BITS = 8


class Frame:
    """One encoded message, decoded once for all who receive it.

    Raises:
        Malformed: the encoding cannot be read back.
    """

    __slots__ = ("message", "size_bytes")

    def __init__(self, message: Message) -> None:
        data = encode_message(message)
        self.size_bytes = len(data)
        self.message = decode_message(data, limit_bytes=FRAME_LIMIT_BYTES)


@dataclass
class Weather:
    """How the links are.

    Attributes:
        latency_us: one way, from row to column.
        jitter_us: the most that is added to a frame's latency.
        loss, duplication, reordering: the chance of each, for each frame; a reordered frame overtakes or falls behind
            by up to `reordering_us`.
        link_bits_per_s, uplink_bits_per_s: bandwidth of each link, and of each host over all its links; None: no limit.
        overhead_bytes: what transport and encryption add to a frame.
    """

    latency_us: Sequence[Sequence[int]]
    jitter_us: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reordering_us: int = 200 * MILLISECOND_US
    link_bits_per_s: int | None = None
    uplink_bits_per_s: dict[int, int] = field(default_factory=dict)
    overhead_bytes: int = 0

    @classmethod
    def even(cls, hosts: int, latency_us: int = 500) -> Weather:
        """Every link alike."""
        return cls([[latency_us] * hosts for _ in range(hosts)])

    def calm_down(self) -> None:
        """Take away everything that is a fault; distances stay."""
        self.loss = self.duplication = self.reordering = 0.0
        self.jitter_us = min(self.jitter_us, 5 * MILLISECOND_US)


class Links:
    """All links between `hosts` hosts.

    Args:
        deliver: called with (sender, receiver, what was sent) when a frame arrives.
        counts: faults that happened are counted here, by kind.
    """

    def __init__(
        self,
        queue: EventQueue,
        random: Random,
        weather: Weather,
        deliver: Callable[[int, int, object], None],
        counts: Counter[str],
    ) -> None:
        self.weather = weather
        self.sent_bytes = 0
        self._queue, self._random, self._deliver, self._counts = queue, random, deliver, counts
        self._cuts: Counter[tuple[int, int]] = Counter()
        self._arrived_us: dict[tuple[int, int], int] = {}
        self._link_free_us: dict[tuple[int, int], int] = {}
        self._uplink_free_us: dict[int, int] = {}

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Let nothing pass from the first to the second of each pair; what is on its way is lost as well."""
        self._cuts.update(pairs)

    def heal(self, pairs: Iterable[tuple[int, int]] | None = None) -> None:
        """Undo a cut of these pairs, or all cuts."""
        if pairs is None:
            self._cuts.clear()
        else:
            self._cuts.subtract(pairs)
            self._cuts = +self._cuts

    def is_cut(self, sender: int, receiver: int) -> bool:
        """Whether nothing passes from one to the other."""
        return bool(self._cuts) and (sender, receiver) in self._cuts

    def send(self, sender: int, receiver: int, what: object, size_bytes: int) -> None:
        """Put a frame on a link; it arrives later, or twice, or never."""
        weather, random = self.weather, self._random
        if self.is_cut(sender, receiver):
            self._counts["frame_cut_off"] += 1
            return
        copies = 1
        if weather.loss and random.random() < weather.loss:
            self._counts["frame_lost"] += 1
            copies = 0
        elif weather.duplication and random.random() < weather.duplication:
            self._counts["frame_duplicated"] += 1
            copies = 2
        size_bytes += weather.overhead_bytes
        self.sent_bytes += size_bytes
        left_us = self._through(sender, receiver, size_bytes)
        for _ in range(copies):
            self._arrive(sender, receiver, what, left_us)

    def _through(self, sender: int, receiver: int, size_bytes: int) -> int:
        """When the frame's last bit has left the host, given what was sent before it."""
        left_us = self._queue.now_us
        uplink = self.weather.uplink_bits_per_s.get(sender)
        if uplink is not None:
            left_us = max(left_us, self._uplink_free_us.get(sender, 0)) + size_bytes * _BITS * SECOND_US // uplink
            self._uplink_free_us[sender] = left_us
        if self.weather.link_bits_per_s is not None:
            link = (sender, receiver)
            needs_us = size_bytes * _BITS * SECOND_US // self.weather.link_bits_per_s
            left_us = max(left_us, self._link_free_us.get(link, 0)) + needs_us
            self._link_free_us[link] = left_us
        return left_us

    def _arrive(self, sender: int, receiver: int, what: object, left_us: int) -> None:
        weather, random, link = self.weather, self._random, (sender, receiver)
        at_us = left_us + weather.latency_us[sender][receiver]
        if weather.jitter_us:
            at_us += int(random.random() * weather.jitter_us)
        if weather.reordering and random.random() < weather.reordering:
            self._counts["frame_reordered"] += 1
            at_us += int(random.random() * weather.reordering_us)
        else:
            at_us = max(at_us, self._arrived_us.get(link, 0))
            self._arrived_us[link] = at_us
        self._queue.at(at_us, lambda: self._end(sender, receiver, what))

    def _end(self, sender: int, receiver: int, what: object) -> None:
        if self.is_cut(sender, receiver):
            self._counts["frame_cut_off"] += 1
        else:
            self._deliver(sender, receiver, what)


def split_pairs(one: Iterable[int], other: Iterable[int]) -> list[tuple[int, int]]:
    """Both directions of every link between two groups."""
    others = list(other)
    return [pair for a in one for b in others for pair in ((a, b), (b, a))]


class Wired:
    """Whose hosts speak over `links`."""

    links: Links

    def send(self, sender: int, receiver: int, frame: Frame) -> None:
        """Put a frame on a link."""
        self.links.send(sender, receiver, frame, frame.size_bytes)

    def broadcast(self, sender: int, hosts: int, frame: Frame) -> None:
        """Put a frame on a host's links to the first hosts."""
        for receiver in range(hosts):
            if receiver != sender:
                self.links.send(sender, receiver, frame, frame.size_bytes)
