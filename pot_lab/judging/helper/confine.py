"""Limits that a helper sets on itself before it opens a stranger's file; the operating system then enforces them."""

from __future__ import annotations

import math
import os
import resource
import signal
from pathlib import Path

from pot_lab.judging.limits import HelperLimits

_ALARM_SPARE_S = 30.0


def confine(limits: HelperLimits) -> None:
    """Bound memory, files and descriptors of this process, for good.

    The memory limit counts from what is mapped now, since libraries reserve far more address space than they use.
    Where memory of the whole host ends, the kernel takes this process first, not the aggregator.
    """
    _first_to_be_killed()
    memory = _address_space_bytes() + limits.memory_bytes
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def begin_request(limits: HelperLimits, wall_s: int) -> None:
    """Bound the next request: processor time from now, and time even if nobody is left to kill this process.

    Args:
        wall_s: how long its sender waits, in seconds.
    """
    cpu_s = math.ceil(limits.cpu_s * max(1.0, wall_s / limits.wall_s))
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_REAL, wall_s + _ALARM_SPARE_S)


def end_request() -> None:
    """Idle time does not count."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _first_to_be_killed() -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass  # forbidden in some containers; the memory limit stays
