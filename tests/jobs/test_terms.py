"""What a provider looks at before it trains, and what it says of money that is lost all the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec import structs

from pot_lab.crypto.link import Link
from pot_lab.jobs import provider
from pot_lab.jobs.provider import LOOK_AGAIN_MS, STOP_GRACE_MS
from pot_lab.jobs.terms import Terms
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ScoreSpec
from pot_lab.protocol.transactions import Put
from pot_lab.store import Store
from tests.jobs.in_process import Market
from tests.jobs.test_provider import ME, Bench
from tests.protocol.world import POT, WINDOWS

GIB = Link(digest=bytes(32), size_bytes=1 << 30, uri="s3://bucket/blob")


@pytest.fixture
def bench(market: Market, store: Store, tmp_path: Path) -> Bench:
    return Bench(market, store, tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"baseline_total": 100, "baseline_count": 100}, "no score can win"),
        ({"baseline_total": 99, "baseline_count": 100, "margin_micro": 20_000}, "no score can win"),
        ({"score": ScoreSpec("mse", 1), "baseline_total": 0, "baseline_count": 9}, "no score can win"),
        ({"windows": structs.replace(WINDOWS, reveal_ms=2_499)}, "reveal window of 2.499 s is too short"),
        (
            {"reward_grains": POT // 100, "train": Link(digest=bytes(32), size_bytes=1 << 30, uri="s3://a/b")},
            "to fetch",
        ),
    ],
)
def test_an_order_that_cannot_pay_is_passed_over_before_anything_is_fetched(
    changes: dict[str, Any],
    reason: str,
    bench: Bench,
    market: Market,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(
        provider, "passing_objection", lambda view, free_grains, promised_bytes: None
    )  # this machine's memory
    order = market.new_order(**changes)
    market.must(market.client, Put(order))
    market.escrow(order)
    bench.loop.step()
    bench.later(200)
    assert not bench.loop.has_begun(order.id) and not bench.runner.jobs
    assert caplog.text.count("event=order_passed_over") == 1 and reason in caplog.text
    bench.again().terms = Unassuming()  # the attack with the rule switched off
    bench.loop.step()
    assert bench.loop.has_begun(order.id)


class Unassuming(Terms):
    """Terms of a provider that looks at nothing."""

    def objection(self, order: Any, parameters: Any) -> str | None:
        return None


def test_a_model_that_this_host_cannot_upload_in_the_reveal_window_is_not_trained(
    bench: Bench, place: Callable[..., bytes], market: Market
) -> None:
    order = market.order(place()).order
    size_bytes = order.weights.size_bytes
    needed_ms = 2_500 + 1000 * size_bytes
    windows = structs.replace(order.windows, reveal_ms=needed_ms)
    slow = Terms(upload_bytes_per_s=1)
    assert slow.objection(structs.replace(order, windows=windows), market.parameters) is None
    windows = structs.replace(order.windows, reveal_ms=needed_ms - 1)
    reason = slow.objection(structs.replace(order, windows=windows), market.parameters)
    assert reason is not None and f"{needed_ms / 1000:g} s are needed" in reason


def test_a_provider_asks_for_its_price_by_the_hour(market: Market) -> None:
    order = market.new_order(reward_grains=10 * POT, windows=structs.replace(WINDOWS, train_ms=1_800_000))
    assert Terms(min_grains_per_hour=16 * POT).objection(order, market.parameters) is None  # 80 % go to the winner
    reason = Terms(min_grains_per_hour=16 * POT + 1).objection(order, market.parameters)
    assert reason is not None and "16 POT an hour" in reason


def test_an_order_whose_bond_the_free_stake_does_not_cover_is_looked_at_again(
    bench: Bench, place: Callable[..., bytes], market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    order_id = place(reward_grains=400 * POT, claim_bond_grains=20 * POT)
    market.ledger.book.lock(ME.address, Role.PROVIDER, 180 * POT + 1)
    bench.loop.step()
    market.ledger.book.unlock(ME.address, Role.PROVIDER, 180 * POT + 1)
    bench.later(LOOK_AGAIN_MS - 1)
    assert not bench.loop.has_begun(order_id) and "does not cover its claim bond of 20 POT" in caplog.text
    bench.later(1)
    assert bench.runner.only


def test_an_order_that_needs_more_memory_than_there_is_is_not_begun(
    bench: Bench, place: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place()
    memory = psutil.virtual_memory()._replace(available=30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    bench.loop.step()
    assert not bench.runner.jobs and "bytes of memory, and 30 are available" in caplog.text


def test_a_notebook_that_goes_on_after_its_order_took_its_last_model_is_ended(
    bench: Bench, place: Callable[..., bytes], market: Market
) -> None:
    order_id = place(windows=structs.replace(WINDOWS, reveal_ms=60_000))
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    bench.later(STOP_GRACE_MS)
    assert bench.runner.only.state == "running"  # it may write what it has still to write
    bench.later(1)
    assert bench.runner.only.state == "cancelled"


def test_a_bond_that_was_lost_is_told(
    bench: Bench, place: Callable[..., bytes], market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    """The host slept over the reveal."""
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    market.wait_for(order_id, Window.VOID)
    market.settle_all()
    bench.loop.step()
    memory = json.loads((bench.loop.order_folder(order_id) / "memory.json").read_text())
    assert memory["outcome"] == "bond of 1 POT lost: the model was not revealed in time"
    assert "event=bond_lost" in caplog.text
