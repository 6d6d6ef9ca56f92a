"""A job's own process: run the notebook in this folder through the `pot` engine, and write down how it ended.

Started by `runner` with the job's lock inherited. Papermill is imported here and nowhere else: it costs seconds.

    python -m pot_lab.jobs.run_notebook JOB_DIRECTORY LOCK_DESCRIPTOR CANCEL_GRACE_S
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from pot_lab.jobs.cancellation import Cancellation, Cancelled
from pot_lab.jobs.leftovers import end_leftovers
from pot_lab.jobs.registry import JobEventLog, JobState, write_json

KERNEL_START_TIMEOUT_S = 120
MESSAGE_LIMIT_CHARACTERS = 2000


def main(arguments: list[str]) -> int:
    """Run one job; returns 0 when its notebook ran to the end."""
    cancellation = Cancellation()
    directory, lock, grace_s = Path(arguments[0]), int(arguments[1]), float(arguments[2])
    os.set_inheritable(lock, False)  # the kernel must not hold the lock after us
    events = JobEventLog(directory / "events.jsonl")
    error: dict[str, Any] | None = None
    state: JobState
    try:
        cancellation.handle_signals()
        record = json.loads((directory / "state.json").read_text())
        write_json(directory / "pid", os.getpid())
        events.emit("started", pid=os.getpid(), attempt=record["attempt"])
        error = _run(directory, cancellation, grace_s)
        state = "failed" if error else "done"
    except Cancelled:
        state = "cancelled"
    except Exception as failure:
        traceback.print_exc()
        state = "failed"
        error = {"name": type(failure).__name__, "message": _short(str(failure)), "cell": None}
    cancellation.only_record()
    left = end_leftovers(directory)  # they hold memory, and the device
    if left:
        events.emit("leftovers_killed", processes=left)
    if cancellation.requested:
        state, error = "cancelled", None
    record = json.loads((directory / "state.json").read_text())
    record |= {"state": state, "ended_ms": time.time_ns() // 1_000_000, "error": error}
    events.emit("ended", state=state, error=error)
    write_json(directory / "state.json", record)  # last: a reader of the state finds the rest in place
    os.close(lock)  # the job may be resumed now; what is left is only our own exit
    return 0 if state == "done" else 1


def _run(directory: Path, cancellation: Cancellation, grace_s: float) -> dict[str, Any] | None:
    """Execute the notebook; returns the error of the cell that failed, or None."""
    spec = json.loads((directory / "job.json").read_text())
    import papermill
    from papermill.exceptions import PapermillExecutionError

    import pot_lab.jobs.engine  # noqa: F401 - before the kernel starts, so that a broken install fails here

    try:
        papermill.execute_notebook(
            str(directory / "input.ipynb"),
            str(directory / "output.ipynb"),
            spec["parameters"],
            engine_name="pot",
            kernel_name="python3",
            progress_bar=False,
            start_timeout=KERNEL_START_TIMEOUT_S,
            cwd=str(directory),
            event_path=str(directory / "events.jsonl"),
            cancellation=cancellation,
            cancel_grace_s=grace_s,
            helpers=str(Path(spec["notebook"]).parent),
        )
    except PapermillExecutionError as failure:
        return {"name": failure.ename, "message": _short(failure.evalue), "cell": failure.cell_index}
    return None


def _short(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT_CHARACTERS else text[:MESSAGE_LIMIT_CHARACTERS] + "…"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
