"""The stage of one run: hosts, the links between them and to their clients, and the time that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from pot_lab.simulator.links import Links, Weather
from pot_lab.simulator.nodes import SimulatedNode
from pot_lab.simulator.trace import Trace
from pot_lab.simulator.virtual_time import EventQueue

_CLIENT_LATENCY_US, _CLIENT_JITTER_US = 300, 2_000


class ClientLinks:
    """The links between clients and aggregators.

    Args:
        random: decides what is lost, and how long the rest takes.
        counts: lost frames are counted here, by kind.
    Attributes:
        loss: the chance that a frame is lost.
    """

    def __init__(self, queue: EventQueue, random: Random, counts: Counter[str]) -> None:
        self.loss = 0.0
        self._queue, self._random, self._counts = queue, random, counts

    def carry(self, action: Callable[[], None]) -> None:
        """Let `action`, the arrival of a frame, happen later, or never."""
        if self.loss and self._random.random() < self.loss:
            self._counts["client_frame_lost"] += 1
            return
        self._queue.after(_CLIENT_LATENCY_US + int(self._random.random() * _CLIENT_JITTER_US), action)


class Stage:
    """What a run's faults act on.

    Args:
        seats: how many aggregators the network has at first.
        hosts: how many hosts there are.
        weather: how the links are at first.
        random_of: a source of randomness by name.
        deliver: called with (sender, receiver, frame) when a frame arrives at a host.

    Attributes:
        queue: the run's time.
        trace: what happened.
        faults: how often each kind of fault happened.
        links: those between hosts.
        client_links: those between hosts and clients.
        nodes: the hosts, by number.
    """

    def __init__(
        self,
        seats: int,
        hosts: int,
        weather: Weather,
        random_of: Callable[[str], Random],
        deliver: Callable[[int, int, object], None],
    ) -> None:
        self.seats, self.hosts = seats, hosts
        self.queue = EventQueue()
        self.trace = Trace(self.queue)
        self.faults: Counter[str] = Counter()
        self.links = Links(self.queue, random_of("links"), weather, deliver, self.faults)
        self.client_links = ClientLinks(self.queue, random_of("client links"), self.faults)
        self.nodes: list[SimulatedNode] = []
