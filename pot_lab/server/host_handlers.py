"""Routes that start, stop and show what runs on this host: networks and notebook jobs.

All need the server's token or its cookie with the XSRF token, and the authorizer's leave. What touches the disk or
waits for a process never runs on the server's own loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tornado.web
from jupyter_server.auth.decorator import authorized

from pot_lab.errors import PotLabError
from pot_lab.files import replace_durably
from pot_lab.jobs import registry
from pot_lab.jobs.prune import DAY_S, KEEP_BYTES, KEEP_S, prune
from pot_lab.jobs.recipe_files import NOTEBOOK_LIMIT_BYTES
from pot_lab.jobs.recipes import recipe
from pot_lab.jobs.registry import JobEventLog
from pot_lab.jobs.runner import JobRunner
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED
from pot_lab.server.host import usage_of
from pot_lab.server.money_handlers import Nothing, TypedHandler

LOG_TAIL_BYTES = 32_768
GIB = 1 << 30
_TOLD_LINES = 6


class PruneForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the jobs, orders and downloads that are over may stay; `dry_run` only says what would be removed."""

    days: Annotated[float, msgspec.Meta(ge=0, le=36_600)] = KEEP_S / DAY_S
    gib: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = KEEP_BYTES / GIB
    dry_run: bool = True


class HostHandler(TypedHandler):
    """Runs what blocks in a thread, and answers with what it returns."""

    @property
    def home(self) -> Path:
        """`$POT_LAB_HOME`."""
        feed: NetworkFeed = self.settings[FEED]
        return feed.jobs.home

    async def answer(self, work: Callable[[], dict[str, Any]], *, is_look: bool = False) -> None:
        """Answer with the result; a refusal is a 422 in the user's words. The feed then reads anew.

        Args:
            work: what blocks.
            is_look: nothing is changed by it, so the feed need not read.
        """
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, work)
        except (PotLabError, OSError) as error:
            self.refuse(str(error))
        else:
            self.finish(json.dumps(result))
        if not is_look:
            self.settings[FEED].look()


class NetworkActionHandler(HostHandler):
    """POST /pot-lab/networks/NAME/start and /stop: a testnet of this host."""

    @tornado.web.authenticated
    @authorized
    async def post(self, name: str, action: str) -> None:
        """Start what of it does not run, with practice miners, or stop it; answer when that is done."""
        self.body(Nothing)
        todo = ["up", "--miners"] if action == "start" else ["down"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pot_lab.cli",
            "testnet",
            *todo,
            "--name",
            name,
            "--json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        _, told = await process.communicate()
        if process.returncode:
            lines = told.decode(errors="replace").strip().splitlines()
            self.refuse("\n".join(lines[-_TOLD_LINES:]) or f"it ended with {process.returncode}")
        else:
            self.finish(json.dumps({"name": name}))
        self.settings[FEED].look()


class JobActionHandler(HostHandler):
    """POST /pot-lab/jobs/ID/stop, /resume and /rerun."""

    @tornado.web.authenticated
    @authorized
    async def post(self, job_id: str, action: str) -> None:
        """Do it, and answer with the job's id, which of a rerun is a new one."""
        self.body(Nothing)
        await self.answer(lambda: {"id": _ACTIONS[action](self.home, job_id)})


class JobHandler(HostHandler):
    """GET /pot-lab/jobs/ID: one job with its curve, its parameters, and what it takes of this host."""

    @tornado.web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with the job as lists have it; besides, `points` (its reports), `parameters`, `attempt`, `usage`."""
        feed: NetworkFeed = self.settings[FEED]
        await self.answer(
            lambda: {**feed.jobs.job(job_id), "usage": usage_of(registry.get(self.home, job_id))}, is_look=True
        )


class PruneHandler(HostHandler):
    """POST /pot-lab/prune: remove jobs, orders and downloads that are over."""

    @tornado.web.authenticated
    @authorized
    async def post(self) -> None:
        """Remove what ended longer ago, then the oldest until the rest fits; answer with how much that is."""
        form = self.body(PruneForm)

        def work() -> dict[str, Any]:
            keep_bytes = round(form.gib * GIB)
            done = prune(self.home, keep_s=form.days * DAY_S, keep_bytes=keep_bytes, dry_run=form.dry_run)
            return {"jobs": done.jobs, "orders": done.orders, "size_bytes": done.size_bytes}

        await self.answer(work, is_look=form.dry_run)


class CopyNotebookHandler(HostHandler):
    """POST /pot-lab/notebooks/NAME: a notebook that comes with the package, to be run and changed."""

    @tornado.web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        """Copy it into Lab's folder, unless it is there, and answer with its path in the file browser."""
        self.body(Nothing)
        root = Path(self.settings["server_root_dir"]).expanduser()

        def copy() -> dict[str, Any]:
            target = root / f"{name}.ipynb"
            if not target.exists():
                replace_durably(target, recipe(name).read_bytes())
            return {"path": target.name}

        await self.answer(copy, is_look=True)


class JobLogHandler(HostHandler):
    """GET /pot-lab/jobs/ID/log: the end of what it printed."""

    @tornado.web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with at most `LOG_TAIL_BYTES` of text."""
        await self.answer(lambda: {"text": log_tail(registry.get(self.home, job_id).log)}, is_look=True)


class JobNotebookHandler(HostHandler):
    """GET /pot-lab/jobs/ID/notebook: the executed notebook, which lies where Lab shows no files."""

    @tornado.web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with the notebook's JSON."""
        await self.answer(lambda: _notebook(self.home, job_id), is_look=True)


def _stop(home: Path, job_id: str) -> str:
    job = registry.get(home, job_id)
    if job.state == "running":
        JobEventLog(job.directory / "events.jsonl").emit("stop_requested")
        job.cancel()
    return job_id


def _resume(home: Path, job_id: str) -> str:
    return JobRunner(home).resume(job_id).id


def _rerun(home: Path, job_id: str) -> str:
    return JobRunner(home).rerun(job_id).id


_ACTIONS = {"stop": _stop, "resume": _resume, "rerun": _rerun}


def _notebook(home: Path, job_id: str) -> dict[str, Any]:
    job = registry.get(home, job_id)
    path = job.output if job.output.is_file() else job.directory / "input.ipynb"  # it ended before its first cell
    if path.stat().st_size > NOTEBOOK_LIMIT_BYTES:
        raise PotLabError("the notebook is too large to be shown", seen=path.stat().st_size, wanted="at most 32 MiB")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def log_tail(path: Path) -> str:
    """The end of a log, at most `LOG_TAIL_BYTES` of it; "" where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
