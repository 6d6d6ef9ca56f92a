"""No dishonest strategy pays, but for the known limits; played on the real ledger with fixed seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pot_lab.cli.main import main
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.simulator.economics.estimate import DISTRIBUTIONS, PARAMETERS, estimate
from pot_lab.simulator.economics.game import REWARD_GRAINS, SCORING_GRAINS, TRAINING_GRAINS, Game
from pot_lab.simulator.economics.strategies import STRATEGIES, Strategy

SECURITY = Path(__file__).parents[3] / "docs" / "explanation" / "security.md"
SEEDS = range(5)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=[each.name for each in STRATEGIES])
def test_it_pays_only_where_a_known_limit_says_so(strategy: Strategy) -> None:
    if strategy.open:
        assert f"**{strategy.open}.**" in SECURITY.read_text()
        return
    found = estimate(strategy, "equal", SEEDS)
    assert not found.pays, found


@pytest.mark.long
@pytest.mark.parametrize("stakes", DISTRIBUTIONS)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=[each.name for each in STRATEGIES])
def test_it_pays_under_no_distribution_of_stake(strategy: Strategy, stakes: str) -> None:
    if not strategy.open:
        found = estimate(strategy, stakes, range(20))
        assert not found.pays, found


def test_there_are_enough_of_them() -> None:
    assert len(STRATEGIES) >= 25 and len({each.name for each in STRATEGIES}) == len(STRATEGIES)


def test_honest_work_is_paid_what_the_rules_say() -> None:
    for seed in SEEDS:
        game = Game(seed, DISTRIBUTIONS["equal"], PARAMETERS)
        plan = next(each for each in STRATEGIES if each.name == "no reveal").plan(game, False)
        plan.coalition = frozenset({"provider 0", "provider 1", "provider 2"})
        assert game.play(plan) == REWARD_GRAINS * 8 // 10 - TRAINING_GRAINS, "one of them wins"
        game.ledger.book.audit()
        scored = game.wealth_grains(frozenset(game.validators)) - 800 * GRAINS_PER_POT
        others = 3 * SCORING_GRAINS * len({each for seats in order_of(game) for each in seats})
        assert scored + others >= REWARD_GRAINS * 15 // 100


def order_of(game: Game) -> list[list[bytes]]:
    """The seats of the only order."""
    return next(iter(game.ledger.state.orders.values())).seats  # type: ignore[return-value]


def test_one_seed_gives_one_value() -> None:
    for strategy in STRATEGIES[:2]:
        assert estimate(strategy, "whale", [5]) == estimate(strategy, "whale", [5])


def test_the_command_names_its_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "astrology"]) == 2
    assert "'astrology' is not 'economics'" in capsys.readouterr().err
    assert json.dumps(DISTRIBUTIONS)
