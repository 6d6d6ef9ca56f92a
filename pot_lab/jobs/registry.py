"""A job on disk: all that is known of it is in its folder, so any process finds it, whichever started it.

    jobs/<id>/job.json      the request: kind, parameters, environment; written once
              state.json    the state: running, done, failed or cancelled, since when and why
              pid           the process that runs it, or ran it
              lock          held by the job's process while it runs; the system frees it when the process ends
              events.jsonl  what happened, one JSON object a line
              input.ipynb, output.ipynb, log.txt

A state of `running` whose lock is free is a job whose process died before it wrote a final state: `lost`. So is one
whose `state.json` is damaged. A process id alone proves nothing, since ids are reused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pot_lab import files
from pot_lab.files import FileLocked, replace_durably
from pot_lab.jobs.errors import StillRunning, UnknownJob

JobState = Literal["running", "done", "failed", "cancelled", "lost"]
FINAL_STATES: tuple[JobState, ...] = ("done", "failed", "cancelled", "lost")
EVENT_LIMIT_BYTES = 1 << 16
POLL_S = 0.05
LOCK_TIMEOUT_S = 1.0
"""A process that reads a job's state holds its lock for an instant."""
_SHOWN = 5
STOPPED_FILE = "stopped"
"""In a job's folder: somebody asked for its end for good."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\Z")


class JobEventLog:
    """Appends events to a JSONL file; every line is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def emit(self, kind: str, **data: Any) -> None:
        """Write one event. `time_ms` and `kind` come first; an event that is too large keeps only those."""
        head = {"time_ms": time.time_ns() // 1_000_000, "kind": kind}
        line = json.dumps({**head, **data}, separators=(",", ":"), default=str)
        if len(line) > EVENT_LIMIT_BYTES:
            line = json.dumps({**head, "oversize_bytes": len(line)}, separators=(",", ":"))
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode() + b"\n")
        finally:
            os.close(handle)


class Job:
    """A job of this host, read from its folder.

    Args:
        directory: the job's folder.

    Raises:
        UnknownJob: there is no job in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.id = directory.name
        try:
            spec = json.loads((directory / "job.json").read_text())
            self.kind: str = str(spec["kind"])
            self.parameters: dict[str, Any] = dict(spec["parameters"])
            self.created_ms: int = int(spec["created_ms"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnknownJob("there is no such job, or its job.json is damaged", seen=str(directory)) from error

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.state}>"

    @property
    def output(self) -> Path:
        """The executed notebook; grows while the job runs."""
        return self.directory / "output.ipynb"

    @property
    def log(self) -> Path:
        """What the notebook and its supervisor printed."""
        return self.directory / "log.txt"

    @property
    def state(self) -> JobState:
        """`running`, or the final state: `done`, `failed`, `cancelled`, or `lost` where the process died before it."""
        state: JobState = self.record()["state"]
        if state == "running" and not is_locked(self.directory):
            state = self.record()["state"]  # it may have ended between the two reads
            return "lost" if state == "running" else state
        return state

    @property
    def error(self) -> dict[str, Any] | None:
        """Of a failed job: `name`, `message` and the `cell`'s index (None when no cell was at fault)."""
        return self.record().get("error")

    @property
    def pid(self) -> int | None:
        """The supervisor's process while it runs, else None."""
        if self.state != "running":
            return None
        try:
            return int((self.directory / "pid").read_text())
        except (OSError, ValueError):
            return None

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All events so far, oldest first, or those of one kind. A line still being written is left for later."""
        return [event for event in self._events() if kind is None or event["kind"] == kind]

    @property
    def worked_s(self) -> float:
        """How long it has run, in all its attempts, in seconds; an attempt that was killed ends with its last event."""
        worked_ms = started_ms = last_ms = 0
        for event in self._events():
            now_ms = event.get("time_ms")
            if not isinstance(now_ms, int):
                continue
            if event["kind"] == "started":
                worked_ms += last_ms - started_ms
                started_ms = now_ms
            last_ms = max(started_ms, now_ms)
        return (worked_ms + last_ms - started_ms) / 1000

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            raw = (self.directory / "events.jsonl").read_bytes()
        except FileNotFoundError:
            return
        for line in raw.split(b"\n")[:-1]:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # torn by a power cut or a full disk
            if isinstance(event, dict) and "kind" in event:
                yield event

    def wait(self, timeout_s: float | None = None) -> JobState:
        """Wait for the job's end and return its final state.

        Args:
            timeout_s: in seconds; None for no limit.

        Raises:
            StillRunning: the job has not ended within `timeout_s`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (state := self.state) == "running":
            if deadline is not None and time.monotonic() >= deadline:
                raise StillRunning("the job has not ended", seen=self.id, wanted=f"an end within {timeout_s} s")
            time.sleep(POLL_S)
        return state

    @property
    def is_stopping(self) -> bool:
        """Whether it still runs, and was asked to stop since it was started last."""
        if self.state != "running":
            return False
        started_ms = self.record().get("started_ms", 0)
        return any(event.get("time_ms", 0) >= started_ms for event in self.events("cancel_requested"))

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked for its end for good, so that no loop resumes it by itself."""
        return (self.directory / STOPPED_FILE).exists()

    def cancel(self, *, resumable: bool = False) -> None:
        """Request a stop and return at once: the kernel is interrupted, the notebook saved, the state `cancelled`.

        A job that has ended stays as it is. A kernel that ignores the interrupt is killed after the runner's grace.

        Args:
            resumable: whether the loop that started it may go on with it, as after a SIGTERM that nobody announced.
        """
        pid = self.pid
        if pid is None:
            return
        if not resumable:
            with contextlib.suppress(OSError):  # a full disk must not keep it running
                (self.directory / STOPPED_FILE).touch(mode=0o600)
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass

    def record(self) -> dict[str, Any]:
        """The content of `state.json`: state, attempt, started_ms, ended_ms, error.

        If it is damaged, that of a job that may run; its lock decides whether it does.
        """
        try:
            record = json.loads((self.directory / "state.json").read_text())
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict) or record.get("state") not in ("running", *FINAL_STATES):
            return {"state": "running", "attempt": 1}
        return record


def find(home: Path) -> list[Job]:
    """All jobs of a home, oldest first."""
    folder = home / "jobs"
    if not folder.is_dir():
        return []
    found = []
    for directory in folder.iterdir():
        try:
            if (directory / "state.json").is_file():
                found.append(Job(directory))
        except UnknownJob:
            continue  # being made, or not a job
    return sorted(found, key=lambda job: (job.created_ms, job.id))


def get(home: Path, job_id: str) -> Job:
    """The job of this id.

    Raises:
        UnknownJob: no such job, or an id that no job can have.
    """
    if not is_job_id(job_id):
        raise UnknownJob("not a possible job id", seen=job_id, wanted=_ID.pattern)
    return Job(home / "jobs" / job_id)


def match(home: Path, text: str) -> Job:
    """The job whose id is, or alone begins with, this text.

    Raises:
        UnknownJob: none does, or several do.
    """
    if is_job_id(text) and (home / "jobs" / text / "state.json").is_file():
        return get(home, text)
    found = [job for job in find(home) if text and job.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(job.id for job in found[-_SHOWN:])
        raise UnknownJob("several jobs begin so", seen=text, wanted=f"one of {names}")
    raise UnknownJob("no job of this host begins so", seen=text, wanted="an id that `pot-lab jobs` lists")


def is_job_id(text: str) -> bool:
    """Whether a job may be called so (a plain file name)."""
    return _ID.match(text) is not None


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file so that readers see the old or the new one whole; readable by its owner only."""
    replace_durably(path, json.dumps(value, indent=1).encode(), mode=0o600)


def is_locked(directory: Path) -> bool:
    """Whether the job's process lives."""
    return files.is_locked(directory / "lock")


def take_lock(directory: Path) -> int | None:
    """Take a job's lock and return its file descriptor, or None when another process has it."""
    try:
        return files.acquire_lock(directory / "lock", timeout_s=LOCK_TIMEOUT_S)
    except FileLocked:
        return None
