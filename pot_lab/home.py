"""Where a host keeps its networks and jobs: `$POT_LAB_HOME`, by default `~/.pot-lab`.

There is no daemon: a kernel, a Lab after a restart or the CLI finds what runs by these folders.
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder of everything that outlives a process; not created here."""
    return Path(os.environ.get("POT_LAB_HOME") or Path.home() / ".pot-lab").expanduser().resolve()


def networks() -> Path:
    """One folder for each network known on this host: `network.toml`, keystores, logs, process ids."""
    return home() / "networks"


def jobs() -> Path:
    """One folder for each job: notebooks, events, checkpoints, state."""
    return home() / "jobs"
