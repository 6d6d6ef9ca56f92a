"""What the registry and the settlement refuse to those who try to shorten a lock, take a key, or cry wolf."""

from __future__ import annotations

from pot_lab.chain.errors import ChainReverted
from pot_lab.protocol.settlement import PayoutTree, Settlement, reward_leaf
from tests.chain.test_settlement_attacks import refused
from tests.chain.world import DAY_S, POT, World, fields, identity

A, B = identity("payee A").address, identity("payee B").address


def test_a_new_request_locks_again_what_was_asked_back_before(world: World) -> None:
    staker = world.wallet(world.client)
    staker.stake(0, 300 * POT)
    staker.request_unstake(0, 100 * POT)
    world.warp(6 * DAY_S)
    staker.request_unstake(0, 100 * POT)
    world.warp(DAY_S + 60)  # the first request's week is over
    with refused("StillLocked"):
        staker.withdraw(0)
    world.warp(6 * DAY_S)
    staker.withdraw(0)
    assert staker.balance_grains() == 10**5 * POT - 100 * POT


def test_nothing_or_the_least_stake_may_rest(world: World) -> None:
    staker = world.wallet(world.client)
    staker.stake(0, 150 * POT)
    with refused("BelowMinimum", 0, 100 * POT - 1, 100 * POT):
        staker.request_unstake(0, 50 * POT + 1)
    with refused("NotBonded", 150 * POT + 1, 150 * POT):
        staker.request_unstake(0, 150 * POT + 1)
    staker.request_unstake(0, 50 * POT)
    staker.request_unstake(0, 100 * POT)


def test_nobody_names_a_key_that_it_does_not_have(world: World) -> None:
    """Neither with no proof, nor with the proof that another account gave."""
    key = identity("hot")
    possession = bytes(65)
    try:
        world.send(world.client, "StakeRegistry", "setSigningKey", key.address, possession)
    except ChainReverted as error:
        assert error.name in ("ECDSAInvalidSignature", "BadParameter")
    assert world.read("StakeRegistry", "signingKey", world.client.address) == (bytes(20),)
    forged = world.client.sign(b"\7" * 32)
    forged = forged[:64] + bytes([27 + forged[64]])
    with refused("BadParameter", "possession"):
        world.send(world.client, "StakeRegistry", "setSigningKey", key.address, forged)


def test_an_order_id_is_used_once_also_when_its_order_exists_no_more(world: World) -> None:
    order = world.order(life_s=1_000)
    terms = (100 * POT, 0, 0, order.seal_by_s, order.spec, order.nonce)
    with refused("OrderExists", order.oid):
        world.wallet(world.client).place_order(*terms)
    world.settle(PayoutTree([]), 0, [order.oid])
    with refused("OrderExists", order.oid):
        world.wallet(world.client).place_order(*terms)


def test_a_batch_pays_once_however_often_it_is_sent(world: World) -> None:
    first, second = world.order(), world.order()
    world.wallet(world.client).fund(1_000 * POT)  # so that paying twice would not fail for lack of money
    due = {A: 120 * POT, B: 80 * POT}
    tree = PayoutTree([reward_leaf(who, grains) for who, grains in due.items()])
    world.settle(tree, 200 * POT, [first.oid, second.oid])
    wallet = world.wallet(world.relayer)
    for _ in range(2):
        wallet.claim_from_tree(tree, due)
        assert (wallet.balance_grains(A), wallet.balance_grains(B)) == (120 * POT, 80 * POT)
    assert wallet.balance_grains(world.contracts.settlement) == 1_000 * POT


def test_one_settlement_shown_twice_is_no_double_signing(world: World) -> None:
    one = Settlement(
        epoch=9,
        round=0,
        signer_set_id=1,
        root=b"\1" * 32,
        cumulative_total=1,
        orders_hash=b"\2" * 32,
        ledger_hash=b"\3" * 32,
    )
    _, packed = world.packed(one, [0])
    twice = (fields(one), packed, fields(one), packed)
    with refused("NotEquivocation"):
        world.send(world.relayer, "RewardSettlement", "slashEquivocation", *twice)
    assert world.wallet().stake_of(world.aggregators[0].address, 3).bonded_grains == 1_000 * POT
