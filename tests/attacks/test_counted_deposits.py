"""Placing an order and taking it back, again and again, so that counters run full and no deposit is counted any more.

With a tenth of the supply it took 95 rounds, an hour and a half, and nothing: everything was paid back.
"""

from __future__ import annotations

import pytest

from pot_lab.crypto.canonical import decode, encode
from pot_lab.protocol import book as books
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.queries import query
from pot_lab.protocol.settlement import reward_leaf, verify_proof
from pot_lab.protocol.transactions import Put, Withdraw
from pot_lab.protocol.views import AccountQuery, AccountView
from tests.protocol.world import POT, World, key

MALLORY = key("mallory")
PURSE, ROUNDS = 10**18, 24
"""24 rounds of 10^18 grains are more than 2^64."""


def wash(world: World) -> None:
    """Order, withdraw, and have it settled; as often as it takes to run past 64 bits."""
    world.have_validators()
    for number in range(4):  # stakes that are worth the locks of so large an order
        world.stake(key(f"whale {number}"), Role.VALIDATOR, PURSE // 2)
    for number in range(ROUNDS):
        order = world.new_order(
            client=MALLORY.address, nonce=1_000 + number, reward_grains=PURSE, fee_grains=POT, bond_grains=PURSE // 10
        )
        world.must(MALLORY, Put(order))
        world.escrow(order)
        world.submit(MALLORY, Withdraw(order.id))
        world.wait(world.parameters.update_ms)
        if world.ledger.state.pending is not None:
            world.sign_epoch()
            world.settle()


def test_an_honest_order_is_taken_however_much_came_and_went(world: World) -> None:
    wash(world)
    state = world.ledger.state
    assert state.deposited_grains > 1 << 64 and state.accounts[MALLORY.address].earned_grains > 1 << 64
    order_id, _ = world.start(nonce=99_999)
    assert world.order(order_id).window == Window.COMMIT


def test_what_was_earned_beyond_64_bits_can_be_claimed_and_survives_a_restart(world: World) -> None:
    wash(world)
    restored = Ledger(world.genesis)
    restored.restore(world.ledger.snapshot())
    assert restored.snapshot() == world.ledger.snapshot() == world.replayed().snapshot()
    answer = query(restored, "account", encode(AccountQuery(MALLORY.address)))
    view = decode(answer, AccountView, limit_bytes=1 << 20)
    assert view.claimable_cumulative_grains == ROUNDS * (PURSE + POT + PURSE // 10)
    leaf = reward_leaf(MALLORY.address, view.claimable_cumulative_grains)
    assert verify_proof(restored.state.confirmed.root, leaf, view.claim_proof)


def test_with_what_ever_came_as_the_measure_the_honest_order_waits_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Book, "can_deposit", lambda self, grains: self.state.deposited_grains + grains <= books.MAX_INSIDE_GRAINS
    )
    wash(world)
    world.have_validators()
    order = world.new_order(nonce=99_999, reward_grains=PURSE)
    world.must(world.client, Put(order))
    world.escrow(order)
    assert world.order(order.id).window == Window.WAITING and order.id not in world.ledger.state.escrows
