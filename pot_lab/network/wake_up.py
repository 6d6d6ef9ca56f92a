"""Waking a poll loop from another thread or a signal handler: two connected sockets, one of which the loop polls."""

from __future__ import annotations

import socket

_READ_BYTES = 4_096


class WakeUp:
    """A byte pipe into a poll loop. `wake` may be called from anywhere; the rest belongs to the loop's thread.

    Attributes:
        source: the socket to poll for input.
    """

    def __init__(self) -> None:
        self._waker, self.source = socket.socketpair()
        for end in (self._waker, self.source):
            end.setblocking(False)

    def wake(self) -> None:
        """Make `source` readable; harmless when it is readable already, and after `close`."""
        try:
            self._waker.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # a full pipe wakes the loop as well, and a closed one has no loop

    def drain(self) -> bool:
        """Read what was written, so that the next poll waits again; returns whether there was anything."""
        try:
            return bool(self.source.recv(_READ_BYTES))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close both ends."""
        self._waker.close()
        self.source.close()
