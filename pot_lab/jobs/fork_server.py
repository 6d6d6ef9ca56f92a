"""A process that has imported what every job imports, and forks a job's process on request (Linux only).

A job's process needs papermill and its kernel needs torch: ten seconds of processor time on a small machine, for each
job, while an order's window runs. A fork has them at once, and shares their memory with all others.

    python -P -m pot_lab.jobs.fork_server FOLDER NAME LINGER_S

serves the Unix socket FOLDER/NAME.sock, whose folder only this account may enter. A miner holds a connection for as
long as it may start jobs; a server without connections ends after LINGER_S seconds. No second thread of this process
runs Python code and CUDA is not initialised in it, so forking is safe: OpenBLAS, whose threads numpy starts, has fork
handlers of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pot_lab.forking import ForkServer, claim, listen

PRELOADED = (
    "papermill",
    "nbformat",
    "pot_lab.jobs.engine",
    "pot_lab.jobs.run_notebook",
    "IPython",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "torch",
    "pot_lab.training",
    "pot_lab.scoring",
    "pot_lab.jobs.scorer",
    "pot_lab.jobs.workspace",
    "pot_lab.jobs.progress",
)
"""What a job's process and the stock notebooks import. One that is missing is left to the job."""


@dataclass
class ForkRequest:
    """What a forked process is to be. With a message come the lock, the log and the members file, in this order.

    Args:
        directory: the job's folder.
        cancel_grace_s: how long its kernel may take to end, in seconds.
        environment: all of its environment variables.
        cwd: the working folder of whoever asked.
        lock: the job's lock, held.
        log: where it prints to.
        members: an open file of the job's folder, by which its processes are known (`leftovers`).
    """

    directory: str
    cancel_grace_s: float
    environment: dict[str, str]
    cwd: str
    lock: int
    log: int
    members: int


def preload() -> None:
    """Import what jobs import."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        import pot_lab

        for name in ("ScoringTask", "Progress", "TrainingTask"):
            getattr(pot_lab, name, None)  # public names load their rooms when they are read
    gc.collect()
    gc.freeze()  # a collection in a forked process touches none of it, so its memory stays shared


def parse(raw: bytes, descriptors: list[int]) -> ForkRequest:
    """A request from its message. Raises ValueError, TypeError or KeyError."""
    return ForkRequest(*_fields(json.loads(raw)), *descriptors)


def _fields(message: dict[str, Any]) -> tuple[str, float, dict[str, str], str]:
    environment = {str(name): str(value) for name, value in message["environment"].items()}
    return str(message["directory"]), float(message["cancel_grace_s"]), environment, str(message["cwd"])


def become(request: ForkRequest) -> int:
    """In a forked process: run the job, or be its kernel; returns the exit status."""
    os.setsid()
    os.umask(0o077)
    os.set_inheritable(request.members, False)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (request.log, 1), (request.log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(request.log)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    try:
        os.chdir(request.cwd)
    except OSError:
        os.chdir(request.directory)
    for name in ("numpy", "torch"):  # their global generators were seeded before the fork
        if name in sys.modules:
            seeded = sys.modules[name]
            seeded.random.seed()

    from pot_lab.jobs import forked_kernel, run_notebook

    arguments = forked_kernel.reserve(request.lock)
    if arguments is not None:
        forked_kernel.run(arguments)
    return run_notebook.main([request.directory, str(request.lock), str(request.cancel_grace_s)])


def main(arguments: list[str]) -> int:
    """Serve, or be a forked process; returns the exit status."""
    folder, name, linger_s = Path(arguments[0]), arguments[1], float(arguments[2])
    lock = claim(folder, name)
    if lock is None:
        return 0  # another one serves
    preload()
    listener, path = listen(folder, name)
    request = ForkServer(listener, path, parse, linger_s=linger_s).serve()
    if request is None:
        path.unlink(missing_ok=True)
        os.close(lock)
        return 0
    os.close(lock)
    return become(request)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
