"""Virtual time: a queue of what happens when, and nothing that reads the host's clock.

Everything in a run, messages, disks, clocks, clients and faults alike, is an action in this queue. Two actions at one
time happen in the order in which they were entered, so a run is a function of its seed. Time is in integer microseconds
since the run's start; `START_MS` is what a right clock shows then.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

START_MS = 1_800_000_000_000
MILLISECOND_US = 1_000
SECOND_US = 1_000_000

Action = Callable[[], None]


class EventQueue:
    """What is to happen, in order.

    Attributes:
        now_us: the time of the last action.
        events: how many actions have happened.
    """

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._entered = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def now_ms(self) -> int:
        """What a right clock shows: milliseconds since the Unix epoch."""
        return START_MS + self.now_us // MILLISECOND_US

    def at(self, at_us: int, action: Action) -> None:
        """Let something happen at a time, or now if that is over."""
        self._entered += 1
        heapq.heappush(self._heap, (max(at_us, self.now_us), self._entered, action))

    def after(self, delay_us: int, action: Action) -> None:
        """Let something happen so much later."""
        self.at(self.now_us + delay_us, action)

    def step(self) -> bool:
        """Let the next thing happen; False when nothing is left."""
        if not self._heap:
            return False
        self.now_us, _, action = heapq.heappop(self._heap)
        self.events += 1
        action()
        return True

    def run(self, until_us: int) -> None:
        """Let everything happen that is due until a time."""
        while self._heap and self._heap[0][0] <= until_us:
            self.step()
        self.now_us = max(self.now_us, until_us)
