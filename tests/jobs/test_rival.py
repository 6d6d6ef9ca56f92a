"""A provider scores the model again that displaces its own, and challenges a wrong score from its own stake."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pot_lab.jobs.provider import ProviderLoop
from pot_lab.jobs.rival import RivalLoop, rivals_watched
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.transactions import Challenge, OpenChallenge, Verdict
from pot_lab.store import Store
from tests.jobs.conftest import PATIENCE_S
from tests.jobs.in_process import HeldRunner, InProcessClient, Market
from tests.jobs.test_validator import Bench, checked_by, scored_by_all, to_scores
from tests.protocol.scenes import PROVIDERS
from tests.protocol.world import POT

__all__ = ["to_scores"]
LEADER, RIVAL = PROVIDERS
"""Equal scores: the earlier commitment leads."""


def bench_of(market: Market, store: Store, home: Path, identity: Any, own: Callable[[], list[OrderId]]) -> Bench:
    def make(*arguments: Any, **options: Any) -> RivalLoop:
        return RivalLoop(*arguments, own_orders=own, **options)

    return Bench(make, identity, market, store, home)  # type: ignore[arg-type]


def test_it_scores_the_leader_alone_and_challenges_a_lie_of_all_seats(
    market: Market, store: Store, tmp_path: Path, to_scores: Callable[[], bytes]
) -> None:
    order_id = to_scores()
    bench = bench_of(market, store, tmp_path, RIVAL, lambda: [order_id])
    bench.loop.step()
    assert not bench.runner.jobs, "nothing leads before scores are open"
    scored_by_all(market, store, order_id, 95)
    bench.loop.step()
    leading = market.order(order_id).claims[LEADER.address].mid.hex()
    assert Workspace(bench.runner.only.workspace).order["models"] == [leading]
    checked_by(bench, 80)
    bench.loop.step()
    (said,) = bench.of(Challenge)
    assert said.role == Role.PROVIDER
    stake, claim = market.ledger.book.stake(RIVAL.address, Role.PROVIDER), market.order(order_id).claims[RIVAL.address]
    assert stake.locked == claim.bond_grains + market.parameters.challenge_bond_grains(25 * POT)
    market.wait_for(order_id, Window.OPEN_CHALLENGES)
    bench.loop.step()
    (shown,) = bench.of(OpenChallenge)
    assert (shown.mid.hex(), shown.proof.index, shown.leaf) == (leading, 80, 1)
    name = market.order(order_id).disputes[0].name
    for aggregator in market.aggregators[:2]:
        market.must(aggregator, Verdict(order_id, name, False))
    assert market.order(order_id).winner == RIVAL.address, "what all seats said of its own model still stands"
    assert set(market.ledger.state.dues) == {RIVAL.address}, "and it gets a part of the liars' stakes"


@pytest.mark.parametrize(("who", "own"), [(LEADER, True), (RIVAL, False)], ids=["leader", "no-claim-at-hand"])
def test_who_leads_or_has_nothing_there_scores_nothing(
    who: Any, own: bool, market: Market, store: Store, tmp_path: Path, to_scores: Callable[[], bytes]
) -> None:
    order_id = to_scores()
    bench = bench_of(market, store, tmp_path, who, lambda: [order_id] if own else [])
    scored_by_all(market, store, order_id, 95)
    bench.loop.step()
    assert not bench.runner.jobs and not bench.loop.memories.active()


def test_a_right_score_is_not_challenged(
    market: Market, store: Store, tmp_path: Path, to_scores: Callable[[], bytes]
) -> None:
    order_id = to_scores()
    bench = bench_of(market, store, tmp_path, RIVAL, lambda: [order_id])
    scored_by_all(market, store, order_id, 80)
    bench.loop.step()
    checked_by(bench, 80)
    bench.loop.step()
    market.wait_for(order_id, Window.FINALIZATION)
    bench.loop.step()
    assert bench.of(Challenge) == []


def test_it_runs_beside_the_providers_loop_and_ends_with_it(market: Market, store: Store, tmp_path: Path) -> None:
    client = InProcessClient(market, RIVAL)
    provider = ProviderLoop(client, store, HeldRunner(), Path("train.ipynb"), tmp_path)
    with rivals_watched(provider, client, Path("score.ipynb"), HeldRunner(), tmp_path) as rivals:
        end = time.monotonic() + PATIENCE_S
        while not (rivals.memories.folder / ".lock").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert rivals.memories.folder != provider.memories.folder
