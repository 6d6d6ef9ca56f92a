"""Help for scenario tests: who is left running, and commands as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.begin import heeding_interrupts


def left_running(folder: Path) -> list[str]:
    """Command lines of processes that work in, or speak of, a folder; this test's own process aside.

    What was forked from a server of all homes has its command and variables: it is known by its files.
    """
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status", "environ", "cwd", "open_files"]):
        info = process.info
        if info["pid"] == os.getpid() or info["status"] == psutil.STATUS_ZOMBIE:
            continue
        command = " ".join(info["cmdline"] or [])
        files = [info["cwd"] or "", *(file.path for file in info["open_files"] or [])]
        if str(folder) in command + "\0".join(files) + (info["environ"] or {}).get("POT_LAB_HOME", ""):
            found.append(command)
    return found


def await_nothing_left(folder: Path, timeout_s: float = 240.0) -> list[str]:
    """Give processes that were told to stop a moment; returns those that stayed."""
    deadline = time.monotonic() + timeout_s
    while (left := left_running(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def start(arguments: list[str], folder: Path, *, home: Path | None = None, **more: str) -> subprocess.Popen[bytes]:
    """Start `pot-lab ARGUMENTS`, with more variables in its environment; its output goes to `folder/output.txt`."""
    environment = {**os.environ, **({"POT_LAB_HOME": str(home)} if home else {}), **more}
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(
            heeding_interrupts([sys.executable, "-m", "pot_lab.cli", *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def run(arguments: list[str], home: Path, *, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
    """Run `pot-lab ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pot_lab.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "POT_LAB_HOME": str(home)},
        stdin=subprocess.DEVNULL,
    )
