"""Orders that nobody pays for fill the pool, so that a client who has paid finds no place."""

from __future__ import annotations

from typing import Any

import pytest

from pot_lab.protocol import ledger as rules
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import PoolFull
from pot_lab.protocol.order_index import OrderIndex, is_waiting
from pot_lab.protocol.orders import transactions
from pot_lab.protocol.transactions import Put, Withdraw
from tests.protocol.scenes import new_world
from tests.protocol.world import World, key

PLACES = 6


def flooded(world: World) -> str:
    """Strangers fill all places; then comes a client whose escrow is on the chain. Returns the refusal it gets."""
    world.have_validators()
    for number in range(PLACES):
        stranger = key(f"stranger {number}")
        world.must(stranger, Put(world.new_order(client=stranger.address, nonce=100 + number)))
    last = key("one stranger more")
    assert world.submit(last, Put(world.new_order(client=last.address, nonce=99))).code == "PoolFull"
    order = world.new_order()
    world.escrow(order)
    code = world.submit(world.client, Put(order)).code
    assert code or world.order(order.id).window is Window.COMMIT
    return code


def test_a_paid_order_finds_its_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "MAX_UNFUNDED_ORDERS", PLACES)
    assert flooded(world) == ""


def test_did_all_orders_share_the_places_it_would_find_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put = rules.HANDLERS["put"]

    def first_come(book: Book, client: Any, body: Put) -> bytes:
        if book.index.unfunded >= PLACES:
            raise PoolFull("the pool of orders is full")
        return put(book, client, body)

    monkeypatch.setitem(rules.HANDLERS, "put", first_come)
    assert flooded(world) == "PoolFull"


def withdrawn(world: World) -> int:
    """How many orders a stranger leaves in the ledger by putting and withdrawing them."""
    stranger = key("stranger")
    for number in range(3 * world.parameters.max_live_orders_per_account):
        order = world.new_order(client=stranger.address, nonce=number + 1)
        if world.submit(stranger, Put(order)).accepted:
            world.must(stranger, Withdraw(order.id))
    return len(world.ledger.state.orders)


def test_withdrawn_orders_count_until_they_are_forgotten(world: World) -> None:
    assert withdrawn(world) == world.parameters.max_live_orders_per_account


def test_did_only_waiting_ones_count_a_stranger_could_fill_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()

    def waiting(index: OrderIndex, client: bytes) -> int:
        return sum(is_waiting(order) and order.order.client == client for order in world.ledger.state.orders.values())

    monkeypatch.setattr(OrderIndex, "held_by", waiting)
    assert withdrawn(world) == 3 * world.parameters.max_live_orders_per_account
