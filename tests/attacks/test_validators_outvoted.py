"""Deciding an order by silence, by many small accounts, or by keeping everybody's stake busy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from msgspec import structs

from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import OrderState
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import PARAMETERS, POT, World, key

USUAL = structs.replace(PARAMETERS, seats_per_order=7)


# --- silence -------------------------------------------------------------------------------------------------------
def vetoed(world: World) -> tuple[bytes, list[int]]:
    """Two fifths of the seats stay silent about the best model only: the winner, and what each silent account lost."""
    silent = [key(f"silent {number}") for number in range(3)]
    for validator in silent:
        world.stake(validator, Role.VALIDATOR)
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, SCORES).accepted
        for validator in silent:
            assert act(order_id, validator, {MODELS[0]: SCORES[MODELS[0]]}).accepted
        if act == world.commit_scores:
            world.wait_for(order_id, Window.OPEN_SCORES)
    world.wait_for(order_id, Window.FINALIZATION)
    return world.order(order_id).winner, [world.ledger.book.stake(v.address, Role.VALIDATOR).slashed for v in silent]


def test_silence_vetoes_no_model_and_costs_more_than_a_seat_earns() -> None:
    winner, lost = vetoed(new_world())
    assert winner == PROVIDERS[1].address
    assert all(grains > 2 * 25 * POT * 15 // 100 // 63 for grains in lost)


def test_counted_against_all_seats_the_silent_choose_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "score_quorum", lambda seats: -(-2 * 63 // 3))
    winner, _ = vetoed(new_world())
    assert winner == PROVIDERS[0].address, "the worse model"


# --- many small accounts -------------------------------------------------------------------------------------------
def outnumbered(world: World) -> dict[str, int]:
    """Two honest validators with 10,000 POT each against five accounts with 20 POT; the seats of each."""
    small = [key(f"small {number}") for number in range(5)]
    for validator, grains in [
        *((each, 10_000 * POT) for each in VALIDATORS[:2]),
        *((each, 20 * POT) for each in small),
    ]:
        world.stake(validator, Role.VALIDATOR, grains)
    for provider in PROVIDERS:
        world.stake(provider, Role.PROVIDER)
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    seats = Counter(world.order(order_id).seats[0])
    honest = sum(seats[validator.address] for validator in VALIDATORS[:2])
    return {"honest": honest, "small": seats.total() - honest}


def test_seats_follow_stake_and_not_the_number_of_accounts() -> None:
    assert outnumbered(World(parameters=USUAL)) == {"honest": 6, "small": 1}, (
        "one seat, for three accounts to have some"
    )


def test_drawn_without_replacement_the_small_accounts_have_a_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_heads(seed: bytes, number: int, weights: Mapping[bytes, int], count: int) -> list[bytes]:
        return sorted(weights)[:count]

    monkeypatch.setattr(windows, "draw_seats", by_heads)
    assert outnumbered(World(parameters=USUAL)) == {"honest": 2, "small": 5}


# --- stake kept busy -----------------------------------------------------------------------------------------------
def next_order_after_many_claims(world: World) -> Window:
    """Where an honest order stands after its training, while 40 claims of one person on a small order are scored."""
    claimants = [key(f"claimant {number}") for number in range(40)]
    for claimant in claimants:
        world.stake(claimant, Role.PROVIDER, 10 * POT)
    for number in range(4):
        world.stake(key(f"testnet {number}"), Role.VALIDATOR, 40 * POT)
    small, _ = world.start(
        reward_grains=POT // 100, windows=structs.replace(world.new_order().windows, score_ms=60_000)
    )
    for number, claimant in enumerate(claimants):
        assert world.claim(small, claimant, f"junk {number}").accepted
    world.wait_for(small, Window.REVEAL)
    for number, claimant in enumerate(claimants):
        assert world.reveal(small, claimant, f"junk {number}").accepted
    world.release(small)
    assert world.order(small).window is Window.SCORE
    honest, _ = world.start()
    world.stake(PROVIDERS[0], Role.PROVIDER)
    assert world.claim(honest, PROVIDERS[0], MODELS[0]).accepted
    world.wait(world.order(honest).closes_ms - world.now_ms)
    assert world.order(small).window is Window.SCORE
    return world.order(honest).window


def test_many_models_of_one_order_lock_a_validators_stake_once() -> None:
    assert next_order_after_many_claims(World()) is Window.REVEAL


def test_locked_for_each_model_nobody_has_stake_for_the_next_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lock_seats = windows._lock_seats

    def for_each_model(book: Book, order_id: OrderId, order: OrderState) -> None:
        lock_seats(book, order_id, order)
        for validator in order.locked:
            book.lock(validator, Role.VALIDATOR, order.lock_grains * (len(order.claims) - 1))

    monkeypatch.setattr(windows, "_lock_seats", for_each_model)
    world = World()
    assert next_order_after_many_claims(world) is Window.VOID
    assert VoidReason.TOO_FEW_VALIDATORS in {order.void_reason for order in world.ledger.state.orders.values()}
