"""Judging one's own work, and taking one's own order, under one account or another's name."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Claim, Put, Register, ReleaseKey, Withdraw
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, bring_to
from tests.protocol.world import POT, World, key

H = b"\x02" * 32


def test_a_provider_never_scores_an_order_that_it_has_a_claim_on(world: World) -> None:
    """Its own model, or its rivals': calling these worse would serve it as well."""
    world.stake(PROVIDERS[0], Role.VALIDATOR, 10**6 * POT)
    order_id = bring_to(world, Window.SCORE)
    assert world.assigned(order_id, PROVIDERS[0]) == []
    assert world.commit_scores(order_id, PROVIDERS[0], SCORES).code == "NotAssigned"
    assert world.commit_scores(order_id, PROVIDERS[0], {MODELS[1]: 0}).code == "NotAssigned"


def test_a_client_neither_claims_nor_scores_its_own_order(world: World) -> None:
    world.stake(world.client, Role.PROVIDER)
    world.stake(world.client, Role.VALIDATOR, 10**6 * POT)
    order_id = bring_to(world, Window.COMMIT)
    assert world.submit(world.client, Claim(order_id, H)).code == "NotAllowed"
    order_id = bring_to(world, Window.SCORE)
    assert world.assigned(order_id, world.client) == []
    assert world.commit_scores(order_id, world.client, SCORES).code == "NotAssigned"


def test_nobody_withdraws_or_releases_anothers_order(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    assert world.submit(PROVIDERS[0], Withdraw(order_id)).code == "NotAllowed"
    order_id = bring_to(world, Window.RELEASE)
    assert world.submit(PROVIDERS[0], ReleaseKey(order_id, world.keys[order_id])).code == "NotAllowed"


def test_a_client_cannot_take_an_order_back_once_somebody_works_on_it(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT)
    assert world.submit(world.client, Withdraw(order_id)).code == "TooLate"


def test_sybils_without_stake_can_put_records_and_nothing_else(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT)
    accounts = len(world.ledger.state.accounts)
    for i in range(20):
        sybil = key(f"sybil {i}")
        assert world.claim(order_id, sybil, MODELS[0]).code == "NotAllowed"
        for role in (0, 1, 2):
            assert world.submit(sybil, Register(role)).code == "InsufficientStake"
        assert world.submit(sybil, Register(3)).code == "NotAllowed"
    assert len(world.ledger.state.accounts) == accounts, "whoever is refused leaves no trace"


def test_sybils_that_put_and_withdraw_fill_nothing(world: World) -> None:
    state, limit = world.ledger.state, world.parameters.max_live_orders_per_account
    accounts, sybil = len(state.accounts), key("sybil")
    codes = []
    for nonce in range(limit + 5):
        order = world.new_order(client=sybil.address, nonce=nonce)
        codes.append(world.submit(sybil, Put(order)).code)
        world.submit(sybil, Withdraw(order.id))
    assert codes == [""] * limit + ["TooManyOrders"] * 5
    world.wait(world.parameters.pool_ms)
    assert not state.orders and not state.headers and len(state.accounts) == accounts
    assert world.ledger.book.index.unfunded == world.ledger.book.index.held_by(sybil.address) == 0
