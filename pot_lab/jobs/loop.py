"""What the three mining loops share: follow the ledger, keep what must survive a crash on disk, claim what was earned.

A loop is a supervisor: it holds the account's key and the connection, and runs one papermill notebook for each order.
All it must not forget (salts!) is written before it is said, so a loop that was killed goes on where it was (section
3.1.1; jupyter.md, "Miners").
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pot_lab.crypto.identity import format_address
from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.files import replace_durably
from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.protocol.errors import AlreadyDone, InsufficientStake, UnknownOrder
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.protocol.transactions import Register
from pot_lab.protocol.views import OrderView
from pot_lab.store import Store

log = logging.getLogger(__name__)

DOWNLOAD_LIMIT_BYTES = 4 << 30
DOWNLOAD_TIMEOUT_S = 600.0
IDLE_S = 0.5


class Claimer(Protocol):
    """What a loop needs of a chain wallet."""

    def claim(self, account: bytes, cumulative_grains: int, proof: list[bytes]) -> object: ...


class Loop:
    """One role's loop.

    Args:
        client: connection with the account's identity.
        store: where this miner puts its blobs, and looks first for others'.
        runner: starts notebook jobs.
        notebook: the recipe.
        home: `$POT_LAB_HOME`; the loop's folders are under `work/`.
        settings: parameters passed on to the notebook.
        limit: stop after this many finished orders; None for ever.
        make_claimer: opens a chain wallet for claiming; None to leave earnings on the chain.
    """

    role: Role

    def __init__(
        self,
        client: LedgerClient,
        store: Store,
        runner: JobRunner,
        notebook: Path,
        home: Path,
        *,
        settings: dict[str, Any] | None = None,
        limit: int | None = None,
        make_claimer: Callable[[], Claimer] | None = None,
    ) -> None:
        assert client.identity is not None, "a mining loop signs"
        self.client, self.store, self.runner, self.notebook = client, store, runner, notebook
        self.identity = client.identity
        self.settings, self.limit, self.make_claimer = settings or {}, limit, make_claimer
        network = client.network_id.hex()[:12]
        self.folder = (
            home / "work" / f"{self.role.name.lower()}-{format_address(self.identity.address)[2:10].lower()}-{network}"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.finished = 0
        self._wake = threading.Event()
        self._troubled = ""

    # --- the loop -----------------------------------------------------------------------------------------------
    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set or `limit` orders are finished; running notebooks are cancelled at a stop.

        Raises:
            InsufficientStake: the account has not staked enough for this role.
        """
        self.register()
        subscription = self.client.follow(lambda _sequence, _time_ms, events: self._wake.set() if events else None)
        try:
            while not stop.is_set() and (self.limit is None or self.finished < self.limit):
                try:
                    self.step()
                    self._troubled = ""
                except (PotLabError, OSError) as error:  # what is away, or full, comes back; nothing is lost meanwhile
                    if str(error) != self._troubled:
                        log.warning("event=waiting role=%s reason=%r", self.role.name.lower(), str(error))
                    self._troubled = str(error)
                self._wake.wait(IDLE_S)
                self._wake.clear()
        finally:
            subscription.close()
            for job in self.running_jobs():
                job.cancel()

    def register(self) -> None:
        """Take up the role in the ledger, if that is not done yet."""
        view = self.client.account(self.identity.address)
        stake = next((stake for stake in view.stakes if stake.role == self.role), None)
        if stake is not None and stake.active:
            return
        wanted = self.client.network().parameters.min_stake_grains[self.role]
        bonded = stake.bonded_grains if stake else 0
        if bonded < wanted:
            name = self.role.name.lower()
            raise InsufficientStake(
                f"the account's stake as a {name} is too small; stake with `pot-lab wallet stake {name}`",
                seen=f"{bonded / GRAINS_PER_POT:g} POT",
                wanted=f"at least {wanted / GRAINS_PER_POT:g} POT",
            )
        try:
            self.client.submit(Register(int(self.role)))
        except AlreadyDone:  # by another process of the same account
            pass

    def step(self) -> None:
        """Look once at the ledger and do what is due."""
        raise NotImplementedError

    # --- memory -------------------------------------------------------------------------------------------------
    def order_folder(self, order_id: bytes) -> Path:
        """Where this loop keeps everything about one order."""
        return self.folder / order_id.hex()[:24]

    def remember(self, order_id: bytes, memory: dict[str, Any]) -> None:
        """Write what the loop knows of an order; on disk before anything that depends on it is said."""
        self.order_folder(order_id).mkdir(exist_ok=True)
        replace_durably(self.order_folder(order_id) / "memory.json", json.dumps(memory, indent=1).encode())

    def memories(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Orders that this loop has begun and not finished."""
        found = []
        for path in sorted(self.folder.glob("*/memory.json")):
            memory = json.loads(path.read_text())
            if not memory.get("finished"):
                found.append((bytes.fromhex(memory["order_id"]), memory))
        return found

    def knows(self, order_id: bytes) -> bool:
        """Whether this order was begun, finished or not."""
        return (self.order_folder(order_id) / "memory.json").exists()

    def finish(self, order_id: bytes, memory: dict[str, Any], outcome: str) -> None:
        """Put an order away."""
        self.remember(order_id, {**memory, "finished": True, "outcome": outcome})
        self.finished += 1
        log.info(
            "event=order_finished role=%s order=%s outcome=%r", self.role.name.lower(), order_id.hex()[:12], outcome
        )

    # --- jobs ---------------------------------------------------------------------------------------------------
    def start_job(self, order_id: bytes, view: OrderView) -> Job:
        """Run the recipe on this order's workspace."""
        parameters = {"workspace": str(self.order_folder(order_id)), **self.settings}
        name = f"{self.role.name.lower()}-{format_address(self.identity.address)[2:8].lower()}-{order_id.hex()[:8]}"
        taken = {job.id for job in self.runner.jobs()}
        job_id = next(name for name in (name, *(f"{name}-{i}" for i in range(2, 1000))) if name not in taken)
        log.info("event=job_started role=%s order=%s job=%s", self.role.name.lower(), order_id.hex()[:12], job_id)
        return self.runner.start(self.notebook, parameters, kind=self.role.name.lower(), job_id=job_id)

    def running_jobs(self) -> list[Job]:
        """This loop's notebooks that run now."""
        names = [memory["job_id"] for _, memory in self.memories() if memory.get("job_id")]
        return [job for job in self.runner.jobs() if job.id in names and job.state == "running"]

    def revive(self, memory: dict[str, Any], tries: int = 3) -> bool:
        """Resume an order's notebook if it was lost or failed; returns whether it is gone for good."""
        job = self.runner.get(memory["job_id"])
        if job.state in ("running", "done"):
            return False
        if memory.get("resumed", 0) >= tries or job.state == "cancelled":
            return True
        memory["resumed"] = memory.get("resumed", 0) + 1
        self.remember(bytes.fromhex(memory["order_id"]), memory)
        log.warning("event=job_resumed job=%s state=%s", job.id, job.state)
        self.runner.resume(job.id)
        return False

    # --- blobs and money ----------------------------------------------------------------------------------------
    def download(self, link: Link) -> bytes:
        """Fetch a blob, checked by size and hash, keeping beginnings for the next try."""
        cache = self.folder.parent / "blobs"
        return self.store.fetch(link, limit_bytes=DOWNLOAD_LIMIT_BYTES, timeout_s=DOWNLOAD_TIMEOUT_S, cache_dir=cache)

    def view(self, order_id: bytes) -> OrderView | None:
        """The order as the ledger has it; None when only its header is kept."""
        try:
            return self.client.order(order_id)
        except UnknownOrder:
            return None

    def claim_earnings(self) -> bool:
        """Claim on the chain what the last settlement lets this account claim; returns whether it was done (or nobody
        claims).
        """
        if self.make_claimer is None:
            return True
        view = self.client.account(self.identity.address)
        if not view.claimable_cumulative_grains:
            return True
        try:
            self.make_claimer().claim(self.identity.address, view.claimable_cumulative_grains, list(view.claim_proof))
        except PotLabError as error:
            log.info("event=not_claimed reason=%r", str(error))
            return "NothingToClaim" in str(error)
        log.info("event=claimed cumulative_grains=%d", view.claimable_cumulative_grains)
        return True


def milliseconds_now() -> int:
    """The host's clock, for pacing only: the ledger's time decides."""
    return time.time_ns() // 1_000_000
