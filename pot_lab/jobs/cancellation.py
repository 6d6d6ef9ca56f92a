"""One request to stop, from whatever moment it arrives until the job's final state is written.

A job's process gets SIGTERM. Before the kernel runs there is nothing to interrupt, so the request unwinds the start;
while the kernel runs it interrupts the kernel; after that it is only noted. Must not import anything slow: it guards
those very imports.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


class Cancelled(BaseException):
    """Stop was asked for. Not an `Exception`, so that no library's catch-all swallows it."""


class Cancellation:
    """Whether stop was asked for, and what to do about it now."""

    def __init__(self) -> None:
        self.requested = False
        self._act: Callable[[], None] = self._unwind

    def listen(self) -> None:
        """Take SIGTERM and SIGINT, also those that came while they were blocked; only from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

    def do(self, act: Callable[[], None]) -> None:
        """From now on a request calls `act`."""
        self._act = act

    def note_only(self) -> None:
        """From now on a request is only noted."""
        self._act = lambda: None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and self._act is self._unwind:
            return  # unwinding already
        self.requested = True
        self._act()

    @staticmethod
    def _unwind() -> None:
        raise Cancelled
