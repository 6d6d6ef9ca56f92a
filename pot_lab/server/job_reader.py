"""Jobs of this host as the panel shows them, read again and again without reading all of their events each time.

A job that trains for a day reports a hundred thousand times. So each file of events is read from where the last look
ended, and of the reports as many are kept as a curve needs.
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pot_lab.jobs import registry
from pot_lab.jobs.errors import UnknownJob
from pot_lab.jobs.registry import Job

JOBS_LIMIT = 100
POINTS_LIMIT = 400
"""So many reports make a curve; from twice as many on every second one is dropped."""
_ORDER = re.compile(r"[0-9a-f]{24}\Z")


@dataclass
class _Events:
    """What is known of one job's events."""

    offset: int = 0
    progress: dict[str, Any] | None = None
    cell: int | None = None
    stop_ms: int = 0
    reports: int = 0
    stride: int = 1
    points: list[dict[str, Any]] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Take in what was written since the last time; a line that is still being written is left for later."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self.offset:
                    self.offset = 0  # another file
                file.seek(self.offset)
                raw = file.read()
        except FileNotFoundError:
            return
        whole = raw.rfind(b"\n") + 1
        self.offset += whole
        for line in raw[:whole].split(b"\n")[:-1]:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # torn by a power cut or a full disk
            if isinstance(event, dict):
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        kind, time_ms = event.get("kind"), event.get("time_ms", 0)
        if kind == "stop_requested":
            self.stop_ms = time_ms
        elif kind == "cell_started":
            self.cell = event.get("cell")
        elif kind == "progress" and isinstance(data := event.get("data"), dict):
            self.progress = data
            if self.reports % self.stride == 0:
                self.points.append({"time_ms": time_ms, **data})
            self.reports += 1
            if len(self.points) >= 2 * POINTS_LIMIT:
                self.points, self.stride = self.points[::2], 2 * self.stride


class JobReader:
    """Reads the jobs of one home; may be used from any thread.

    Args:
        home: `$POT_LAB_HOME`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, _Events] = {}

    def jobs(self) -> list[dict[str, Any]]:
        """The newest jobs, at most `JOBS_LIMIT`, newest first, each with its last report."""
        with self._lock:
            return [self._shown(job) for job in self._newest()]

    def job(self, job_id: str) -> dict[str, Any]:
        """One job with its parameters and its curve: reports from the first to the last, as `points`.

        Raises:
            UnknownJob: there is no such job.
        """
        job = registry.get(self.home, job_id)
        with self._lock:
            shown, events = self._shown(job), self._events[job.id]
            points = list(events.points)
        if events.progress is not None and points and points[-1]["step"] != events.progress.get("step"):
            points.append({"time_ms": points[-1]["time_ms"], **events.progress})
        return {
            **shown,
            "attempt": job.record().get("attempt", 1),
            "pid": job.pid,
            "parameters": {name: value for name, value in job.parameters.items() if name != "workspace"},
            "points": [point for point in points if isinstance(point.get("step"), int)],
        }

    def _newest(self) -> list[Job]:
        found: dict[str, Job] = {}
        try:
            names = os.listdir(self.home / "jobs")
        except FileNotFoundError:
            names = []
        for name in names:
            job = self._jobs.get(name)
            if job is None and registry.is_job_id(name) and (self.home / "jobs" / name / "state.json").is_file():
                try:
                    job = Job(self.home / "jobs" / name)
                except UnknownJob:
                    continue  # being made, or not a job
            if job is not None:
                found[name] = job
        self._jobs = found  # what was pruned is forgotten
        newest = sorted(found.values(), key=lambda job: (job.created_ms, job.id), reverse=True)[:JOBS_LIMIT]
        kept = {job.id for job in newest}
        self._events = {name: events for name, events in self._events.items() if name in kept}
        return newest

    def _shown(self, job: Job) -> dict[str, Any]:
        events = self._events.setdefault(job.id, _Events())
        events.read(job.directory / "events.jsonl")
        record, state = job.record(), job.state
        is_stopping = state == "running" and events.stop_ms > 0 and events.stop_ms >= (record.get("started_ms") or 0)
        order = Path(str(job.parameters.get("workspace", ""))).name
        return {
            "id": job.id,
            "kind": job.kind,
            "order": order if _ORDER.match(order) else "",
            "state": "stopping" if is_stopping else state,
            "created_ms": job.created_ms,
            "ended_ms": record.get("ended_ms") or 0,
            "cell": events.cell,
            "progress": events.progress,
            "error": record.get("error"),
        }
