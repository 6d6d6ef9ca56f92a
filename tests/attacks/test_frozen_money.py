"""Locking stake or escrow for ever, or spending one stake twice."""

from __future__ import annotations

import pytest

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Claim, Put, Register
from tests.protocol.scenes import PROVIDERS, RESTING, bring_to, finish, new_world
from tests.protocol.world import POT, World, key

H = b"\x02" * 32


@pytest.mark.parametrize("window", RESTING)
def test_whatever_window_everybody_falls_silent_in_all_money_and_stake_comes_back(window: Window) -> None:
    world = new_world()
    bring_to(world, window)
    finish(world)
    state = world.ledger.state
    assert all(stake.locked == 0 for account in state.accounts.values() for stake in account.stakes)
    assert not state.escrows and not state.unsettled and state.escrowed_grains == 0
    assert state.confirmed.total_grains == state.earned_grains


def test_one_stake_backs_no_more_claims_than_it_can_pay_for(world: World) -> None:
    provider = key("thin")
    world.stake(provider, Role.PROVIDER, 10 * POT)
    codes = []
    for nonce in range(1, 13):
        order_id, _ = world.start(nonce=nonce)
        codes.append(world.submit(provider, Claim(order_id, H)).code)
    assert codes == [""] * 10 + ["InsufficientStake"] * 2
    assert world.ledger.book.stake(provider.address, Role.PROVIDER).locked == 10 * POT


def test_stake_of_one_role_backs_no_other(world: World) -> None:
    assert world.submit(PROVIDERS[0], Register(1)).code == "InsufficientStake"
    order_id = bring_to(world, Window.SCORE)
    assert world.commit_scores(order_id, PROVIDERS[0], {"model 1": 5}).code == "NotAssigned"


def test_leaving_with_the_stake_before_the_reveal_does_not_save_the_bond(world: World) -> None:
    order_id = bring_to(world, Window.REVEAL)
    address = PROVIDERS[0].address
    world.chain(
        ChainEvent(
            kind="unstake_requested",
            block=3,
            log_index=0,
            account=address,
            role=0,
            amount_grains=200 * POT,
            subject=b"",
            detail=(0, 99),
        )
    )
    world.wait_for(order_id, Window.RELEASE)
    stake = world.ledger.book.stake(address, Role.PROVIDER)
    assert (stake.slashed, stake.unbonding) == (POT, 199 * POT)


def test_an_escrow_for_an_order_that_is_never_shown_stays_with_the_contracts(world: World) -> None:
    order = world.new_order()
    world.escrow(order)
    world.wait(1_000_000)
    assert order.id in world.ledger.state.escrows and world.ledger.due_ms() is None
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=order.client,
            role=-1,
            amount_grains=28 * POT,
            subject=order.id,
            detail=(),
        )
    )
    assert not world.ledger.state.escrows and world.ledger.state.withdrawn_grains == 28 * POT


def test_an_order_whose_escrow_could_be_refunded_too_soon_is_not_taken(world: World) -> None:
    order = world.new_order(seal_by_s=world.now_ms // 1000 + 10)
    assert world.submit(world.client, Put(order)).code == "BadWindows"
