"""Scoring one test set with several processes, on processors or GPUs: the same bits, since every example has its own.

Each worker is a fresh interpreter that scores a range of the examples of a data file, and writes its numbers as plain
arrays; nothing is pickled. `python -m pot_lab.scoring.worker_main TASK.json` is what a worker runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pot_lab.scoring.errors import WorkerFailed

_LARGEST_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one worker does: files, the score function's identifier, the examples from `start` to `stop`."""

    graph: str
    weights: str
    data: str
    function: str
    batch_size: int | None
    device: str
    threads: int
    start: int
    stop: int
    result: str


def run_workers(
    graph: Path,
    weights: Path,
    data: Path,
    count: int,
    function: str,
    *,
    workers: int,
    batch_size: int | None = None,
    device: str = "cpu",
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(values, marks of examples without a finite result) of all `count` examples of a data file.

    Args:
        workers: processes; they share this process's threads. On "cuda" each takes the next GPU.
    Raises: WorkerFailed, naming the first refusal; the other workers are stopped.
    """
    workers = min(workers, count)
    edges = [count * i // workers for i in range(workers + 1)]
    threads = max(1, torch.get_num_threads() // workers)
    with tempfile.TemporaryDirectory(prefix="pot-lab-score-") as folder:
        running: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(workers):
                task = Task(
                    graph=str(graph.absolute()),
                    weights=str(weights.absolute()),
                    data=str(data.absolute()),
                    function=function,
                    batch_size=batch_size,
                    device=_device(device, number),
                    threads=threads,
                    start=edges[number],
                    stop=edges[number + 1],
                    result=str(Path(folder, f"{number}.npy")),
                )
                file = Path(folder, f"{number}.json")
                file.write_text(json.dumps(asdict(task)))
                running.append(_started(file))
            _wait(running)
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                process.communicate()
        parts = [np.load(Path(folder, f"{number}.npy"), allow_pickle=False) for number in range(workers)]
    both = np.concatenate(parts, 1)
    return both[0], both[1].astype(bool)


def _device(device: str, number: int) -> str:
    if device != "cuda":
        return device
    return f"cuda:{number % max(1, torch.cuda.device_count())}"


def _started(task: Path) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).parents[2])  # where the package lies, also when it is not installed
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", "pot_lab.scoring.worker_main", str(task)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all have ended well, or one has failed."""
    waiting = list(running)
    while waiting:
        for process in list(waiting):
            try:
                _, errors = process.communicate(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            waiting.remove(process)
            if process.returncode:
                lines = errors.decode("utf-8", "replace").strip().splitlines()
                last = lines[-1][:_LARGEST_ERROR_CHARACTERS] if lines else f"exit code {process.returncode}"
                raise WorkerFailed(f"a worker could not score its part: {last}")
