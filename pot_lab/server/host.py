"""What this host holds by itself, readable without a network: notebook jobs, and testnets with their processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pot_lab.errors import PotLabError
from pot_lab.jobs import registry

JOBS_LIMIT = 50


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """The newest jobs of a home, newest first, with their last report."""
    found = []
    for job in reversed(registry.find(folder)[-JOBS_LIMIT:]):
        reports = job.events("progress")
        record = job.record()
        found.append(
            {
                "id": job.id,
                "kind": job.kind,
                "state": job.state,
                "created_ms": job.created_ms,
                "ended_ms": record.get("ended_ms") or 0,
                "progress": reports[-1]["data"] if reports else None,
                "error": record.get("error"),
            }
        )
    return found


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
