"""Frames between an aggregator and its helper: four bytes of length, then a record. Bounded before they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pot_lab.errors import Oversize

LENGTH_BYTES = 4
_READ_BYTES = 1 << 16


class HelperChannel(Protocol):
    """The stream to one helper process, and the process."""

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send all of it. Raises OSError, TimeoutError among them."""
        ...

    def receive(self, size: int, timeout_s: float) -> bytes:
        """At least one byte and at most `size`; b"" when the helper closed. Raises OSError, TimeoutError among them."""
        ...

    def exit_status(self) -> int | None:
        """The helper's exit status, negative for a signal; None while it runs."""
        ...

    def kill(self) -> None:
        """End the helper, whatever it does, and free what belongs to it; harmless when it has ended."""
        ...


class HelperClosed(EOFError):
    """The other end closed the stream within or before a frame."""


def framed(record: bytes) -> bytes:
    """A record's bytes as one frame."""
    return len(record).to_bytes(LENGTH_BYTES, "big") + record


def read_frame(receive: Callable[[int], bytes], limit_bytes: int) -> bytes:
    """The next frame's record.

    Args:
        receive: gives at least one byte and at most as many as asked; b"" at the end of the stream.
        limit_bytes: the longest record.
    Raises:
        Oversize: the frame announces more; nothing of it was read.
        HelperClosed: the stream ended.
    """
    size = int.from_bytes(_exactly(receive, LENGTH_BYTES), "big")
    if size > limit_bytes:
        raise Oversize("a frame is too large", seen=f"{size} bytes", wanted=f"at most {limit_bytes} bytes")
    return _exactly(receive, size)


def _exactly(receive: Callable[[int], bytes], size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = receive(min(size - len(found), _READ_BYTES))
        if not data:
            raise HelperClosed("the stream ended within a frame")
        found += data
    return bytes(found)
