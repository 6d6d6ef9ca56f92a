"""A provider that trains nothing and hands in the order's first weights: it is paid only where the baseline that the
order names is below their score, which `Lab.order` refuses. The ledger takes the client's number (security.md, "Known
limits").
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from pot_lab.notebook import baselines
from pot_lab.notebook.arguments import BadArgument
from pot_lab.notebook.baselines import Start
from pot_lab.notebook.posting import OrderTerms, order_terms
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import ScoreSpec
from tests.protocol.scenes import PROVIDERS, VALIDATORS, new_world
from tests.protocol.world import POT, World

FIRST, TEST = 40, 100
"""Right answers of the first weights, of all test examples."""
START = Start(weights_total=FIRST, constant_total=10, count=TEST, spec=ScoreSpec("accuracy", 1))


def paid_for_nothing(world: World, named: int) -> int:
    """What a provider earns by the first weights alone, in grains, of an order that names so many right answers."""
    order_id, _ = world.start(baseline_total=named, baseline_count=TEST if named else 0)
    assert world.claim(order_id, PROVIDERS[0], "weights").accepted
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[0], "weights").accepted
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, {"weights": FIRST}).accepted
    for _ in range(4):
        if world.order(order_id).window in (Window.FINALIZATION, Window.VOID):
            break
        world.now_ms = world.order(order_id).closes_ms
        world.batch()
    order = world.order(order_id)
    assert order.winner or order.void_reason is VoidReason.NO_IMPROVEMENT
    return int(world.ledger.book.account(PROVIDERS[0].address).earned_grains)


@pytest.mark.parametrize("named", [FIRST, FIRST + 1])
def test_their_own_score_or_more_as_the_baseline_pays_nothing_for_them(named: int) -> None:
    assert paid_for_nothing(new_world(), named) == 0


@pytest.mark.parametrize("named", [0, FIRST - 1])
def test_were_less_named_they_would_win(named: int) -> None:
    assert paid_for_nothing(new_world(), named) == 20 * POT


def terms(baseline: Fraction | None) -> OrderTerms:
    return order_terms(Parameters(), reward=25, train_for="10 min", baseline=baseline)


def test_the_client_measures_what_it_does_not_name_and_refuses_to_name_less() -> None:
    measured = baselines.with_baseline(terms(None), START)
    assert Fraction(measured.baseline_total, measured.baseline_count) == Fraction(FIRST, TEST)
    for named in (Fraction(FIRST, TEST), Fraction(FIRST + 1, TEST)):
        assert baselines.with_baseline(terms(named), START) == terms(named)
    with pytest.raises(BadArgument, match="the first weights are better"):
        baselines.with_baseline(terms(Fraction(FIRST - 1, TEST)), START)
