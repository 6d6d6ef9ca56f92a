"""Greeting and frames of ZMTP 3.1 (ZeroMQ RFC 37), read from a stream of bytes with a limit on each frame."""

from __future__ import annotations

from typing import NamedTuple

from pot_lab.errors import Malformed, Oversize

GREETING_BYTES = 64
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_VERSION = b"\x03\x01"
_MECHANISM = b"CURVE".ljust(20, b"\0")
_MORE, _LONG, _COMMAND = 1, 2, 4
_SHORT_LIMIT_BYTES = 255
_COMPACT_BYTES = 64 * 1024


class ZmtpFrame(NamedTuple):
    """One frame; `more` says that the message goes on in the next."""

    is_command: bool
    more: bool
    body: bytes


def greeting(*, as_server: bool) -> bytes:
    """The first 64 bytes that each side sends."""
    return _SIGNATURE + _VERSION + _MECHANISM + bytes([as_server]) + bytes(31)


def check_greeting(data: bytes) -> None:
    """Raise Malformed unless this is a greeting of ZMTP 3 under CURVE; libzmq gives no role, so none is asked for."""
    if data[:1] != b"\xff" or not data[9] & 1 or data[10] < 3:
        raise Malformed("the greeting is not that of ZMTP 3", seen=data[:12], wanted=_SIGNATURE + _VERSION)
    if data[12:32] != _MECHANISM:
        raise Malformed("the greeting names another mechanism", seen=data[12:32], wanted="CURVE")


def encode_frame(body: bytes, *, is_command: bool = False) -> bytes:
    """A frame that is a message of its own."""
    flags = _COMMAND if is_command else 0
    if len(body) > _SHORT_LIMIT_BYTES:
        return bytes([flags | _LONG]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body


class FrameReader:
    """Takes bytes as they come and gives whole frames. It never holds more than was fed and not taken.

    Args:
        limit_bytes: the largest body; may be changed between frames.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._at = 0

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        if self._at > _COMPACT_BYTES or self._at == len(self._buffer):
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def take_bytes(self, count: int) -> bytes | None:
        """The next `count` bytes, or None while they are not all here."""
        if len(self) < count:
            return None
        data = bytes(self._buffer[self._at : self._at + count])
        self._at += count
        return data

    def take(self) -> ZmtpFrame | None:
        """The next frame, or None while it is not whole.

        Raises:
            Malformed: a reserved bit is set, or a command says that it goes on.
            Oversize: it states more than `limit_bytes`; said before its body has come.
        """
        buffer, at = self._buffer, self._at
        here = len(buffer) - at
        if here < 2:
            return None
        flags = buffer[at]
        if flags & ~(_MORE | _LONG | _COMMAND) or flags & (_MORE | _COMMAND) == _MORE | _COMMAND:
            raise Malformed("a frame has flags that ZMTP does not know", seen=flags)
        if flags & _LONG:
            if here < 9:
                return None
            size_bytes, at = int.from_bytes(buffer[at + 1 : at + 9], "big"), at + 9
        else:
            size_bytes, at = buffer[at + 1], at + 2
        if size_bytes > self.limit_bytes:
            raise Oversize(
                "a frame is too large", seen=f"{size_bytes} bytes", wanted=f"at most {self.limit_bytes} bytes"
            )
        if len(buffer) - at < size_bytes:
            return None
        body = bytes(buffer[at : at + size_bytes])
        self._at = at + size_bytes
        return ZmtpFrame(bool(flags & _COMMAND), bool(flags & _MORE), body)
