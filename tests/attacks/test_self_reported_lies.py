"""A cartel with all seats lies without scoring anything, and challenges its own lies first, to be paid as the
challenger what it would have had as honest validators; the client gets no winner."""

from __future__ import annotations

from msgspec import structs

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Parameters, Role
from tests.attacks.test_lying_seats import LIE, judge, scored, winner
from tests.protocol.scenes import MODELS, VALIDATORS, new_world
from tests.protocol.world import PARAMETERS, key

FRONT = key("front")
"""The cartel's other account."""


def gain(parameters: Parameters | None = None) -> int:
    """What the cartel has won less what it has lost, in grains."""
    world = new_world(parameters)
    world.stake(FRONT, Role.VERIFIER)
    order_id = scored(world, 4)
    shown = [(model, 50) for model in MODELS]
    for model, index in shown:
        world.must(FRONT, world.challenge(order_id, FRONT, VALIDATORS[0], model, index, Role.VERIFIER))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    for model, index in shown:
        world.must(FRONT, world.open_challenge(order_id, VALIDATORS[0], model, LIE[model], index))
    judge(world, order_id)
    assert winner(world, order_id) == b""
    cartel = {FRONT.address, *(each.address for each in VALIDATORS)}
    won = sum(each.grains for each in world.order(order_id).payouts if each.account in cartel)
    stakes = [stake for account in cartel for stake in world.ledger.state.accounts[account].stakes]
    return won - sum(stake.slashed for stake in stakes)


def test_the_locks_cost_more_than_a_challenger_is_paid() -> None:
    assert gain() < 0


def test_with_next_to_no_lock_the_cartel_is_paid_for_its_lies() -> None:
    assert gain(structs.replace(PARAMETERS, score_lock_bp=0, min_score_lock_grains=1)) > 0
