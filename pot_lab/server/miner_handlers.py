"""Routes about miners of this host: starting them, what they earned, how they stand, and what work takes here."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tornado.web
from jupyter_server.auth.decorator import authorized

from pot_lab.errors import PotLabError
from pot_lab.jobs.errors import NotebookUnusable
from pot_lab.jobs.miners import get_miner, start_miner
from pot_lab.jobs.recipe_parameters import recipe_parameters
from pot_lab.jobs.recipes import recipe
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED
from pot_lab.server.host import earnings_of, host_usage
from pot_lab.server.host_handlers import HostHandler, log_tail
from pot_lab.server.money_handlers import Nothing
from pot_lab.server.source import miner_addresses

DAY_MS = 86_400_000
LONGEST_DAYS = 3_660

Value = str | int | float | bool | None


class MinerForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner to start.

    Attributes:
        role: what it does.
        account: a testnet's account or a keystore's path; by default the role's first account.
        notebook: a recipe of one's own, by its path in Lab's file browser; by default the stock one.
        parameters: of the notebook.
        jobs: how many notebooks run at once; 0 for the usual number.
        min_reward_per_hour: POT that an order must offer for an hour of training, of a provider.
    """

    role: Literal["provider", "validator", "verifier"]
    account: Annotated[str, msgspec.Meta(max_length=400)] = ""
    notebook: Annotated[str, msgspec.Meta(max_length=400)] = ""
    parameters: Annotated[dict[str, Value], msgspec.Meta(max_length=64)] = {}
    jobs: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    min_reward_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0


class NotebookHandler(HostHandler):
    """What reads a notebook of the user's."""

    def recipe_path(self, role: str, notebook: str) -> Path:
        """The recipe of a role, or one's own below the folder that Lab's file browser shows.

        Raises:
            NotebookUnusable: it is none, or lies elsewhere.
        """
        if not notebook:
            return recipe(role)
        root = Path(self.settings["server_root_dir"]).expanduser().resolve()
        path = (root / notebook.replace("\0", "").lstrip("/")).resolve()
        if not path.is_relative_to(root) or path.suffix != ".ipynb" or not path.is_file():
            raise NotebookUnusable(
                "there is no such notebook", seen=notebook, wanted="an .ipynb file that Lab's file browser shows"
            )
        return path


class MinersHandler(NotebookHandler):
    """POST /pot-lab/miners: start a miner."""

    @tornado.web.authenticated
    @authorized
    async def post(self) -> None:
        """Start it, and answer with its id."""
        form = self.body(MinerForm)

        def start() -> dict[str, Any]:
            feed: NetworkFeed = self.settings[FEED]
            made = start_miner(
                feed.jobs.home,
                form.role,
                account=form.account,
                parameters=form.parameters,
                notebook=self.recipe_path(form.role, form.notebook) if form.notebook else None,
                jobs=form.jobs,
                min_reward_per_hour=form.min_reward_per_hour,
            )
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
            get_miner(self.home, miner_id).stop()
            return {"id": miner_id}

        await self.answer(stop)


class MinerLogHandler(HostHandler):
    """GET /pot-lab/miners/ID/log: the end of what it logged."""

    @tornado.web.authenticated
    @authorized
    async def get(self, miner_id: str) -> None:
        """Answer with the log's end as text."""
        await self.answer(lambda: {"text": log_tail(get_miner(self.home, miner_id).log)}, is_look=True)


class RecipeHandler(NotebookHandler):
    """GET /pot-lab/recipes/ROLE: what may be set of the role's notebook."""

    @tornado.web.authenticated
    @authorized
    async def get(self, role: str) -> None:
        """Answer with names, types, defaults and comments; `notebook` names one's own instead of the stock one."""
        notebook = self.get_query_argument("notebook", "")
        await self.answer(lambda: {"parameters": recipe_parameters(self.recipe_path(role, notebook))}, is_look=True)


class EarningsHandler(HostHandler):
    """GET /pot-lab/earnings: what the miners of this host earned."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with each miner's earnings of the last `days` (30): in all, by day, by order."""
        text = self.get_query_argument("days", "30")
        if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= LONGEST_DAYS:
            raise tornado.web.HTTPError(400, f"days is a whole number from 1 to {LONGEST_DAYS}")
        since_ms = time.time_ns() // 1_000_000 - int(text) * DAY_MS
        await self.answer(lambda: {"miners": earnings_of(self.home, since_ms)}, is_look=True)


class StandingHandler(HostHandler):
    """GET /pot-lab/standing: how this host's accounts stand in the network as miners."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with each account's stakes, wins, claims, scores that agreed and that did not, and what was lost."""
        feed: NetworkFeed = self.settings[FEED]
        try:
            accounts = await feed.ask(lambda source: source.standing(miner_addresses(source.name, feed.jobs.home)))
        except (PotLabError, OSError, TimeoutError) as error:
            self.refuse(str(error) or type(error).__name__)
        else:
            self.finish(json.dumps({"accounts": accounts}))


class HostUsageHandler(HostHandler):
    """GET /pot-lab/host: processors, memory and graphics cards of this host."""

    @tornado.web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with how they are used now."""
        self.finish(json.dumps(await asyncio.get_running_loop().run_in_executor(None, host_usage)))
