"""Deciding an order by silence, by many small accounts, or by keeping everybody's stake busy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from msgspec import structs

from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import scores, sealing, windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import OrderState
from pot_lab.protocol.transactions import Put, Unregister, Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import PARAMETERS, POT, WINDOWS, World, key

USUAL = structs.replace(PARAMETERS, seats_per_order=7)


# --- silence -------------------------------------------------------------------------------------------------------
def vetoed(world: World) -> tuple[bytes, list[int]]:
    """Three of eight seats stay silent about the best model only: the winner, and what each silent account lost."""
    silent = [key(f"silent {number}") for number in range(3)]
    for validator in silent:
        world.stake(validator, Role.VALIDATOR, 160 * POT)
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
    assert all(grains > 25 * POT * 15 // 100 // 63 for grains in lost)


def test_counted_against_all_seats_the_silent_choose_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "score_quorum", lambda seats: 63)
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
    honest = world.new_order()
    world.must(world.client, Put(honest))
    world.escrow(honest)
    return world.order(honest.id).window


def test_many_models_of_one_order_lock_a_validators_stake_once() -> None:
    assert next_order_after_many_claims(World()) is Window.COMMIT


def test_locked_for_each_model_nobody_has_stake_for_the_next_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lock_seats = windows._lock_seats

    def for_each_model(book: Book, order_id: OrderId, order: OrderState) -> None:
        lock_seats(book, order_id, order)
        for validator in order.locked:
            book.lock(validator, Role.VALIDATOR, order.lock_grains * (len(order.claims) - 1))

    monkeypatch.setattr(windows, "_lock_seats", for_each_model)
    assert next_order_after_many_claims(World()) is Window.WAITING


def small_orders(world: World) -> list[int]:
    """60 orders of the least reward with a challenge window of a week, scored; what each validator has locked."""
    validators = [key(f"v {number}") for number in range(6)]
    for validator in validators:
        world.stake(validator, Role.VALIDATOR, 40 * POT)
    world.stake(PROVIDERS[0], Role.PROVIDER)
    week = structs.replace(WINDOWS, challenge_ms=7 * 86_400_000)
    for number in range(60):
        order_id, _ = world.start(reward_grains=POT // 100, windows=week)
        assert world.claim(order_id, PROVIDERS[0], f"junk {number}").accepted
        world.wait_for(order_id, Window.REVEAL)
        assert world.reveal(order_id, PROVIDERS[0], f"junk {number}").accepted
        world.release(order_id)
        for act in (world.commit_scores, world.open_scores):
            for validator in validators:
                assert act(order_id, validator, {f"junk {number}": 50}).accepted
        assert world.order(order_id).window is Window.CHALLENGE
    return [world.ledger.book.stake(validator.address, Role.VALIDATOR).locked for validator in validators]


def test_stake_is_locked_only_as_long_as_something_can_cost_it() -> None:
    assert small_orders(World()) == [0] * 6


def test_kept_to_the_end_cheap_orders_lock_everything_for_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "unlock_seats", lambda book, order: None)
    monkeypatch.setattr(windows, "LOCKS_TO_START", 0)
    monkeypatch.setattr(windows, "_enough_to_start", lambda book, order, parameters: True)
    monkeypatch.setattr(windows, "LOCKS_TO_REVEAL", 0)
    with pytest.raises(AssertionError, match="never came to reveal"):  # there is no free stake to score with any more
        small_orders(World())


# --- files for accomplices -----------------------------------------------------------------------------------------
HONEST, ALLIES = [key(f"honest {number}") for number in range(6)], [key(f"ally {number}") for number in range(3)]


def only_for_allies(world: World, number: int, *, judged: bool) -> tuple[bytes, list[int]]:
    """A provider serves its junk to three accomplices with a twelfth of the stake only, who call it perfect and the
    honest model bad; the winner, and what honest validators lost.
    """
    good, bad = PROVIDERS
    order_id, _ = world.start(nonce=100 + number)
    assert world.claim(order_id, good, MODELS[0]).accepted and world.claim(order_id, bad, MODELS[1]).accepted
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, good, MODELS[0]).accepted and world.reveal(order_id, bad, MODELS[1]).accepted
    world.release(order_id)
    order = world.order(order_id)
    scores = {**{v.address: (v, {MODELS[0]: 95}) for v in HONEST}}
    scores |= {v.address: (v, {MODELS[0]: 10, MODELS[1]: 100}) for v in ALLIES}
    for _ in range(2):
        for account in sorted(set(order.seats[0])):
            validator, said = scores[account]
            if order.window is Window.SCORE and not any(v.validator == account for v in order.validations):
                assert world.commit_scores(order_id, validator, said).accepted
        if order.window is Window.SCORE:
            world.wait(order.closes_ms - world.now_ms)
    for account in sorted({validation.validator for validation in order.validations}):
        validator, said = scores[account]
        world.open_scores(order_id, validator, said)
    for aggregator in world.aggregators[: 2 if judged else 0]:
        for dispute in order.disputes:
            right = dispute.score.total == (95 if dispute.mid == world.mid(order_id, MODELS[0]) else 5)
            assert world.submit(aggregator, Verdict(order_id, dispute.name, right)).accepted
    while order.window not in (Window.FINALIZATION, Window.VOID):
        world.now_ms = max(world.now_ms, world.ledger.due_ms() or 0)
        world.batch()
    return order.winner, [world.ledger.book.stake(v.address, Role.VALIDATOR).slashed for v in HONEST]


def trials(seats: int, count: int, *, judged: bool = True, ally_pot: int = 35) -> tuple[int, int, int]:
    """Of so many orders: won by the honest model, won by the junk; and what honest validators lost in all."""
    world = new_world(structs.replace(PARAMETERS, seats_per_order=seats))
    for validator in VALIDATORS:
        world.must(validator, Unregister(1))
    for validator, grains in [*((v, 200 * POT) for v in HONEST), *((v, ally_pot * POT) for v in ALLIES)]:
        world.stake(validator, Role.VALIDATOR, grains)
    winners, lost = [], [0]
    for number in range(count):
        winner, lost = only_for_allies(world, number, judged=judged)
        winners.append(winner)
    return winners.count(PROVIDERS[0].address), winners.count(PROVIDERS[1].address), sum(lost)


@pytest.mark.parametrize(("seats", "count"), [(7, 30), (63, 3)])
def test_files_for_accomplices_only_decide_nothing(seats: int, count: int) -> None:
    honest, junk, lost = trials(seats, count)
    assert (junk, lost) == (0, 0)
    assert honest == count, "also where three of seven seats by luck open another score: they differ, and are judged"


def test_without_verdicts_a_third_of_the_seats_by_luck_keeps_a_model_out() -> None:
    honest, _, _ = trials(7, 20, judged=False, ally_pot=200)
    assert honest < 20


def test_were_three_accounts_enough_they_would_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "has_most_seats", lambda order, claim, accounts: bool(accounts))
    monkeypatch.setattr(scores, "has_most_seats", lambda order, claim, accounts: bool(accounts))
    _, junk, lost = trials(63, 3, judged=False, ally_pot=100)
    assert junk > 0 and lost > 0
