"""How much of a turn those may take who must not delay what the aggregators decide: readings, unknown clients."""

from __future__ import annotations

from collections.abc import Callable

TURN_S = 0.002
"""At most so much in one turn."""
SHARE = 0.25
"""While the aggregators are deciding something, readings have so much of the time."""
_LEAST_WAIT_MS = 2


class TimeShare:
    """The time that something has. In a quiet turn it is whole again; in others it comes back by its share.

    One piece of work may take longer than what is left, which the next turns pay for.

    Args:
        clock: the time that the thread had, in seconds (`ServingClock`).
        share: part of the time, while something is decided.
    Attributes:
        left_s: what is left of it; negative after a reading that took longer.
    """

    def __init__(self, clock: Callable[[], float], share: float = SHARE) -> None:
        self._clock, self._share = clock, share
        self._at_s = clock()
        self.left_s = TURN_S

    @property
    def wait_ms(self) -> int:
        """How long to wait before what is left goes on, unless something else comes."""
        return 0 if self.left_s > 0 else _LEAST_WAIT_MS

    def begin(self, *, quiet: bool) -> None:
        """A turn begins; a quiet one is that in which nothing else is to be done."""
        now_s = self._clock()
        self.left_s = TURN_S if quiet else min(TURN_S, self.left_s + self._share * (now_s - self._at_s))
        self._at_s = now_s

    def spend(self, seconds: float) -> None:
        """It took so long."""
        self.left_s -= seconds
