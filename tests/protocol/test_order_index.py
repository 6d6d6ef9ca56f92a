"""What the index tells of orders that come and go is what a walk through all of them would tell."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.order_index import OrderIndex
from pot_lab.protocol.records import MAX_GRAINS
from pot_lab.protocol.state import OrderState
from tests.protocol.scenes import VALIDATORS, bring_to, finish, new_world
from tests.protocol.world import WINDOWS, World

YEAR_MS = 365 * 86_400_000
offers = st.tuples(st.integers(1, MAX_GRAINS), st.integers(100, YEAR_MS))


def open_order(world: World, reward_grains: int, train_ms: int) -> OrderState:
    order = world.new_order(reward_grains=reward_grains, windows=replace(WINDOWS, train_ms=train_ms))
    return OrderState(order=order, window=Window.COMMIT, put_ms=0, closes_ms=1, parameters=world.parameters)


@given(st.lists(offers, max_size=6), st.sets(st.integers(0, 5)))
@example([(MAX_GRAINS, YEAR_MS), (MAX_GRAINS - 1, YEAR_MS - 1), (MAX_GRAINS - 1, YEAR_MS)], set())
@example([(1, YEAR_MS), (1, YEAR_MS - 1), (2, YEAR_MS), (1, YEAR_MS // 2), (1, YEAR_MS)], {0})
def test_the_best_paid_come_first_by_exact_fractions(values: list[tuple[int, int]], closed: set[int]) -> None:
    world, index, made = World(), OrderIndex({}), dict[bytes, OrderState]()
    for reward_grains, train_ms in values:
        order = open_order(world, reward_grains, train_ms)
        made[order.order.id] = order
        index.touch(order.order.id, order)
    for place, (order_id, order) in enumerate(list(made.items())):
        if place in closed and place % 2:
            order.window = Window.REVEAL
            index.touch(order_id, order)
        if place in closed:
            index.remove(order_id, order)
            del made[order_id]
    wanted = sorted(
        made, key=lambda each: (-Fraction(made[each].order.reward_grains, made[each].order.windows.train_ms), each)
    )
    assert [*index.best_paid()] == wanted


def test_who_has_seats_finds_its_orders_until_they_are_forgotten() -> None:
    world = new_world()
    first, second = bring_to(world, Window.SCORE), bring_to(world, Window.COMMIT)
    index = world.ledger.book.index
    assert index.seated(VALIDATORS[0].address) == {first} and second not in index.seated(VALIDATORS[1].address)
    assert index.seated(world.client.address) == set()
    finish(world)
    assert index.seated(VALIDATORS[0].address) == {first}
    world.wait(world.parameters.retention_ms)
    assert not world.ledger.state.orders and not index.seated(VALIDATORS[0].address)
