"""The processes of a network on this host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

START_TIMEOUT_S = 60.0


STOP_TIMEOUT_S = 10.0


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for a moment: a process that was started must be written down before we go.

    Not by blocking the signals, since the new process would inherit that and could never be told to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in held[:1]:
            os.kill(os.getpid(), first)


def _created_s(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).create_time())


def _alive(entry: dict[str, Any]) -> bool:
    """Whether the process lives; known by id and start time together, since ids are used again."""
    import psutil

    try:
        process = psutil.Process(entry["pid"])
        same = bool(abs(process.create_time() - float(entry["created_s"])) < 0.05)
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(entry: dict[str, Any], number: signal.Signals) -> None:
    if _alive(entry):
        with contextlib.suppress(ProcessLookupError):
            os.kill(entry["pid"], number)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Collect the process when it ends, so that it does not stay a zombie of a long-lived kernel."""
    threading.Thread(target=process.wait, name="pot-lab-reaper", daemon=True).start()
