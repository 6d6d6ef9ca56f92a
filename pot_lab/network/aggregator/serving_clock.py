"""The time that an aggregator's thread had: what it computed, and what it waited for input or its disk.

Budgets and shares are parts of this time. Where other processes want the processors too, the thread stands still
without waiting for anything; that is nobody's doing here, so no peer and no client is charged for it, and none gets
anything back for it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator


class ServingClock:
    """Seconds that the calling thread used, and those in which it had nothing to do. It never goes back.

    What something cost is the difference of two readings; so is the time of which a share comes back.

    Args:
        used_s: processor time of the thread.
        now_s: seconds, never going back.
    """

    def __init__(
        self, used_s: Callable[[], float] = time.thread_time, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._used_s, self._now_s = used_s, now_s
        self._waited_s = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self._used_s() + self._waited_s

    @contextlib.contextmanager
    def waiting(self, at_most_s: float = math.inf) -> Iterator[None]:
        """What is done in here is waiting.

        Args:
            at_most_s: after so long it was over, and the thread waited for a processor.
        """
        used_s, began_s = self._used_s(), self._now_s()
        try:
            yield
        finally:
            waited_s = self._now_s() - began_s - (self._used_s() - used_s)
            self._waited_s += min(max(0.0, waited_s), at_most_s)
