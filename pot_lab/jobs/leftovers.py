"""Processes of a job that is over: workers that a notebook started and did not end, also in sessions of their own.

They are known by `POT_LAB_JOB_DIR` in their environment, which every process inherits that a job starts by a command.
What was forked (`fork_server`) has the environment of the server in the system's tables; it is known by a file of the
job's folder, open since before the fork. A process group would miss whoever left it, and ids alone may be others' by
now.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

VARIABLE = "POT_LAB_JOB_DIR"
MEMBERS_FILE = "members"
"""In a job's folder: every process has it open that was forked for the job."""
_PATIENCE_S = 10.0


def end_leftovers(directory: Path) -> int:
    """Kill the processes of the job in this folder, but for this one and its parents; returns how many there were.

    For a job whose notebook does not run any more.
    """
    here = psutil.Process()
    spared = {here.pid, *(parent.pid for parent in here.parents())}
    wanted = str(directory.resolve())
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid not in spared and process.uids().real == os.getuid()
            if ours and (
                process.environ().get(VARIABLE) == wanted or _has_open(process.pid, f"{wanted}/{MEMBERS_FILE}")
            ):
                process.kill()
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it has ended, or is another account's
    psutil.wait_procs(found, timeout=_PATIENCE_S)
    return len(found)


def _has_open(pid: int, path: str) -> bool:
    """Whether a process has this file open; False on systems that fork no jobs."""
    if sys.platform != "linux":
        return False
    folder = f"/proc/{pid}/fd"
    for descriptor in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{descriptor}") == path:
                return True
        except OSError:
            continue  # closed meanwhile
    return False
