"""One person takes all places of an order by junk claims, and wins by the only real model: 256 of them cost nothing but
stake that came home again.
"""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.identity import Identity
from pot_lab.protocol import parameters
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import windows
from pot_lab.protocol.orders.windows import _drop
from pot_lab.protocol.parameters import Role
from tests.protocol.scenes import PROVIDERS, VALIDATORS, new_world
from tests.protocol.world import PARAMETERS, POT, World, key

PLACES = 24
REWARD, FEE = 25 * POT, POT
BASE = REWARD // 200
SQUATTERS = [key(f"squatter {number}") for number in range(PLACES)]
JUNK = 10


def crowded() -> World:
    world = new_world(structs.replace(PARAMETERS, max_claims_per_order=PLACES))
    for squatter in SQUATTERS:
        world.stake(squatter, Role.PROVIDER, 50 * POT)
    return world


def wealth(world: World, accounts: list[Identity], role: Role = Role.PROVIDER) -> int:
    """What these accounts earned, get of slashed stakes, and have at stake."""
    book = world.ledger.book
    return sum(
        int(book.account(each.address).earned_grains)
        + book.state.dues.get(each.address, 0)
        + book.stake(each.address, role).bonded
        for each in accounts
    )


def squatted(world: World, *, duplicates: bool = False) -> tuple[int, int]:
    """What taking all places brings beside the stakes, and what the validators get; an honest provider finds none."""
    before, validators = wealth(world, SQUATTERS), wealth(world, VALIDATORS, Role.VALIDATOR)
    order_id, _ = world.start()
    models = {each: "best" if duplicates or number == 0 else f"junk {number}" for number, each in enumerate(SQUATTERS)}
    for squatter, model in models.items():
        assert world.claim(order_id, squatter, model).accepted
    assert world.claim(order_id, PROVIDERS[0], "better").code == "TooManyOrders"
    world.wait_for(order_id, Window.REVEAL)
    for squatter, model in models.items():
        assert world.reveal(order_id, squatter, model).accepted
    world.wait_for(order_id, Window.RELEASE)
    world.release(order_id)
    scores = {model: 90 if model == "best" else JUNK for model in models.values()}
    mids = {world.mid(order_id, model): model for model in scores}
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            mine = {mids[mid]: scores[mids[mid]] for mid in world.assigned(order_id, validator)}
            if mine:
                assert act(order_id, validator, mine).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.order(order_id).winner == SQUATTERS[0].address
    return wealth(world, SQUATTERS) - before, wealth(world, VALIDATORS, Role.VALIDATOR) - validators


def price(claims: int) -> int:
    return BASE << (8 * claims // PLACES)


def test_places_cost_more_than_the_reward_and_the_seats_that_scored_get_it() -> None:
    world = crowded()
    brought, seats = squatted(world)
    left, paid = FEE, 0
    for number in range(1, PLACES):
        left -= price(number)
        paid += price(number) if left < 0 else 0
    assert paid > REWARD and brought == REWARD * 8 // 10 - paid
    fee_and_share = FEE + REWARD * 15 // 100
    assert fee_and_share + paid - 100 <= seats <= fee_and_share + paid, "less what rounding leaves"


def test_one_model_under_all_names_costs_as_much() -> None:
    brought, _ = squatted(crowded(), duplicates=True)
    assert brought == REWARD * 8 // 10 - sum(price(number) for number in range(1, PLACES)) < 0


def test_without_the_price_taking_all_places_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "charge_for_scoring", lambda book, order: None)
    brought, _ = squatted(crowded())
    assert brought == REWARD * 8 // 10


def test_without_the_price_of_duplicates_one_model_under_all_names_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    def free(book, order_id, order, claim, why) -> None:
        book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
        _drop(book, order_id, order, claim, why)

    monkeypatch.setattr(windows, "_let_go", free)
    brought, _ = squatted(crowded(), duplicates=True)
    assert brought == REWARD * 8 // 10


def test_at_one_price_for_all_places_taking_them_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "PRICE_STEPS", 0)
    brought, _ = squatted(crowded())
    assert brought > 0
