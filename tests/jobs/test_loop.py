"""What all loops share: registration, stopping, and that one order's trouble is not the others'."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pot_lab.errors import PotLabError
from pot_lab.jobs.earnings import RETRY_MS, Earnings
from pot_lab.jobs.earnings_book import EarningsBook
from pot_lab.jobs.errors import JobExists, LoopRunning
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import OrderMemory, ProviderMemory
from pot_lab.jobs.provider import ProviderLoop
from pot_lab.jobs.recipe_jobs import HOPELESS, RESUMES, RecipeJobs
from pot_lab.jobs.troubles import CLOCK_OFF_MS, REST_MS
from pot_lab.jobs.validator import ValidatorLoop
from pot_lab.network.client.ledger import NoIdentity
from pot_lab.network.errors import Unreachable
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import InsufficientStake
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Register
from pot_lab.protocol.views import OrderView
from pot_lab.store import Store
from tests.jobs.in_process import HeldRunner, InProcessClient, Market, Wallet
from tests.protocol.scenes import PROVIDERS
from tests.protocol.world import key

BOOK = EarningsBook(Path("never written"))


class Noting(Loop[OrderMemory]):
    """Begins every open order and notes what it is asked to advance."""

    role = Role.PROVIDER
    memory_kind = OrderMemory

    def begin_new(self) -> None:
        for view in self.feed.open_orders(20):
            if not self.has_begun(view.id):
                self.start_job(OrderMemory(order_id=view.id.hex()))

    def advance(self, memory: OrderMemory, view: OrderView) -> None:
        self.advanced = [*getattr(self, "advanced", []), memory.id]
        trouble = getattr(self, "trouble", {}).get(memory.id)
        if trouble is not None:
            raise trouble


@pytest.fixture
def make(market: Market, store: Store, tmp_path: Path) -> Callable[..., Any]:
    def loop(kind: type[Loop[Any]] = Noting, identity: Any = PROVIDERS[0], **options: Any) -> Any:
        made = kind(
            InProcessClient(market, identity),
            store,
            HeldRunner(),
            Path("recipe.ipynb"),
            tmp_path,
            clock_ms=lambda: market.now_ms,
            threads=0,
            **options,
        )
        market.followers.append(made.feed.on_batch)
        return made

    return loop


def test_a_connection_without_an_account_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(NoIdentity):
        make(identity=None)


def test_a_role_is_registered_once_and_needs_its_stake(make: Callable[..., Any], market: Market) -> None:
    loop = make(identity=PROVIDERS[0])
    loop.register()
    assert loop.client.submitted == []  # registered already
    newcomer = make(ValidatorLoop, key("newcomer"))
    with pytest.raises(InsufficientStake, match="wallet stake validator") as refusal:
        newcomer.register()
    assert refusal.value.seen == "0 POT"
    wanted = market.parameters.min_stake_grains[Role.VALIDATOR]
    address = key("newcomer").address
    staked = ChainEvent(
        kind="staked",
        block=1,
        log_index=0,
        account=address,
        role=int(Role.VALIDATOR),
        amount_grains=wanted - 1,
        subject=b"",
        detail=(wanted - 1,),
    )
    market.chain(staked)
    with pytest.raises(InsufficientStake):
        newcomer.register()
    market.chain(msgspec.structs.replace(staked, block=2, amount_grains=1, detail=(wanted,)))
    newcomer.register()
    newcomer.register()
    assert newcomer.client.submitted == [Register(int(Role.VALIDATOR))]


def test_one_orders_trouble_is_logged_once_and_does_not_stop_the_others(
    make: Callable[..., Any], place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    orders = sorted(place() for _ in range(3))
    loop = make()
    loop.step()
    loop.trouble = {orders[0]: OSError("no room"), orders[1]: PotLabError("the store does not answer")}
    for _ in range(3):
        loop.step()
    assert loop.advanced == orders * 3
    messages = [record.getMessage() for record in caplog.records if "event=waiting" in record.getMessage()]
    assert len(messages) == 2 and orders[0].hex()[:12] in messages[0] and "no room" in messages[0]
    loop.trouble.pop(orders[0])
    loop.step()
    loop.trouble[orders[0]] = OSError("no room")
    loop.step()
    assert caplog.text.count("no room") == 2


def test_a_network_that_is_away_is_not_asked_for_every_order(
    make: Callable[..., Any], place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    orders = sorted(place() for _ in range(3))
    loop = make()
    loop.step()
    loop.trouble = {orders[0]: Unreachable("two aggregators do not answer")}
    loop.step()
    loop.step()
    assert loop.advanced == [orders[0]] * 2 and caplog.text.count("two aggregators") == 1


def test_a_mistake_of_ours_is_shown_with_its_traceback_and_stops_no_other_order(
    make: Callable[..., Any], place: Callable[..., bytes], market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    orders = sorted(place() for _ in range(3))
    loop = make()
    loop.step()
    loop.trouble = {orders[0]: KeyError("bug")}
    loop.step()
    loop.step()
    assert loop.advanced == [*orders, *orders[1:]] and caplog.text.count("KeyError: 'bug'") == 1
    assert f"event=order_failed role=provider order={orders[0].hex()[:12]}" in caplog.text
    market.now_ms += REST_MS
    loop.trouble.clear()
    loop.step()
    assert loop.advanced[-3:] == orders


def test_a_second_process_of_an_account_in_a_role_is_refused(
    make: Callable[..., Any], place: Callable[..., bytes], until: Callable[..., None]
) -> None:
    place()
    first, second, stop = make(), make(), threading.Event()
    thread = threading.Thread(target=first.run, args=(stop,))
    thread.start()
    runner: HeldRunner = first.jobs._runner
    until(lambda: runner.jobs)
    with pytest.raises(LoopRunning, match="another provider of this account"):
        second.run(threading.Event())
    other_account = make(identity=PROVIDERS[1])
    stopped = threading.Event()
    stopped.set()
    other_account.run(stopped)
    stop.set()
    thread.join(240)
    second.run(stopped)  # the lock went with the first one


def test_an_order_that_the_ledger_forgot_is_archive(
    make: Callable[..., Any], place: Callable[..., bytes], market: Market
) -> None:
    order_id = place()
    loop = make()
    loop.step()
    market.ledger.state.orders.pop(order_id)
    market.now_ms += 60_000
    loop.step()
    assert loop.finished == 1
    assert json.loads((loop.order_folder(order_id) / "memory.json").read_text())["outcome"] == "gone from the ledger"


def test_an_idle_step_asks_the_ledger_nothing(
    make: Callable[..., Any], place: Callable[..., bytes], market: Market
) -> None:
    place()
    for kind in (ProviderLoop, ValidatorLoop):
        loop = make(kind)
        loop.step()
        market.now_ms += 1_500
        loop.step()
        loop.client.read.clear()
        for _ in range(5):
            market.now_ms += 500
            loop.step()
        assert loop.client.read == []


def test_a_stopped_loop_follows_nothing_and_cancels_its_jobs(
    make: Callable[..., Any],
    place: Callable[..., bytes],
    market: Market,
    until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pot_lab")
    place()
    loop, stop = make(), threading.Event()
    market.followers.clear()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    runner: HeldRunner = loop.jobs._runner
    until(lambda: runner.jobs)
    stop.set()
    thread.join(240)
    assert not thread.is_alive() and market.followers == []
    assert [(job.state, job.is_stopped) for job in runner.jobs.values()] == [("cancelled", False)]
    (said,) = [record.getMessage() for record in caplog.records if "event=registered" in record.getMessage()]
    assert "role=provider account=0x" in said and "waiting for orders" in said


def test_a_loop_ends_at_its_limit(make: Callable[..., Any], place: Callable[..., bytes], market: Market) -> None:
    order_id = place()
    loop = make(limit=1)
    loop.step()
    market.ledger.state.orders.pop(order_id)
    loop.feed.forget(order_id)
    loop.run(threading.Event())
    assert loop.finished == 1


# --- earnings ------------------------------------------------------------------------------------------------------
class Account:
    """An account's view with something to claim."""

    def __init__(self, client: InProcessClient, grains: int) -> None:
        self.client, self.grains, self.reads = client, grains, 0

    def __call__(self, address: bytes) -> Any:
        self.reads += 1
        proof = (b"\x01" * 32,)
        return msgspec.structs.replace(
            self.client.account(address), claimable_cumulative_grains=self.grains, claim_proof=proof
        )


def test_claiming_asks_the_chain_only_when_there_is_something(market: Market, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wallet, client = Wallet(), InProcessClient(market, PROVIDERS[0])
    me = PROVIDERS[0].address
    account = Account(client, 0)
    assert Earnings(me, account, None, lambda: 0, BOOK).claim() and account.reads == 0
    assert Earnings(me, account, lambda: wallet, lambda: 0, BOOK).claim() and wallet.claimed == []
    account.grains = 5
    assert Earnings(me, account, lambda: wallet, lambda: 0, BOOK).claim() and wallet.claimed == [(me, 5)]
    assert "event=claimed cumulative_grains=5" in caplog.text


def test_a_claim_that_failed_is_tried_again_after_a_while(market: Market, caplog: pytest.LogCaptureFixture) -> None:
    wallet, now_ms = Wallet(), [10_000]
    account = Account(InProcessClient(market, PROVIDERS[0]), 5)
    earnings = Earnings(PROVIDERS[0].address, account, lambda: wallet, lambda: now_ms[0], BOOK)
    wallet.failing = PotLabError("the chain does not answer")
    with caplog.at_level(logging.INFO):
        assert not earnings.claim()
    assert "does not answer" in caplog.text
    now_ms[0] += RETRY_MS - 1
    assert not earnings.claim() and len(wallet.claimed) == 1
    now_ms[0] += 1
    assert not earnings.claim() and len(wallet.claimed) == 2
    now_ms[0] -= 2 * RETRY_MS  # somebody set the clock back
    wallet.failing = None
    assert earnings.claim() and len(wallet.claimed) == 3
    assert earnings.claim() and len(wallet.claimed) == 4


def test_what_another_process_claimed_is_done(market: Market) -> None:
    wallet = Wallet()
    wallet.failing = PotLabError("the chain reverted: NothingToClaim")
    account = Account(InProcessClient(market, PROVIDERS[0]), 5)
    assert Earnings(PROVIDERS[0].address, account, lambda: wallet, lambda: 0, BOOK).claim()


# --- jobs ----------------------------------------------------------------------------------------------------------
def test_a_jobs_id_is_free_and_names_role_account_and_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "provider", "provider-abcdef", {"threads": 2})
    order_id = bytes.fromhex("0123456789" + "00" * 27)
    ids = [jobs.start(order_id, tmp_path) for _ in range(3)]
    assert ids == ["provider-abcdef-01234567", "provider-abcdef-01234567-2", "provider-abcdef-01234567-3"]
    assert "event=job_started role=provider order=0123456789" in caplog.text
    assert runner.jobs[ids[0]].parameters == {"workspace": str(tmp_path), "threads": 2}


def test_there_is_an_end_to_the_search_for_a_free_id(tmp_path: Path) -> None:
    runner = HeldRunner()
    runner.refusal = JobExists("there is a job of this id")
    with pytest.raises(JobExists, match="too many"):
        RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {}).start(bytes(32), tmp_path)


def test_the_memory_of_a_resumption_is_written_before_it_happens(tmp_path: Path) -> None:
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {})
    memory = ProviderMemory(order_id="00" * 32, job_id=jobs.start(bytes(32), tmp_path))
    runner.only.state = "lost"

    def fail() -> None:
        raise OSError("no room")

    with pytest.raises(OSError):
        jobs.gone_for_good(memory, fail)
    assert runner.resumed == []


@pytest.mark.parametrize(
    ("state", "resumed", "gone"),
    [("running", 9, False), ("done", 9, False), ("lost", RESUMES - 1, False), ("lost", RESUMES, True),
     ("failed", 0, False), ("failed", RESUMES, True), ("cancelled", 0, True)],
)  # fmt: skip
def test_when_a_job_is_gone_for_good(state: Any, resumed: int, gone: bool, tmp_path: Path) -> None:
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {})
    memory = ProviderMemory(order_id="00" * 32, job_id=jobs.start(bytes(32), tmp_path), resumed=resumed)
    runner.only.state = state
    assert jobs.gone_for_good(memory, lambda: None) is gone
    assert len(runner.resumed) == (state in ("lost", "failed") and not gone)


def test_a_job_whose_folder_is_gone_is_gone_for_good(tmp_path: Path) -> None:
    jobs = RecipeJobs(HeldRunner(), Path("recipe.ipynb"), "provider", "p", {})
    memory = ProviderMemory(order_id="00" * 32, job_id="none")
    assert jobs.gone_for_good(memory, lambda: None)
    jobs.cancel([memory, ProviderMemory(order_id="00" * 32)])


def test_only_running_jobs_are_cancelled(tmp_path: Path) -> None:
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {})
    memories = [ProviderMemory(order_id="00" * 32, job_id=jobs.start(bytes(32), tmp_path)) for _ in range(2)]
    runner.jobs[memories[0].job_id].state = "done"
    jobs.cancel(memories)
    assert [job.state for job in runner.jobs.values()] == ["done", "cancelled"]


def test_a_job_that_a_signal_ended_is_resumed_and_one_that_somebody_stopped_is_not(tmp_path: Path) -> None:
    runner = HeldRunner()
    before, after = (RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {}) for _ in range(2))
    memory = ProviderMemory(order_id="00" * 32, job_id=before.start(bytes(32), tmp_path))
    before.cancel([memory], resumable=True)  # the loop ended with SIGTERM
    assert not after.gone_for_good(memory, lambda: None) and memory.resumed == 0
    assert runner.only.state == "running" and not after.gone_for_good(memory, lambda: None)
    for attempt in range(1, RESUMES + 1):  # the job alone gets a signal, again and again
        runner.only.cancel(resumable=True)
        assert not after.gone_for_good(memory, lambda: None) and memory.resumed == attempt
    runner.only.cancel(resumable=True)
    assert after.gone_for_good(memory, lambda: None)
    memory.resumed = 0
    runner.only.cancel()
    assert after.gone_for_good(memory, lambda: None)


def test_a_job_that_failed_is_told_with_cell_notebook_and_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {})
    memory = ProviderMemory(order_id="00" * 32, job_id=jobs.start(bytes(32), tmp_path))
    runner.only.state, runner.only.error = "failed", {"name": "ValueError", "message": "out of memory", "cell": 2}
    assert not jobs.gone_for_good(memory, lambda: None)
    assert "state=failed cell=2 notebook= reason=ValueError: 'out of memory'" in caplog.text


def test_a_job_that_fails_for_its_orders_files_is_not_run_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "provider", "p", {})
    memory = ProviderMemory(order_id="00" * 32, job_id=jobs.start(bytes(32), tmp_path))
    runner.only.state, runner.only.error = "failed", {"name": "BadDataset", "message": "no rows", "cell": 2}
    assert jobs.gone_for_good(memory, lambda: None) and jobs.gone_for_good(memory, lambda: None)
    assert runner.resumed == [] and caplog.text.count("event=job_failed") == 1


def test_errors_of_an_orders_files_are_known_by_their_names() -> None:
    import pot_lab.errors
    import pot_lab.jobs.workspace
    import pot_lab.scoring.errors

    places = (pot_lab.errors, pot_lab.scoring.errors, pot_lab.jobs.workspace)
    assert [name for name in HOPELESS if not any(hasattr(place, name) for place in places)] == []


@pytest.mark.parametrize(("ahead_ms", "told"), [(CLOCK_OFF_MS, 0), (40_000, 1), (-40_000, 1)])
def test_a_clock_that_is_off_is_told_once(
    ahead_ms: int, told: int, make: Callable[..., Any], market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make()
    market.followers.clear()
    for _ in range(2):
        loop.feed.on_batch(1, market.now_ms - ahead_ms, [])
        loop.step()
    assert caplog.text.count("event=clock_off") == told
    loop.feed.on_batch(1, market.now_ms, [])
    loop.step()
    loop.feed.on_batch(1, market.now_ms - ahead_ms, [])
    loop.step()
    assert caplog.text.count("event=clock_off") == 2 * told


def test_so_many_notebooks_run_at_once_and_the_best_paid_orders_go_first(tmp_path: Path) -> None:
    runner = HeldRunner()
    jobs = RecipeJobs(runner, Path("recipe.ipynb"), "validator", "v", {}, at_once=2)
    orders = [bytes([number]) * 32 for number in range(4)]
    memories = [OrderMemory(order_id=order_id.hex()) for order_id in orders]

    def start(number: int) -> bool:
        may = jobs.may_start(orders[number], 10 * number, memories)
        if may:
            memories[number].job_id = jobs.start(orders[number], tmp_path)
        return may

    assert [start(number) for number in (0, 1)] == [True, True]
    assert [start(number) for number in (2, 3)] == [False, False]
    runner.jobs[memories[0].job_id].state = "done"
    assert [start(2), start(3)] == [False, True]  # the better paid one takes the place
    runner.jobs[memories[1].job_id].state = "failed"
    jobs.forget(orders[3])
    assert start(2)


def test_a_loop_starts_no_more_notebooks_than_it_may(
    make: Callable[..., Any], place: Callable[..., bytes], market: Market, store: Store, tmp_path: Path
) -> None:
    from pot_lab.jobs.verifier import VerifierLoop

    loop = make(VerifierLoop, key("verifier"), jobs_at_once=1)
    orders = [place(reward_grains=(20 + number) * 10**9) for number in range(3)]
    for order_id in orders:
        market.ledger.state.orders[order_id].window = Window.CHALLENGE
        market.ledger.state.orders[order_id].test_key = market.keys[order_id]
        market.ledger.book.index.touch(order_id, market.ledger.state.orders[order_id])
    for _ in range(3):
        loop.step()
    runner: HeldRunner = loop.jobs._runner
    assert len(runner.jobs) == 1 and len(loop.memories.active()) == 3
    first = runner.only.workspace.name
    runner.only.state = "done"
    loop.step()
    rest = [order_id for order_id in orders if order_id.hex()[:24] != first]
    assert [job.workspace.name for job in runner.jobs.values()] == [first, rest[-1].hex()[:24]]
    loop.step()
    assert len(runner.jobs) == 2


def test_a_loop_publishes_after_each_step_and_outlives_what_that_raises(
    make: Callable[..., Any], until: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    loop, stop, calls = make(), threading.Event(), []

    def publish() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("can't start new thread")

    thread = threading.Thread(target=loop.run, args=(stop, publish))
    with caplog.at_level(logging.ERROR, "pot_lab"):
        thread.start()
        until(lambda: len(calls) > 2)
    stop.set()
    thread.join(240)
    assert not thread.is_alive() and "can't start new thread" in caplog.text


def test_a_loop_outlives_a_prune_that_cannot_start(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make()

    def prune() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(loop.files, "prune", prune)
    loop.step()
    assert "can't start new thread" in caplog.text
