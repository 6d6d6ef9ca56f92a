"""Starting a module of this package as a process of its own that follows strangers' links or serves strangers.

Its environment has no password: only what a process needs to run. It has a group of its own, so that no terminal's
signal reaches it before the process that started it ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
_KEPT_PREFIX = "COVERAGE_"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def start_module(module: str, arguments: Sequence[str], *, stdin: int, stdout: int | None) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments`.

    Args:
        module: its full name.
        arguments: as the module's `main` takes them.
        stdin, stdout: as of `subprocess.Popen`.
    Raises:
        OSError: the system starts no process.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.lower() in _PROXIES or name.startswith(_KEPT_PREFIX)
    }
    home = str(Path(__file__).parents[2])  # where the package lies, also when it is not installed
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [home, kept.get("PYTHONPATH", "")]))
    kept["MALLOC_ARENA_MAX"] = "2"  # each thread's own arena would count against a limit on addresses
    return subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        cwd="/",
        env=kept,
        start_new_session=True,
    )
