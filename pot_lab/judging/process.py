"""Starting a helper: a fresh interpreter with one socket, and nothing of the aggregator's secrets or descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from pot_lab.judging.limits import HelperLimits

HELPER_MODULE = "pot_lab.judging.helper.main"
"""Started by name; no process but the helper itself imports it."""
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_KEPT_PREFIX = "COVERAGE_"


class HelperProcess:
    """One running helper and the aggregator's end of its socket.

    Attributes:
        pid: of the helper.
    """

    def __init__(self, limits: HelperLimits) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            # A session of its own: Ctrl-C in the aggregator's terminal must not end a helper in the middle of a
            # judgement; the aggregator ends it when it stops.
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-B", "-m", HELPER_MODULE, msgspec.json.encode(limits).decode()],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=helper_environment(limits.threads),
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send all of it. Raises OSError, TimeoutError among them."""
        self._socket.settimeout(max(timeout_s, 0.001))
        self._socket.sendall(data)

    def receive(self, size: int, timeout_s: float) -> bytes:
        """At most `size` bytes; b"" when the helper closed. Raises OSError, TimeoutError among them."""
        self._socket.settimeout(max(timeout_s, 0.001))
        return self._socket.recv(size)

    def exit_status(self) -> int | None:
        """The helper's exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill the helper, also one that is stopped, and reap it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends a read of another thread, which closing does not
        self._process.kill()
        self._process.wait()
        self._socket.close()


def start_helper(limits: HelperLimits) -> HelperProcess:
    """Start a helper; it is ready once its first frame has come. Raises OSError."""
    return HelperProcess(limits)


def helper_environment(threads: int) -> dict[str, str]:
    """No password and no proxy: a helper needs neither, and hostile files may take it over."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIX)
    }
    home = str(Path(__file__).parents[2])  # where the package lies, also when it is not installed
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    return kept | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_ARENA_MAX": "2",  # each further arena reserves address space, which the memory limit counts
    }
