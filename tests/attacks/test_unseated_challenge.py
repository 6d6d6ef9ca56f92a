"""A validator loses its seats, opens a score of its own all the same, and a friend challenges that: no seat was proved
wrong, and nothing may depend on there being one, since the windows end outside of any transaction."""

from __future__ import annotations

import pytest

from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders import scores
from pot_lab.protocol.orders.scores import OpenedScores
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.state import ClaimState, OrderState
from pot_lab.protocol.transactions import Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import World

LEFT_OUT, *SEATED = VALIDATORS
FRIEND = PROVIDERS[0]
SCORES = {MODELS[0]: 80, MODELS[1]: 95}
ALONE = 77
"""What the validator without a seat opens."""


def challenged(world: World, index: int = 3, *, right: bool = False) -> bytes:
    """An order in JUDGE where all is judged but the challenge of a score without a seat, which has one verdict."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    order = world.order(order_id)
    assert world.commit_scores(order_id, LEFT_OUT, {MODELS[0]: ALONE}).accepted
    for validator in SEATED:
        assert world.commit_scores(order_id, validator, {MODELS[1]: 95}).accepted
    world.wait(order.closes_ms - world.now_ms)
    assert order.extended and order.window is Window.SCORE
    for validator in SEATED:
        assert world.commit_scores(order_id, validator, {MODELS[0]: 80}).accepted
    assert LEFT_OUT.address not in {each for seats in order.seats for each in seats}
    world.wait_for(order_id, Window.OPEN_SCORES)
    assert world.open_scores(order_id, LEFT_OUT, {MODELS[0]: ALONE}).accepted
    for validator in SEATED:
        assert world.open_scores(order_id, validator, SCORES).accepted
    world.must(FRIEND, world.challenge(order_id, FRIEND, LEFT_OUT, MODELS[0], index))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(FRIEND, world.open_challenge(order_id, LEFT_OUT, MODELS[0], ALONE, index))
    world.must(world.aggregators[0], Verdict(order_id, order.disputes[0].name, right))
    return order_id


def only_seats(order: OrderState, claim: ClaimState, opened: OpenedScores) -> set[bytes]:
    """The rule switched off: whoever opened a score is taken to hold a seat."""
    return scores.groups_of(order, claim)[opened]


def test_the_order_ends_and_pays_as_if_nobody_had_challenged() -> None:
    world = new_world()
    order_id = challenged(world)
    world.must(world.aggregators[1], Verdict(order_id, world.order(order_id).disputes[0].name, False))
    order = world.order(order_id)
    assert order.window is Window.FINALIZATION and order.winner == PROVIDERS[1].address
    assert "challenger" not in {payout.reason for payout in order.payouts}, "no seat was proved wrong"
    assert world.ledger.book.stake(FRIEND.address, Role.PROVIDER).slashed == 0, "but the leaf was"
    assert order.lost[LEFT_OUT.address] == order.lock_grains
    finish(world)
    assert world.replayed().state.digest == world.ledger.state.digest


def test_without_the_rule_the_order_cannot_be_carried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_seated", only_seats)
    world = new_world()
    order_id = challenged(world)
    verdict = Verdict(order_id, world.order(order_id).disputes[0].name, False)
    world.expects_faults = True
    world.must(world.aggregators[1], verdict)
    order = world.order(order_id)
    assert order.void_reason is VoidReason.FAULT, "the best model is paid nothing"
    assert order.lost[LEFT_OUT.address] < order.lock_grains, "and the liar lost its silence's price alone"
    finish(world)
    assert world.replayed().state.digest == world.ledger.state.digest


def test_a_right_leaf_of_a_score_without_a_seat_costs_the_bond() -> None:
    world = new_world()
    order_id = challenged(world, 3, right=True)
    bond = world.order(order_id).challenges[0].bond_grains
    world.must(world.aggregators[1], Verdict(order_id, world.order(order_id).disputes[0].name, True))
    assert world.ledger.book.stake(FRIEND.address, Role.PROVIDER).slashed == bond
