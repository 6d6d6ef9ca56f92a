"""Whether a process still runs, asked without a gap in which it may end."""

from __future__ import annotations

import psutil


def is_running(pid: int) -> bool:
    """False once the process ended, also while nobody has reaped it.

    One question to the system: a process that ends between `pid_exists` and a look at its state fails the asker.
    """
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
