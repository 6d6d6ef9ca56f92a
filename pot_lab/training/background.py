"""Slow work beside the training: one piece at a time on another thread, and only the newest of what waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SHARE = 0.05
"""At most this part of the time goes into the work of one worker."""


class Background:
    """Does pieces of work on a thread that ends when none is left.

    A piece that waits is replaced by a newer one. Pieces start so far apart that they take `SHARE` of the time at
    most; `finish` does the last one without a wait.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._changed = threading.Condition()
        self._waiting: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._rested_at = -float("inf")
        self._hurry = False
        self._error: BaseException | None = None
        self.cost_s = 0.0
        """What a piece took, in seconds: the longest, older ones counting less and less."""

    def put(self, work: Callable[[], None]) -> None:
        """Do this soon, in place of what waits. Raises what an earlier piece raised."""
        self.check()
        with self._changed:
            self._waiting = work
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def run(self, work: Callable[[], None]) -> None:
        """Do a piece on this thread; its time counts as that of the others. Raises what it raises."""
        began = self._clock()
        try:
            work()
        finally:
            took = self._clock() - began
            with self._changed:
                self.cost_s = max(took, 0.9 * self.cost_s)
                self._rested_at = self._clock() + took * (1 / SHARE - 1)

    def is_due(self) -> bool:
        """Whether another piece would start at once."""
        with self._changed:
            return self._thread is None and self._clock() >= self._rested_at

    def check(self) -> None:
        """Raise what a piece raised, once."""
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def finish(self, timeout_s: float | None = None, *, drop: bool = False) -> bool:
        """Wait until nothing is left to do; returns whether that came within `timeout_s` seconds.

        Args:
            timeout_s: how long to wait at most; None for as long as it takes.
            drop: whether what has not begun shall not be done.
        Raises: what a piece raised.
        """
        with self._changed:
            self._hurry = True
            if drop:
                self._waiting = None
            self._changed.notify_all()
            over = self._changed.wait_for(lambda: self._thread is None, timeout_s)
            self._hurry = False
        self.check()
        return over

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._waiting is not None and not self._hurry and self._clock() < self._rested_at:
                    self._changed.wait(self._rested_at - self._clock())
                work, self._waiting = self._waiting, None
                if work is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
            try:
                self.run(work)
            except BaseException as error:  # raised again where the training is
                with self._changed:
                    self._error = error
