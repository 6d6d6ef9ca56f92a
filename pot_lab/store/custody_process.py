"""The server of an aggregator's custody as a child process: started, moved, started again where it ended, and ended.

Strangers read from it and put into it, so it is a process of its own: whatever they make of it, the aggregator orders
on. It is watched by a thread of its own. It ends when its standard input closes, so it outlives no aggregator, not even
one that was killed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pot_lab.store.child_process import start_module
from pot_lab.store.custody import CustodyLimits

log = logging.getLogger(__name__)

SERVER_MODULE = "pot_lab.store.custody_server"
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A server that ran for so long and ended is started again without a pause."""
LOOK_EVERY_S = 0.25
END_WITHIN_S = 5.0


class ServingPlace(NamedTuple):
    """Where custody is served: an IP address, and a TCP port; port 0 serves it nowhere."""

    host: str
    port: int


Start = Callable[[Sequence[str]], "subprocess.Popen[bytes]"]
"""Starts the server with these arguments, its standard input a pipe; raises OSError where it cannot."""


class CustodyProcess:
    """Keeps a server of the custody at `root` running where it shall be.

    Args:
        root: the custody's folder.
        place: where it shall be served now; asked often, on a thread of this class.
        limits: of the custody.
        clock_s: seconds that only grow.
        start: starts the server.
    """

    def __init__(
        self,
        root: Path,
        place: Callable[[], ServingPlace],
        *,
        limits: CustodyLimits | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        start: Start | None = None,
    ) -> None:
        self._root, self._place, self._limits = root.resolve(), place, limits or CustodyLimits()
        self._clock_s, self._start = clock_s, start or _start
        self._process: subprocess.Popen[bytes] | None = None
        self._served_at: ServingPlace | None = None
        self._started_s = self._not_before_s = 0.0
        self._failures = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="custody-server", daemon=True)

    def start(self) -> None:
        """Begin to serve, and to watch that it is served."""
        self._thread.start()

    def stop(self) -> None:
        """End the server, and wait until it has ended."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._end()

    def look(self) -> None:
        """Start the server where it is due, end it where it shall not be; called again and again."""
        place, process = self._place(), self._process
        if process is not None and place != self._served_at:
            self._end()
            self._failures, self._not_before_s = 0, self._clock_s()
        elif process is not None and process.poll() is not None:
            self._note_end(process.returncode)
        if self._process is None and place.port and self._clock_s() >= self._not_before_s:
            self._begin(place)

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                self.look()
            except Exception:  # the next look tries again
                log.exception("event=custody_server_failed")
            self._closed.wait(LOOK_EVERY_S)

    def _begin(self, place: ServingPlace) -> None:
        remote = [] if ipaddress.ip_address(place.host).is_loopback else ["--allow-remote"]
        arguments = ["--root", str(self._root), "--host", place.host, "--port", str(place.port), "--end-with-stdin"]
        sizes = [str(self._limits.blob_bytes), "--total-limit-bytes", str(self._limits.total_bytes)]
        self._started_s = self._clock_s()
        try:
            self._process = self._start([*arguments, "--blob-limit-bytes", *sizes, *remote])
        except OSError as error:
            log.warning("event=custody_server_not_started reason=%r", str(error))
            self._wait_longer()
            return
        self._served_at = place

    def _note_end(self, code: int) -> None:
        log.warning("event=custody_server_ended exit_code=%d", code)
        if self._clock_s() - self._started_s >= STEADY_S:
            self._failures = 0
        self._end()
        self._wait_longer()

    def _wait_longer(self) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 16)) if self._failures else 0.0
        self._failures += 1
        self._not_before_s = self._clock_s() + pause_s

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return start_module(SERVER_MODULE, arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
