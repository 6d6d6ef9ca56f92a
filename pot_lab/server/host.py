"""What this host holds by itself, readable without a network: miners, testnets, earnings, and what work takes."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from pot_lab.errors import PotLabError
from pot_lab.jobs.earnings_book import Entry, Period, books, by_day, period
from pot_lab.jobs.miners import find_miners
from pot_lab.jobs.registry import Job

MINERS_LIMIT = 20
ENTRIES_LIMIT = 200
_SMI_TIMEOUT_S = 10
_GPU_FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total", "power.draw")


def miners_of(folder: Path) -> list[dict[str, Any]]:
    """The miners of a home that were started from the panel, newest first."""
    return [
        {"id": one.id, "role": one.role, "account": one.account, "state": one.state, "created_ms": one.created_ms}
        for one in find_miners(folder)[:MINERS_LIMIT]
    ]


def testnets_of_host() -> list[dict[str, Any]]:
    """Every testnet of this host: its name, and which of its processes are alive."""
    from pot_lab.testnet.testnet import Testnet

    found = []
    for net in Testnet.all():
        try:
            processes = net.processes()
        except (PotLabError, OSError) as error:
            found.append({"name": net.name, "processes": {}, "problem": str(error)})
        else:
            found.append({"name": net.name, "processes": processes, "problem": ""})
    return found


def earnings_of(folder: Path, since_ms: int) -> list[dict[str, Any]]:
    """What each miner of a home earned since then: in all, by day, and for its newest orders, newest first.

    Only miners that were done with an order since then are listed.
    """
    found = []
    for book in books(folder):
        if entries := book.entries(since_ms):
            role, _, rest = book.folder.name.partition("-")
            found.append(
                {
                    "role": role,
                    "account": rest.partition("-")[0],
                    "total": _period(period("all", entries)),
                    "days": [_period(day) for day in reversed(by_day(entries))],
                    "orders": [_entry(one) for one in reversed(entries[-ENTRIES_LIMIT:])],
                }
            )
    return found


def _period(one: Period) -> dict[str, Any]:
    return {
        "name": one.name,
        "orders": one.orders,
        "paid": one.paid,
        "grains": str(one.grains),
        "hours": one.hours,
    }


def _entry(one: Entry) -> dict[str, Any]:
    return {
        "order": one.order_id,
        "ended_ms": one.ended_ms,
        "outcome": one.outcome,
        "grains": str(one.grains),
        "reasons": list(one.reasons),
        "hours": one.worked_s / 3600,
    }


def usage_of(job: Job) -> dict[str, Any] | None:
    """What a running job and its notebook's kernel take: memory, seconds of processor time, memory of graphics cards.

    None where it does not run.
    """
    pid = job.pid
    if pid is None:
        return None
    pids, memory_bytes, cpu_s = [], 0, 0.0
    try:
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            try:
                times = process.cpu_times()
                memory_bytes += process.memory_info().rss
            except psutil.Error:
                continue  # it ended just now
            cpu_s += times.user + times.system
            pids.append(process.pid)
    except psutil.Error:
        return None
    gpu_bytes = sum(size for pid, size in _gpu_processes() if pid in pids)
    return {"memory_bytes": memory_bytes, "cpu_s": cpu_s, "gpu_bytes": gpu_bytes}


def host_usage() -> dict[str, Any]:
    """This host's processors, memory and graphics cards, as they are now; `gpus` is empty where there are none."""
    memory = psutil.virtual_memory()
    return {
        "cores": psutil.cpu_count() or 1,
        "load": psutil.getloadavg()[0],
        "memory_bytes": memory.total,
        "free_bytes": memory.available,
        "gpus": [
            {
                "index": int(row[0]),
                "name": row[1],
                "busy_percent": _number(row[2]),
                "memory_bytes": _mebibytes(row[3]),
                "memory_total_bytes": _mebibytes(row[4]),
                "watts": _number(row[5]),
            }
            for row in _nvidia_smi(f"--query-gpu={','.join(_GPU_FIELDS)}")
            if len(row) == len(_GPU_FIELDS) and row[0].isdecimal()
        ],
    }


def _gpu_processes() -> list[tuple[int, int]]:
    """Processes on graphics cards with the memory that they take there, in bytes."""
    rows = _nvidia_smi("--query-compute-apps=pid,used_memory")
    return [(int(row[0]), _mebibytes(row[1]) or 0) for row in rows if len(row) == 2 and row[0].isdecimal()]


def _nvidia_smi(query: str) -> list[list[str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list(csv.reader(told.stdout.splitlines(), skipinitialspace=True)) if told.returncode == 0 else []


def _number(text: str) -> float | None:
    """A number, or None where the card does not tell (`[N/A]`)."""
    try:
        return float(text)
    except ValueError:
        return None


def _mebibytes(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number * (1 << 20))
