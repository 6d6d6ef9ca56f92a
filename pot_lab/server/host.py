"""What this host holds by itself, readable without a network: notebook jobs, and testnets with their processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pot_lab.errors import PotLabError
from pot_lab.jobs import registry
from pot_lab.jobs.miners import find_miners

JOBS_LIMIT = 50
MINERS_LIMIT = 20


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """The newest jobs of a home, newest first, with their last report."""
    found: list[dict[str, Any]] = []
    for job in reversed(registry.find(folder)[-JOBS_LIMIT:]):
        events, record, state = job.events(), job.record(), job.state
        reports = [event for event in events if event["kind"] == "progress"]
        began_ms = record.get("started_ms") or 0
        is_stopping = state == "running" and any(
            event["kind"] == "stop_requested" and event.get("time_ms", 0) >= began_ms for event in events
        )
        found.append(
            {
                "id": job.id,
                "kind": job.kind,
                "state": "stopping" if is_stopping else state,
                "created_ms": job.created_ms,
                "ended_ms": record.get("ended_ms") or 0,
                "progress": reports[-1]["data"] if reports else None,
                "error": record.get("error"),
            }
        )
    return found


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
