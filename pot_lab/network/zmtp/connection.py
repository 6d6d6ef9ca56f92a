"""One ZMTP connection under CURVE over a non-blocking TCP socket: bounded both ways, and it never raises for what the
other side does.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import NamedTuple

from pot_lab.errors import PotLabError
from pot_lab.network.z85 import encode_z85
from pot_lab.network.zmtp.curve import (
    HANDSHAKE_LIMIT_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    Channel,
    ClientHandshake,
    ServerHandshake,
)
from pot_lab.network.zmtp.framing import GREETING_BYTES, FrameReader, ZmtpFrame, check_greeting, encode_frame, greeting

READ_BYTES = 64 * 1024
"""At most so much is taken from the kernel at once; the rest waits there and slows its sender down."""
_SEND_BUFFERS = 64
_KEEP_ALIVE_S, _UNACKNOWLEDGED_MS = 10, 10_000
_PING, _PONG = b"\x04PING", b"\x04PONG"
_PING_HEAD_BYTES, _PING_CONTEXT_BYTES = 7, 16


class TakenFrame(NamedTuple):
    """A frame that was looked at. `body` is the message that it carries or ends, None for one of several parts, whose
    parts are dropped as they come.
    """

    is_message: bool
    body: bytes | None


_NO_MESSAGE = TakenFrame(False, None)


class Connection:
    """One connection, before, during and after its handshake.

    Args:
        stream: a connected (or connecting) TCP socket; the connection owns it from now on.
        handshake: this side of it.
        limit_bytes: the largest message that is taken.
        unsent_limit_bytes: above this `send` takes nothing more.
    Attributes:
        stream: the socket.
        unsent_bytes: what waits for `flush`, or for the other side to read.
        key: the other side's CURVE key in Z85; empty until it has proved it.
        ended: why the connection is of no use any more; empty while it is.
    """

    def __init__(
        self,
        stream: socket.socket,
        handshake: ServerHandshake | ClientHandshake,
        *,
        limit_bytes: int,
        unsent_limit_bytes: int,
    ) -> None:
        self.stream = stream
        self.key = self.ended = ""
        self._handshake = handshake
        self._limits = limit_bytes, unsent_limit_bytes
        self._reader = FrameReader(HANDSHAKE_LIMIT_BYTES)
        self._gone = ""
        self._greeted = False
        self._in_parts = False
        self._unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self._queue(greeting(as_server=isinstance(handshake, ServerHandshake)))

    @property
    def ready(self) -> bool:
        """Whether the handshake is over and messages may be sent."""
        return bool(self.key) and not self._gone and not self.ended

    @property
    def is_greeted(self) -> bool:
        """Whether the other side speaks ZMTP; whether it has the right key is another thing."""
        return self._greeted

    @property
    def is_broken(self) -> bool:
        """Whether nothing more will come, though `take` may still give what came before."""
        return bool(self._gone)

    @property
    def refused(self) -> bool:
        """Whether it ended since its key may not connect."""
        return isinstance(self._handshake, ServerHandshake) and self._handshake.refused

    @property
    def held_bytes(self) -> int:
        """Bytes that arrived and are no whole message yet, or were not taken."""
        return len(self._reader)

    def read(self) -> bool:
        """Take what waits in the kernel, up to `READ_BYTES`; returns whether there may be more."""
        if self._gone:
            return False
        try:
            data = self.stream.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self._gone = f"the connection broke: {error.strerror}"
            return False
        if not data:
            self._gone = "the other side hung up"
            return False
        self._reader.feed(data)
        return True  # a short read is no end: a reset may stand behind it, which epoll told of at the same time

    def take(self) -> TakenFrame | None:
        """Look at the next frame that has come; None while none is whole. May end the connection."""
        if self.ended:
            return None
        try:
            frame = self._frame()
        except PotLabError as error:
            self.ended = str(error)
            return None
        if frame is None:
            self.ended = self._gone  # what came whole before the end was still good
            return None
        if frame.is_command:
            return _NO_MESSAGE
        was_in_parts, self._in_parts = self._in_parts, frame.more
        if frame.more:
            return _NO_MESSAGE
        return TakenFrame(True, None if was_in_parts else frame.body)

    def send(self, body: bytes) -> bool:
        """Queue a message, which `flush` sends; False when too much is unsent or the connection is not ready."""
        channel = self._handshake.channel
        if channel is None or self._gone or self.ended or self.unsent_bytes > self._limits[1]:
            return False
        self._queue(encode_frame(channel.seal(body)))
        return True

    def flush(self) -> None:
        """Give the kernel what it takes; the rest stays in `unsent_bytes`."""
        while self._unsent and not self._gone:
            buffers = [self._unsent[at] for at in range(min(len(self._unsent), _SEND_BUFFERS))]
            try:
                sent = self.stream.sendmsg(buffers)
            except BlockingIOError:
                return
            except OSError as error:
                self._gone = f"the connection broke: {error.strerror}"
                return
            self.unsent_bytes -= sent
            while sent:
                first = self._unsent.popleft()
                if sent < len(first):
                    self._unsent.appendleft(first[sent:])
                    break
                sent -= len(first)

    def close(self) -> None:
        """Close the socket, dropping what was not sent."""
        self._gone = self.ended = self.ended or self._gone or "closed"
        self._unsent.clear()
        self.unsent_bytes = 0
        self.stream.close()

    def _queue(self, data: bytes) -> None:
        self._unsent.append(memoryview(data))
        self.unsent_bytes += len(data)

    def _frame(self) -> ZmtpFrame | None:
        """The next message's frame, decrypted; None while none is whole. A handshake's step is an empty command."""
        if not self._greeted:
            data = self._reader.take_bytes(GREETING_BYTES)
            if data is None:
                return None
            check_greeting(data)
            self._greeted = True
            if opening := self._handshake.opening():
                self._queue(encode_frame(opening, is_command=True))
        frame = self._reader.take()
        if frame is None:
            return None
        channel = self._handshake.channel
        if channel is None:
            return self._shake_hands(frame)
        opened = channel.open(frame.body)
        if opened.is_command:
            self._answer_ping(channel, opened.body)
        return ZmtpFrame(opened.is_command, opened.more, opened.body)

    def _shake_hands(self, frame: ZmtpFrame) -> ZmtpFrame:
        answer = self._handshake.answer(frame.body)
        if answer:
            self._queue(encode_frame(answer, is_command=True))
        if self._handshake.channel is not None:
            self.key = encode_z85(self._handshake.other_key)
            self._reader.limit_bytes = self._limits[0] + MESSAGE_OVERHEAD_BYTES
        return ZmtpFrame(True, False, b"")

    def _answer_ping(self, channel: Channel, command: bytes) -> None:
        if command.startswith(_PING) and len(command) >= _PING_HEAD_BYTES and not self.unsent_bytes:
            context = command[_PING_HEAD_BYTES : _PING_HEAD_BYTES + _PING_CONTEXT_BYTES]
            self._queue(encode_frame(channel.seal(_PONG + context, is_command=True)))


def tune(stream: socket.socket) -> None:
    """Let the kernel find a dead host, and wait for nothing: no ZMTP heartbeat does it."""
    stream.setblocking(False)
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_ALIVE_S // 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS),
    ):
        stream.setsockopt(level, option, value)
