"""Bytes in every snapshot for good, for a chain's gas alone: escrows that are never put, orders that are taken back."""

from __future__ import annotations

import pytest

from pot_lab.protocol import expiry, ledger
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import Put, Withdraw
from tests.protocol.world import World, key

MALLORY = key("mallory")
ROUNDS = 20
SEAL_BY_S = 10_000_000
"""After so many seconds what `World.new_order` makes cannot be put any more."""


def litter(world: World) -> None:
    """Pay for orders and never put them; put, pay and withdraw others."""
    world.have_validators()
    for number in range(0, 2 * ROUNDS, 2):
        world.escrow(world.new_order(client=MALLORY.address, nonce=1_000 + number))
        taken_back = world.new_order(client=MALLORY.address, nonce=1_001 + number)
        world.must(MALLORY, Put(taken_back))
        world.escrow(taken_back)
        world.submit(MALLORY, Withdraw(taken_back.id))
        world.wait(world.parameters.update_ms)
        world.sign_epoch()
        world.settle()
    world.wait(world.parameters.retention_ms + 1)


def test_nothing_is_left_of_escrows_never_put_and_of_orders_taken_back(world: World) -> None:
    litter(world)
    state = world.ledger.state
    assert len(state.escrows) == len(state.headers) == ROUNDS and not state.orders, "not before its time"
    world.wait(SEAL_BY_S * 1_000)
    world.wait(expiry.EVERY_MS)
    assert not state.escrows and not state.headers and not state.escrowed_grains
    restored = Ledger(world.genesis)
    restored.restore(world.ledger.snapshot())  # which audits the money
    assert restored.snapshot() == world.replayed().snapshot() == world.ledger.snapshot()


def test_an_order_whose_header_ended_cannot_be_put_again(world: World) -> None:
    order = world.new_order(client=MALLORY.address, nonce=7)
    world.escrow(order)
    world.wait(SEAL_BY_S * 1_000)
    world.wait(expiry.EVERY_MS)
    assert order.id not in world.ledger.state.escrows
    assert world.submit(MALLORY, Put(order)).code == "BadWindows"


def test_without_the_rule_all_of_it_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.expiry, "advance", lambda book, before_ms: None)
    litter(world)
    world.wait(SEAL_BY_S * 1_000)
    world.wait(expiry.EVERY_MS)
    state = world.ledger.state
    assert len(state.escrows) == len(state.headers) == ROUNDS
