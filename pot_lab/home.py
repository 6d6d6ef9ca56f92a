"""Where a host keeps its networks and jobs: `$POT_LAB_HOME`, by default `~/.pot-lab`.

There is no daemon: a kernel, a Lab after a restart or the CLI finds what runs by these folders.
"""

from __future__ import annotations

import os
from pathlib import Path

from pot_lab.errors import PotLabError


class NoHome(PotLabError):
    """A path begins with a home folder that the system does not know, as of an account without an entry in it.

    What to do: write the path from `/` on; for the folder of networks and jobs set `POT_LAB_HOME`.
    """


def home() -> Path:
    """The folder of everything that outlives a process; not created here.

    Raises:
        NoHome: `$POT_LAB_HOME` is not set, and the account that runs this has no home.
    """
    given = os.environ.get("POT_LAB_HOME") or "~/.pot-lab"
    return expanded(given, wanted="`POT_LAB_HOME` set to a folder").resolve()


def expanded(path: str | Path, *, wanted: str = "a path from / on") -> Path:
    """A path that a user wrote, with `~` and `~name` replaced.

    Args:
        path: the path.
        wanted: what a refusal says instead.
    Raises:
        NoHome: the system knows no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHome("the home folder of a path is not known", seen=str(path), wanted=wanted) from None


def networks() -> Path:
    """One folder for each network known on this host: `network.toml`, keystores, logs, process ids."""
    return home() / "networks"


def jobs() -> Path:
    """One folder for each job: notebooks, events, checkpoints, state."""
    return home() / "jobs"
