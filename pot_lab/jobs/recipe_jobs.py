"""A mining loop's notebook jobs: one for each order, resumed when lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pot_lab.jobs.errors import JobExists, UnknownJob
from pot_lab.jobs.memory import OrderMemory
from pot_lab.jobs.registry import JobState

log = logging.getLogger(__name__)

RESUMES = 3
HOPELESS = frozenset(
    {
        "UnsupportedOperator", "BatchMixing", "HostileGraph", "CostLimit", "BadWeights", "BadDataset", "ShapeMismatch",
        "DtypeMismatch", "BadWorkspace", "Oversize", "Malformed",
    }
)  # fmt: skip
"""Errors of an order's files, by their class's name: the notebook would end with them again."""
AT_ONCE = 4
"""How many notebooks of a loop run at once; many cheap orders must not take all of the host's memory."""
_NAMES = 1000


class RunningJob(Protocol):
    """What a loop needs of a job, see `Job`."""

    id: str

    @property
    def state(self) -> JobState:
        """`running`, or how it ended."""

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked for its end for good."""

    @property
    def worked_s(self) -> float:
        """How long it has run, in all its attempts, in seconds."""

    def cancel(self, *, resumable: bool = False) -> None:
        """Stop it; a `resumable` one may be resumed."""


class Runner(Protocol):
    """What a loop needs of a job runner, see `JobRunner`."""

    def start(self, notebook: Path, parameters: Mapping[str, Any], *, kind: str, job_id: str) -> RunningJob:
        """Start a notebook; raises JobExists."""

    def prepare(self) -> None:
        """A notebook may be started soon; returns at once."""

    def release(self) -> None:
        """None will be started any more."""

    def get(self, job_id: str) -> RunningJob:
        """A job by its id; raises UnknownJob."""

    def resume(self, job_id: str) -> RunningJob:
        """Run a job again that was lost or failed."""


class RecipeJobs:
    """Starts, resumes and stops one loop's notebooks.

    Args:
        runner: starts notebook jobs.
        notebook: the recipe.
        kind: the role, as in `provider`; jobs are listed by it.
        prefix: what the ids of this account's jobs begin with.
        settings: parameters passed on to the notebook.
        at_once: how many may run at once.
    """

    def __init__(
        self,
        runner: Runner,
        notebook: Path,
        kind: str,
        prefix: str,
        settings: Mapping[str, Any],
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self._runner = runner
        self._notebook = notebook
        self._kind = kind
        self._prefix = prefix
        self._settings = dict(settings)
        self._at_once = at_once
        self._seen: set[str] = set()  # jobs that ran while this loop did
        self._waiting: dict[bytes, int] = {}  # orders whose job could start, with their rewards

    def may_start(self, order_id: bytes, reward_grains: int, memories: Iterable[OrderMemory]) -> bool:
        """Whether an order's job may start now: not too many run, and no better paid order waits for the same place.

        Args:
            order_id, reward_grains: the order, and what it pays.
            memories: of the orders at hand.
        """
        self._waiting[order_id] = reward_grains
        running = sum(self.is_running(memory) for memory in memories if memory.job_id and not memory.job_over)
        places = max(0, self._at_once - running)
        return order_id in sorted(self._waiting, key=lambda each: (-self._waiting[each], each))[:places]

    def prepare(self) -> None:
        """An order may need a notebook soon."""
        self._runner.prepare()

    def release(self) -> None:
        """No order will need one any more."""
        self._runner.release()

    def forget(self, order_id: bytes) -> None:
        """An order's job will not be started any more."""
        self._waiting.pop(order_id, None)

    def start(self, order_id: bytes, workspace: Path) -> str:
        """Run the recipe on an order's workspace; returns the job's id.

        Raises:
            BadJobParameters, NotebookUnusable: the recipe cannot be run with these settings.
        """
        parameters = {"workspace": str(workspace), **self._settings}
        name = f"{self._prefix}-{order_id.hex()[:8]}"
        for job_id in (name, *(f"{name}-{i}" for i in range(2, _NAMES))):
            try:
                job = self._runner.start(self._notebook, parameters, kind=self._kind, job_id=job_id)
            except JobExists:  # of an earlier order with such an id, or of a loop killed before it kept its job's id
                continue
            self.forget(order_id)
            log.info("event=job_started role=%s order=%s job=%s", self._kind, order_id.hex()[:12], job.id)
            return job.id
        raise JobExists("there are too many jobs for this order", seen=name, wanted=f"fewer than {_NAMES}")

    def gone_for_good(self, memory: OrderMemory, write: Callable[[], None]) -> bool:
        """Resume an order's job if it was lost or failed, at most RESUMES times.

        Args:
            memory: the order's; `resumed` is counted up.
            write: keeps the memory; called before the job is resumed.

        Returns: whether the job will not come to its end any more.
        """
        try:
            job = self._runner.get(memory.job_id)
        except UnknownJob:
            return True
        state = job.state
        if state in ("running", "done"):
            self._seen.add(job.id)
            return False
        why = _reason(job)
        if (
            memory.resumed >= RESUMES
            or (state == "cancelled" and job.is_stopped)
            or (getattr(job, "error", None) or {}).get("name") in HOPELESS
        ):
            if not memory.job_over:
                log.warning("event=job_failed role=%s job=%s state=%s%s", self._kind, job.id, state, why)
                memory.job_over = True
                write()
            return True
        if state != "cancelled" or job.id in self._seen:  # else it was cancelled with the loop before this one
            memory.resumed += 1
        write()
        log.warning("event=job_resumed role=%s job=%s state=%s%s", self._kind, job.id, state, why)
        self._runner.resume(job.id)
        return False

    def worked_s(self, memory: OrderMemory) -> float:
        """How long an order's job has run, in all its attempts, in seconds; 0.0 where it has none."""
        try:
            return self._runner.get(memory.job_id).worked_s if memory.job_id else 0.0
        except UnknownJob:
            return 0.0

    def is_running(self, memory: OrderMemory) -> bool:
        """Whether an order's job runs."""
        try:
            return bool(memory.job_id) and self._runner.get(memory.job_id).state == "running"
        except UnknownJob:
            return False

    def cancel(self, memories: Iterable[OrderMemory], *, resumable: bool = False) -> None:
        """Stop those orders' jobs that run; `resumable` ones are resumed by the next loop of the account."""
        for memory in memories:
            if not memory.job_id:
                continue
            try:
                job = self._runner.get(memory.job_id)
            except UnknownJob:
                continue
            if job.state == "running":
                job.cancel(resumable=resumable)


def _reason(job: RunningJob) -> str:
    """Why a job failed, in which cell of which notebook, as the end of a line of the log."""
    error = getattr(job, "error", None)
    if not error:
        return ""
    cell = "" if error.get("cell") is None else f" cell={error['cell']}"
    return f"{cell} notebook={getattr(job, 'output', '')} reason={error.get('name')}: {error.get('message')!r}"
