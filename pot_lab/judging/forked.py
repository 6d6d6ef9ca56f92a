"""Helpers that are forked from one process of this host, or started by their command where that cannot be had."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pot_lab.forking import LINGER_S, ForkAnswer, answer, ask, connect, server_name, start_server
from pot_lab.judging.frames import HelperChannel
from pot_lab.judging.limits import HelperLimits
from pot_lab.judging.process import helper_environment, start_helper

SERVER_MODULE = "pot_lab.judging.helper.fork_server"
"""Started by name; no process but the server and its forks imports it."""
SERVER_START_S = 10.0
"""How long to wait until a server listens, which it does before it imports what is large."""
UNKNOWN_STATUS = 255
"""In place of the exit status of a helper whose server ended before it told."""
_POLL_S = 0.02
_TOLD_S = 5.0


class ForkedHelper:
    """One forked helper, the aggregator's end of its stream, and the connection to its server.

    The server tells of the fork when it is made, which may be seconds after the request, while it still imports. A
    helper that is given up before finds its stream closed, and ends.
    """

    def __init__(self, connection: socket.socket, limits: HelperLimits) -> None:
        """Raises OSError."""
        self._connection, self._lock = connection, threading.RLock()
        self._process: ForkAnswer | None = None
        self._status: int | None = None
        self._spoke = False  # a fork may answer before its server tells of it
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                ask(connection, {"limits": msgspec.json.encode(limits).decode()}, [theirs.fileno()])
        except BaseException:
            self._socket.close()
            connection.close()
            raise

    @property
    def pid(self) -> int | None:
        """Of the helper; None if it is not forked within some seconds. It may be ready before its server tells."""
        if self._process is None:
            self._hear_start(_TOLD_S)
        return None if self._process is None else self._process.pid

    @property
    def was_refused(self) -> bool:
        """Whether it ended without having been forked, as far as is known."""
        return self._process is None and self._status is not None and not self._spoke

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send all of it. Raises OSError, TimeoutError among them."""
        self._socket.settimeout(max(timeout_s, 0.001))
        self._socket.sendall(data)

    def receive(self, size: int, timeout_s: float) -> bytes:
        """At most `size` bytes; b"" when the helper closed. Raises OSError, TimeoutError among them."""
        self._socket.settimeout(max(timeout_s, 0.001))
        data = self._socket.recv(size)
        self._spoke |= bool(data)
        return data

    def exit_status(self) -> int | None:
        """The helper's exit status, negative for a signal; None while it runs, or is not forked yet."""
        if self._has_ended():
            self._hear_end(_TOLD_S)
            if self._status is None:
                self._status = UNKNOWN_STATUS
        return self._status

    def kill(self) -> None:
        """Kill the helper, also one that is stopped, and free what belongs to it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends a read of another thread, which closing does not
        with self._lock:
            self._hear_start(_TOLD_S if self._spoke else 0.0)
            if self._process is not None and self._process.pidfd is not None:
                pidfd = self._process.pidfd
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                _has_ended(pidfd, None)
                self._hear_end(_TOLD_S)
                os.close(pidfd)
                self._process = self._process._replace(pidfd=None)
            if self._status is None:
                self._status = UNKNOWN_STATUS
            self._connection.close()
            self._socket.close()

    def _has_ended(self) -> bool:
        with self._lock:
            self._hear_end(0.0)
            if self._status is not None:
                return True
            pidfd = None if self._process is None else self._process.pidfd
            return pidfd is not None and _has_ended(pidfd, 0)

    def _hear_start(self, wait_s: float) -> None:
        """Read what the server told until it tells of the fork, or of its end, and wait so long for it."""
        with self._lock:
            deadline_s = time.monotonic() + wait_s
            while self._process is None and self._status is None:
                if not self._hear(deadline_s):
                    return

    def _hear_end(self, wait_s: float) -> None:
        """Read what the server told until it tells of the helper's end, and wait so long for it."""
        with self._lock:
            deadline_s = time.monotonic() + wait_s
            while self._status is None:
                if not self._hear(deadline_s):
                    return

    def _hear(self, deadline_s: float) -> bool:
        """Take in one thing that the server told; False where it told nothing by then."""
        wait_s = max(0.0, deadline_s - time.monotonic())
        self._connection.settimeout(wait_s)
        try:
            told = answer(self._connection)
        except (BlockingIOError, TimeoutError):
            return False
        except (OSError, ValueError, EOFError):
            if self._process is None or wait_s:  # the server is gone; a helper that runs is not
                self._status = UNKNOWN_STATUS
            return False
        if told.status is not None or told.pid is None:
            self._status = UNKNOWN_STATUS if told.status is None else told.status
        else:
            self._process = told
        return True


def _has_ended(pidfd: int, timeout_ms: int | None) -> bool:
    """Whether a process ended, waiting for it so long; None waits until it has."""
    ended = select.poll()  # unlike `select`, for descriptors of any number
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(timeout_ms))


class HelperForks:
    """Starts helpers: forks of a server that this host's aggregators share, started where there is none.

    Args:
        folder: of the server's socket.
        linger_s: how long the server runs without a helper, in seconds.
        otherwise: starts a helper where none can be forked.
    """

    def __init__(
        self,
        folder: Path,
        *,
        linger_s: float = LINGER_S,
        otherwise: Callable[[HelperLimits], HelperChannel] = start_helper,
    ) -> None:
        self._folder, self._linger_s, self._otherwise = folder, linger_s, otherwise
        self._started: list[subprocess.Popen[bytes]] = []
        self._last: ForkedHelper | None = None

    def __call__(self, limits: HelperLimits) -> HelperChannel:
        """A helper that will be ready once its first frame came. Raises OSError."""
        self._started = [process for process in self._started if process.poll() is None]
        if sys.platform == "linux" and not (self._last and self._last.was_refused):
            connection = self._connection(limits)
            if connection is not None:
                with contextlib.suppress(OSError):
                    self._last = ForkedHelper(connection, limits)
                    return self._last
        self._last = None  # the next one may be forked again
        return self._otherwise(limits)

    def _connection(self, limits: HelperLimits) -> socket.socket | None:
        environment = helper_environment(limits.threads)
        name = "judge-" + server_name(environment)
        deadline_s = time.monotonic() + SERVER_START_S
        connection = connect(self._folder, name)
        if connection is None:
            try:
                started = start_server(SERVER_MODULE, self._folder, name, self._linger_s, environment)
            except OSError:
                return None
            self._started += [started] if started else []
            while connection is None and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
                connection = connect(self._folder, name)
                if started is not None and started.poll():
                    break  # it cannot serve
        return connection
