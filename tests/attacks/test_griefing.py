"""Making honest people pay, or wait, at little cost of one's own."""

from __future__ import annotations

from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Role
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to
from tests.protocol.world import POT, World


def slashed(world: World) -> list[int]:
    return [world.ledger.book.stake(v.address, Role.VALIDATOR).slashed for v in VALIDATORS]


def test_a_model_that_nobody_can_fetch_costs_no_validator_its_stake(world: World) -> None:
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS:  # the other model's link is dead
        assert world.commit_scores(order_id, validator, {MODELS[1]: 90}).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS:
        assert world.open_scores(order_id, validator, {MODELS[1]: 90}).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.order(order_id).winner == PROVIDERS[1].address
    assert slashed(world) == [0, 0, 0, 0]


def test_an_order_whose_only_model_is_dead_ends_void_and_costs_nobody_stake(world: World) -> None:
    order_id, _ = world.start()
    world.claim(order_id, PROVIDERS[0], MODELS[0])
    world.wait_for(order_id, Window.REVEAL)
    world.reveal(order_id, PROVIDERS[0], MODELS[0])
    world.release(order_id)
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason == VoidReason.NO_QUORUM
    assert slashed(world) == [0, 0, 0, 0]


def test_a_validator_that_leaves_out_what_others_could_score_still_pays(world: World) -> None:
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS:
        scores = {MODELS[1]: 90} if validator is VALIDATORS[0] else {MODELS[0]: 80, MODELS[1]: 90}
        assert world.commit_scores(order_id, validator, scores).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS:
        scores = {MODELS[1]: 90} if validator is VALIDATORS[0] else {MODELS[0]: 80, MODELS[1]: 90}
        assert world.open_scores(order_id, validator, scores).accepted
    seats = world.order(order_id).seats[0].count(VALIDATORS[0].address)
    assert slashed(world) == [min(seats * world.parameters.absence_grains(25 * POT), 25 * POT // 10), 0, 0, 0]


def test_one_silent_person_delays_a_window_to_its_end_and_no_longer(world: World) -> None:
    for window in (Window.REVEAL, Window.SCORE, Window.OPEN_SCORES):
        order_id = bring_to(world, window)
        closes_ms = world.order(order_id).closes_ms
        world.wait(closes_ms - world.now_ms)
        assert world.order(order_id).window not in (window, Window.VOID)
