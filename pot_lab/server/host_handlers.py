"""Routes that start, stop and show what runs on this host: networks, notebook jobs, miners.

All need the server's token or its cookie with the XSRF token, and the authorizer's leave. What touches the disk or
waits for a process never runs on the server's own loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tornado.web
from jupyter_server.auth.decorator import authorized

from pot_lab import home
from pot_lab.errors import PotLabError
from pot_lab.jobs import registry
from pot_lab.jobs.miners import get_miner, start_miner
from pot_lab.jobs.recipe_files import NOTEBOOK_LIMIT_BYTES
from pot_lab.jobs.recipe_parameters import recipe_parameters
from pot_lab.jobs.recipes import recipe
from pot_lab.jobs.registry import JobEventLog
from pot_lab.jobs.runner import JobRunner
from pot_lab.server.handlers import FEED
from pot_lab.server.money_handlers import Nothing, TypedHandler

LOG_TAIL_BYTES = 32_768
_TOLD_LINES = 6

Value = str | int | float | bool | None


class MinerForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner to start: its role, its account (by default the role's first), and parameters of the stock notebook."""

    role: Literal["provider", "validator", "verifier"]
    account: Annotated[str, msgspec.Meta(max_length=400)] = ""
    parameters: Annotated[dict[str, Value], msgspec.Meta(max_length=64)] = {}


class HostHandler(TypedHandler):
    """Runs what blocks in a thread, and answers with what it returns."""

    async def answer(self, work: Callable[[], dict[str, Any]]) -> None:
        """Answer with the result; a refusal is a 422 in the user's words. The feed then reads anew."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, work)
        except (PotLabError, OSError) as error:
            self.refuse(str(error))
        else:
            self.finish(json.dumps(result))
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
        await self.answer(lambda: {"id": {"stop": _stop, "resume": _resume, "rerun": _rerun}[action](job_id)})


class JobLogHandler(HostHandler):
    """GET /pot-lab/jobs/ID/log: the end of what it printed."""

    @tornado.web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with at most `LOG_TAIL_BYTES` of text."""
        await self.answer(lambda: {"text": _tail(registry.get(home.home(), job_id).log)})


class JobNotebookHandler(HostHandler):
    """GET /pot-lab/jobs/ID/notebook: the executed notebook, which lies where Lab shows no files."""

    @tornado.web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Answer with the notebook's JSON."""
        await self.answer(lambda: _notebook(job_id))


class MinersHandler(HostHandler):
    """POST /pot-lab/miners: start a miner."""

    @tornado.web.authenticated
    @authorized
    async def post(self) -> None:
        """Start it, and answer with its id."""
        form = self.body(MinerForm)

        def start() -> dict[str, Any]:
            made = start_miner(home.home(), form.role, account=form.account, parameters=form.parameters)
            return {"id": made.id}

        await self.answer(start)


class MinerActionHandler(HostHandler):
    """POST /pot-lab/miners/ID/stop."""

    @tornado.web.authenticated
    @authorized
    async def post(self, miner_id: str) -> None:
        """Request the stop, and answer at once."""
        self.body(Nothing)

        def stop() -> dict[str, Any]:
            get_miner(home.home(), miner_id).stop()
            return {"id": miner_id}

        await self.answer(stop)


class MinerLogHandler(HostHandler):
    """GET /pot-lab/miners/ID/log: the end of what it logged."""

    @tornado.web.authenticated
    @authorized
    async def get(self, miner_id: str) -> None:
        """Answer with at most `LOG_TAIL_BYTES` of text."""
        await self.answer(lambda: {"text": _tail(get_miner(home.home(), miner_id).log)})


class RecipeHandler(HostHandler):
    """GET /pot-lab/recipes/ROLE: what may be set of the role's stock notebook."""

    @tornado.web.authenticated
    @authorized
    async def get(self, role: str) -> None:
        """Answer with names, types, defaults and comments."""
        await self.answer(lambda: {"parameters": recipe_parameters(recipe(role))})


def _stop(job_id: str) -> str:
    job = registry.get(home.home(), job_id)
    if job.state == "running":
        JobEventLog(job.directory / "events.jsonl").emit("stop_requested")
        job.cancel()
    return job_id


def _resume(job_id: str) -> str:
    return JobRunner(home.home()).resume(job_id).id


def _rerun(job_id: str) -> str:
    return JobRunner(home.home()).rerun(job_id).id


def _notebook(job_id: str) -> dict[str, Any]:
    job = registry.get(home.home(), job_id)
    path = job.output if job.output.is_file() else job.directory / "input.ipynb"  # it ended before its first cell
    if path.stat().st_size > NOTEBOOK_LIMIT_BYTES:
        raise PotLabError("the notebook is too large to be shown", seen=path.stat().st_size, wanted="at most 32 MiB")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
