"""What the three mining loops share: follow the ledger, keep what must survive a crash on disk, claim what was earned.

A loop is a supervisor: it holds the account's key and the connection, and runs one papermill notebook for each order.
All it must not forget (salts!) is written before it is submitted, so a loop that was killed continues where it was
(section 3.1.1). One order's trouble must not stop the others.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.errors import PotLabError
from pot_lab.files import FileLocked, locked
from pot_lab.jobs.downloads import THREADS
from pot_lab.jobs.earnings import Claimer, Earnings
from pot_lab.jobs.earnings_book import EarningsBook, Entry
from pot_lab.jobs.errors import LoopRunning, OrderUnusable
from pot_lab.jobs.memory import M, Memories
from pot_lab.jobs.order_feed import OrderFeed, OrderReader
from pot_lab.jobs.order_files import OrderFiles
from pot_lab.jobs.recipe_jobs import AT_ONCE, RecipeJobs, Runner
from pot_lab.jobs.troubles import Troubles
from pot_lab.network.client.ledger import NoIdentity
from pot_lab.network.errors import Unreachable
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import AlreadyDone, InsufficientStake
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.protocol.state import Member
from pot_lab.protocol.transactions import Register, Reply
from pot_lab.protocol.views import AccountView, NetworkView, OrderView
from pot_lab.store import Store

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 1.0
IDLE_S = 0.5
"""A notebook's progress raises no event, so a loop looks at its jobs this often."""


class LedgerFace(OrderReader, Protocol):
    """What a loop needs of a ledger client, see `LedgerClient`."""

    identity: Identity | None
    network_id: bytes

    def submit(self, body: Record) -> Reply:
        """Sign and submit a transaction; raises the ledger's refusal, or Unreachable."""

    def holders(self, order_id: bytes) -> list[Member]:
        """To whom shares of an order's keys are sealed, in their order."""

    def account(self, address: bytes) -> AccountView:
        """Stakes and earnings of an account."""

    def network(self) -> NetworkView:
        """Genesis and parameters."""


def milliseconds_now() -> int:
    """The host's clock in milliseconds, for pacing only: the ledger's time decides."""
    return time.time_ns() // 1_000_000


class Loop(Generic[M]):
    """One role's loop.

    Args:
        client: the ledger, with the account's identity.
        store: where this miner puts its blobs, and looks first for others'.
        runner: starts notebook jobs.
        notebook: the recipe.
        home: `$POT_LAB_HOME`; the loop's folders are under `work/`.
        settings: parameters passed on to the notebook.
        limit: stop after this many finished orders; None for no limit.
        make_claimer: opens a chain wallet for claiming; None to leave earnings on the chain.
        clock_ms: the host's clock in milliseconds.
        random_bytes: a source of secret salts, `os.urandom` but in tests.
        threads: how many files are downloaded at once; 0 downloads them within a step.
        jobs_at_once: how many notebooks run at once; the best paid orders go first.

    Raises:
        NoIdentity: the client was opened without an account.
    """

    role: Role
    work: str = ""
    """What its folder and its jobs are called, where that is not the role."""
    memory_kind: type[M]
    windows: tuple[Window, ...] = ()
    """In which windows this role looks for orders."""
    drawn: bool = False
    """Whether it looks only at orders that its account was drawn for."""

    def __init__(
        self,
        client: LedgerFace,
        store: Store,
        runner: Runner,
        notebook: Path,
        home: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        limit: int | None = None,
        make_claimer: Callable[[], Claimer] | None = None,
        clock_ms: Callable[[], int] = milliseconds_now,
        random_bytes: Callable[[int], bytes] = os.urandom,
        threads: int = THREADS,
        jobs_at_once: int = AT_ONCE,
    ) -> None:
        if client.identity is None:
            raise NoIdentity(
                "a mining loop signs, and its connection has no identity", wanted="connect with an account"
            )
        self.client, self.identity = client, client.identity
        self.limit, self.finished = limit, 0
        self.clock_ms, self.random_bytes = clock_ms, random_bytes
        role, account = self.work or self.role.name.lower(), format_address(self.identity.address)[2:10].lower()
        folder = home / "work" / f"{role}-{account}-{client.network_id.hex()[:12]}"
        self.memories = Memories(folder, self.memory_kind)
        self.jobs = RecipeJobs(runner, notebook, role, f"{role}-{account[:6]}", settings or {}, at_once=jobs_at_once)
        assigned = self.identity.address if self.drawn else b""
        self.feed = OrderFeed(client, lambda: clock_ms() / 1000, windows=self.windows, assigned=assigned)
        self.earnings = Earnings(self.identity.address, client.account, make_claimer, clock_ms, EarningsBook(folder))
        self.files = OrderFiles(store, folder.parent / "blobs", clock_ms, self.feed.wake, role=role, threads=threads)
        self.troubles = Troubles(role, clock_ms)

    @property
    def store(self) -> Store:
        """Where this miner puts its blobs."""
        return self.files.store

    # --- the loop -----------------------------------------------------------------------------------------------
    def run(self, stop: threading.Event, after_step: Callable[[], None] = lambda: None) -> None:
        """Work until `stop` is set or `limit` orders are finished; running notebooks are cancelled at a stop.

        Args:
            stop: ends the loop.
            after_step: called after each step, as to publish the loop's state.

        Raises:
            LoopRunning: another process mines in this role for this account.
            InsufficientStake: the account has not staked enough for this role.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.memories.folder / ".lock", timeout_s=LOCK_TIMEOUT_S))
            except FileLocked as error:
                raise LoopRunning(
                    f"another {self.role.name.lower()} of this account runs on this host",
                    seen=format_address(self.identity.address),
                    wanted="one process for each account and role",
                ) from error
            self.register()
            stack.callback(lambda: self.jobs.cancel(self.memories.active(), resumable=True))
            stack.callback(self.jobs.release)
            stack.callback(self.files.close)
            stack.callback(self.feed.follow().close)
            while not stop.is_set() and (self.limit is None or self.finished < self.limit):
                self.step()
                self._aside(after_step)
                self.feed.wait(IDLE_S)

    def register(self) -> None:
        """Register the role in the ledger, if that is not done yet.

        Raises:
            InsufficientStake: the account has not staked enough for this role.
        """
        self._register()
        log.info(
            "event=registered role=%s account=%s next='waiting for orders'",
            self.role.name.lower(),
            format_address(self.identity.address),
        )

    def _register(self) -> None:
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
        """Do what is due, once: go on with the orders at hand, then begin new ones.

        What fails for a reason outside (the network is away, a disk is full, a store does not answer) is logged and
        tried again in the next step. What should not happen at all is logged with its traceback, and the order rests.
        Either way the other orders are tended.
        """
        self.feed.refresh()
        self._aside(self.prepare_jobs)
        self._aside(self.files.prune)
        self.troubles.check_clock(self.feed.ahead_ms)
        try:
            for memory in self.memories.active():
                self._attempt(memory.id, functools.partial(self._continue, memory))
            self._attempt(b"", self.begin_new)
        except Unreachable as error:  # it would keep every other order waiting for its timeout too
            self.troubles.warn(b"", error)

    def prepare_jobs(self) -> None:
        """A notebook may be started soon."""
        self.jobs.prepare()

    def begin_new(self) -> None:
        """Look for orders that this role should work on, and begin them."""
        raise NotImplementedError

    def advance(self, memory: M, view: OrderView) -> None:
        """Do what is due for one order that was begun."""
        raise NotImplementedError

    def _continue(self, memory: M) -> None:
        if self.troubles.rests(memory.id):
            return
        view = self.feed.view(memory.id)
        try:
            if view is None:
                self.finish(memory, "gone from the ledger")
            else:
                self.advance(memory, view)
        except OrderUnusable as error:
            log.warning("event=order_unusable order=%s reason=%r", memory.order_id[:12], str(error))
            self.finish(memory, f"unusable: {error}")

    def _attempt(self, order_id: bytes, action: Callable[[], None]) -> None:
        try:
            action()
            self.troubles.over(order_id)
        except Unreachable:
            raise
        except (PotLabError, OSError) as error:
            self.troubles.warn(order_id, error)
        except Exception:
            self.troubles.fail(order_id)

    def _aside(self, action: Callable[[], None]) -> None:
        """Do what no order waits for; whatever it raises is logged, and the orders are tended all the same."""
        try:
            action()
        except Exception:
            log.exception("event=aside_failed role=%s", self.role.name.lower())

    # --- an order's life ------------------------------------------------------------------------------------------
    def order_folder(self, order_id: bytes) -> Path:
        """Where this loop keeps everything about one order."""
        return self.memories.order_folder(order_id)

    def has_begun(self, order_id: bytes) -> bool:
        """Whether this order was begun, finished or not."""
        return self.memories.has(order_id)

    def finish(self, memory: M, outcome: str, view: OrderView | None = None) -> None:
        """Archive an order, count it, and note what it paid.

        Args:
            memory: the order's.
            outcome: how it went, for people.
            view: the order, where it has ended.
        """
        paid = [each for each in (view.payouts if view else ()) if each.account == self.identity.address]
        entry = Entry(
            ended_ms=self.clock_ms(),
            order_id=memory.order_id,
            outcome=outcome,
            grains=sum(each.grains for each in paid),
            reasons=tuple(each.reason for each in paid),
            worked_s=self.jobs.worked_s(memory),
        )
        self.archive(memory, outcome)
        self._aside(lambda: self.earnings.book.append(entry))
        self.finished += 1
        log.info(
            "event=order_finished role=%s order=%s outcome=%r", self.role.name.lower(), memory.order_id[:12], outcome
        )

    def archive(self, memory: M, outcome: str) -> None:
        """Mark an order as finished, without counting it: nothing is left to do for it."""
        self.jobs.cancel([memory])
        self.jobs.forget(memory.id)
        memory.finished, memory.outcome = True, outcome
        self.memories.write(memory)
        self.feed.forget(memory.id)
        self.files.forget(memory.id)
        self.files.uploaded(self.order_folder(memory.id))
        self.troubles.forget(memory.id)

    def start_job(self, memory: M) -> None:
        """Run the recipe on the order's workspace, and remember the job."""
        memory.job_id = self.jobs.start(memory.id, self.order_folder(memory.id))
        self.memories.write(memory)
        self.files.forget(memory.id)

    def may_start_job(self, view: OrderView) -> bool:
        """Whether the order's notebook may start now, beside those that run."""
        return self.jobs.may_start(view.id, view.order.reward_grains, self.memories.active())

    def end_job(self, memory: M) -> None:
        """End the order's notebook if it still runs: nothing that it does is of use any more."""
        if not memory.job_id or memory.job_over:
            return
        self.jobs.cancel([memory])
        if not self.jobs.is_running(memory):
            memory.job_over = True
            self.memories.write(memory)

    def job_is_lost(self, memory: M) -> bool:
        """Resume the order's job if it was lost or failed; returns whether it is gone for good."""
        return self.jobs.gone_for_good(memory, lambda: self.memories.write(memory))

    def paid(self, view: OrderView) -> bool:
        """Of an order that has ended: whether nothing is left to do for its money, which is claimed here."""
        if view.window is Window.VOID and not view.payouts:
            return True
        return bool(view.epoch) and self.earnings.claim()
