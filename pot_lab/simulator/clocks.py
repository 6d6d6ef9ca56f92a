"""The clock of one host: wrong by a skew, wrong by more each second, or set wrong.

A replica's `Tick` carries what this clock shows. The network tolerates clocks that are within `clock_precision_ms` of
each other; what is further off counts as a fault of that host.
"""

from __future__ import annotations

from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US, START_MS, EventQueue


class Clock:
    """A host's clock over the run's true time.

    Args:
        skew_ms: how far ahead it is at the start (behind, if negative).
        drift_ppm: how many microseconds it gains each second.
    """

    def __init__(self, queue: EventQueue, skew_ms: int = 0, drift_ppm: int = 0) -> None:
        self._queue = queue
        self.skew_ms, self.drift_ppm = skew_ms, drift_ppm

    @property
    def error_us(self) -> int:
        """How far ahead of the true time it is now."""
        return self.skew_ms * MILLISECOND_US + self._queue.now_us * self.drift_ppm // SECOND_US

    @property
    def now_ms(self) -> int:
        """What it shows: milliseconds since the Unix epoch."""
        return START_MS + (self._queue.now_us + self.error_us) // MILLISECOND_US

    def when_us(self, shows_ms: int) -> int:
        """The true time, in microseconds since the start, at which it will show `shows_ms`; never before now."""
        ahead_ms = shows_ms - self.now_ms
        if ahead_ms <= 0:
            return self._queue.now_us
        return self._queue.now_us + ahead_ms * MILLISECOND_US * SECOND_US // (SECOND_US + self.drift_ppm) + 1

    def move(self, by_ms: int) -> None:
        """Set it forward, or back."""
        self.skew_ms += by_ms
