"""A request to stop a job, from whatever moment it arrives until the job's final state is written.

A job's process gets SIGTERM. Before the kernel runs there is nothing to interrupt, so the request unwinds the start;
while the kernel runs it interrupts the kernel; after that it is only recorded. Must not import anything slow: the
signal handlers must be in place before those imports.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


class Cancelled(BaseException):
    """A stop was requested. Not an `Exception`, so that no library's `except Exception` catches it."""


class Cancellation:
    """Whether a stop was requested, and what a request does at this stage of the job."""

    def __init__(self) -> None:
        self.requested = False
        self._act: Callable[[], None] = self._unwind

    def handle_signals(self) -> None:
        """Handle SIGTERM and SIGINT, also those that arrived while they were blocked; only from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

    def on_request(self, act: Callable[[], None]) -> None:
        """From now on a request calls `act`."""
        self._act = act

    def only_record(self) -> None:
        """From now on a request only sets `requested`."""
        self._act = lambda: None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and self._act is self._unwind:
            return  # unwinding already
        self.requested = True
        self._act()

    @staticmethod
    def _unwind() -> None:
        raise Cancelled
