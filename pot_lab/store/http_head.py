"""What a server reads of a request before its body: bounded as a whole, not only line by line.

The standard library takes a hundred lines of 64 KiB each, so 128 connections could hold 800 MiB.
"""

from __future__ import annotations

from http.client import LineTooLong
from io import BufferedIOBase

HEAD_LIMIT_BYTES = 16 << 10
"""For the request's line and all its headers."""


class BoundedHead:
    """A connection's input, whose lines have a limit in all.

    Args:
        source: the input.
    """

    def __init__(self, source: BufferedIOBase) -> None:
        self._source = source
        self._left_bytes = HEAD_LIMIT_BYTES
        self._lines = 0
        self.closed = False

    def begin(self) -> None:
        """Another request comes."""
        self._left_bytes, self._lines = HEAD_LIMIT_BYTES, 0

    def readline(self, limit: int = -1) -> bytes:
        """The next line. A first line that is too long is cut as `limit` asks; for another one raises LineTooLong."""
        self._lines += 1
        line = self._source.readline(self._left_bytes + 1)
        if len(line) > self._left_bytes:
            if self._lines == 1:
                return line.ljust(max(limit, 0))  # so that the request is refused as too long
            raise LineTooLong("request's head")
        self._left_bytes -= len(line)
        return line

    def read1(self, size: int) -> bytes:
        """Some of the body."""
        return self._source.read1(size)

    def close(self) -> None:
        """Close the input."""
        self.closed = True
        self._source.close()
