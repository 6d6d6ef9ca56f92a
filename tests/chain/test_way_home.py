"""Whatever the aggregators, the guardian or the owner do: clients and stakers get their money from the contracts alone,
and a client who has the model does not take the escrow back as well because the network stood still.
"""

from __future__ import annotations

import pytest

from pot_lab.chain.contract import interface
from pot_lab.chain.errors import ChainRefused, ChainReverted
from pot_lab.chain.inspection import ContractInspector
from pot_lab.network.founding.found import REFUND_GRACE_S, STALL_GRACE_S, NetworkTerms, contract_setup
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.settlement import PayoutTree, reward_leaf, slash_leaf
from tests.chain.test_settlement_attacks import refused
from tests.chain.world import DAY_S, POT, Order, World, identity

EMPTY = PayoutTree([])
PAUSE_S = 7 * DAY_S
WORKER = identity("worker").address


def refund(world: World, order: Order) -> None:
    world.wallet(world.relayer).refund(order.seal_by_s, order.spec, order.nonce, client=world.client.address)


@pytest.fixture
def founded(world: World) -> World:
    """The contracts with the graces of a founded network."""
    setup = contract_setup((), Parameters(), NetworkTerms(name="four", rpc_url="http://127.0.0.1:1"))
    assert (setup.refund_grace_s, setup.stall_grace_s) == (REFUND_GRACE_S, STALL_GRACE_S)
    world.send(world.founder, "OrderEscrow", "setGraces", REFUND_GRACE_S, STALL_GRACE_S)
    return world


def test_a_stall_longer_than_the_grace_takes_nothing_from_those_who_worked(founded: World) -> None:
    """An order is done, its client has the model, and then all aggregators stand still for twenty days."""
    world = founded
    order = world.order(life_s=3_600)
    world.warp(20 * DAY_S)
    with refused("TooEarly", order.seal_by_s + STALL_GRACE_S):
        refund(world, order)
    tree = PayoutTree([reward_leaf(WORKER, 100 * POT)])
    world.settle(tree, 100 * POT, [order.oid])  # the first settlement after it
    world.wallet(world.relayer).claim(WORKER, 100 * POT, tree.proof(reward_leaf(WORKER, 100 * POT)))
    assert world.wallet().balance_grains(WORKER) == 100 * POT
    with refused("UnknownOrder", order.oid):
        refund(world, order)


def test_a_network_that_settles_without_an_order_lets_it_go_after_the_grace(founded: World) -> None:
    world = founded
    order = world.order(life_s=3_600)
    world.warp(REFUND_GRACE_S)
    world.settle(EMPTY, 0)  # an hour before the grace is over: says nothing
    with refused("TooEarly"):
        refund(world, order)
    world.warp(3_600)
    with refused("TooEarly"):  # the grace is over, and nothing was settled since
        refund(world, order)
    world.settle(EMPTY, 0)
    refund(world, order)
    assert world.wallet().balance_grains(world.client.address) == 10**5 * POT


def test_a_refund_that_is_open_stays_open(founded: World) -> None:
    world = founded
    order = world.order(life_s=3_600)
    world.warp(3_600 + REFUND_GRACE_S)
    world.settle(EMPTY, 0)
    world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + PAUSE_S)
    world.warp(DAY_S)
    refund(world, order)
    assert world.wallet().escrowed_grains(order.oid) == 0


@pytest.mark.parametrize("settlement", ["silent", "nobody", "a wallet", "wrong kind"])
def test_every_escrow_comes_back_whatever_settles_or_does_not(founded: World, settlement: str) -> None:
    world = founded
    order = world.order(life_s=3_600)
    names = {"nobody": bytes(20), "a wallet": world.relayer.address, "wrong kind": world.contracts.token}
    if settlement in names:
        world.send(world.founder, "OrderEscrow", "setSettlement", names[settlement])
    world.warp(3_600 + STALL_GRACE_S - 120)
    with refused("TooEarly"):
        refund(world, order)
    world.warp(120)
    refund(world, order)
    assert world.wallet().balance_grains(world.client.address) == 10**5 * POT


def test_graces_have_limits_that_no_owner_can_pass(world: World) -> None:
    for name, graces in (
        ("refundGrace", (30 * DAY_S + 1, 60 * DAY_S)),
        ("stallGrace", (DAY_S, 60 * DAY_S + 1)),
        ("stallGrace", (DAY_S, DAY_S - 1)),
    ):
        with refused("BadParameter", name):
            world.send(world.founder, "OrderEscrow", "setGraces", *graces)
    with refused("BadParameter", "minReward"):
        world.send(world.founder, "OrderEscrow", "setMinReward", 0)


def test_a_least_reward_holds_for_new_orders(world: World) -> None:
    with refused("BadParameter", "reward"):
        world.order(reward=0, fee=POT)
    world.send(world.founder, "OrderEscrow", "setMinReward", POT)
    with refused("BadParameter", "reward"):
        world.order(reward=POT - 1)
    world.order(reward=POT)


@pytest.mark.parametrize("stall_grace_s", [60, 6 * DAY_S, PAUSE_S])
def test_a_check_warns_of_a_grace_that_a_pause_outlasts(world: World, stall_grace_s: int) -> None:
    with ContractInspector(world.url, world.contracts) as inspector:
        assert inspector.grace_troubles() == []
        world.send(world.founder, "OrderEscrow", "setGraces", 60, stall_grace_s)
        order = world.order(life_s=3_600)
        world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + PAUSE_S)
        world.warp(PAUSE_S + 3_600 - 60)
        if stall_grace_s < PAUSE_S:
            refund(world, order)
        (said,) = inspector.grace_troubles()
        assert f"refunded {stall_grace_s} s after" in said


# ---------------------------------------------------------------- stakes


def test_an_aggregator_that_still_signs_gets_its_stake_when_nobody_settles_any_more(world: World) -> None:
    """Nobody is left who could rotate it out: neither the other aggregators nor the owner."""
    world.settle(EMPTY, 0)
    leaving = world.wallet(world.aggregators[0])
    world.warp(29 * DAY_S)
    with refused("ActiveSigner"):
        leaving.request_unstake(3, 1_000 * POT)
    world.warp(DAY_S)
    leaving.request_unstake(3, 1_000 * POT)
    with refused("StillLocked"):
        leaving.withdraw(3)
    world.warp(7 * DAY_S)
    leaving.withdraw(3)
    assert leaving.balance_grains() == 11_000 * POT


def test_a_settlement_or_a_rotation_binds_the_signers_again(world: World) -> None:
    world.warp(31 * DAY_S)
    world.settle(EMPTY, 0)
    with refused("ActiveSigner"):
        world.wallet(world.aggregators[0]).request_unstake(3, 1_000 * POT)
    world.warp(31 * DAY_S)
    stakers = [each.address for each in world.aggregators]
    world.send(world.founder, "RewardSettlement", "rotate", stakers, 4, 0, b"")
    with refused("ActiveSigner"):
        world.wallet(world.aggregators[0]).request_unstake(3, 1_000 * POT)


@pytest.mark.parametrize("settlement", ["nobody", "a wallet", "wrong kind"])
def test_a_settlement_contract_that_does_not_answer_binds_nobody(world: World, settlement: str) -> None:
    names = {"nobody": bytes(20), "a wallet": world.relayer.address, "wrong kind": world.contracts.token}
    world.send(world.founder, "StakeRegistry", "setSettlement", names[settlement])
    world.wallet(world.aggregators[0]).request_unstake(3, 1_000 * POT)


@pytest.mark.parametrize("gas", range(60_000, 140_000, 8_000))
def test_too_little_gas_to_ask_frees_no_signer_and_no_escrow(world: World, gas: int) -> None:
    """A question that ran out of gas must not count as its most convenient answer."""
    order = world.order(life_s=100)
    world.warp(100 + 2 * DAY_S)
    for sender, contract, function, arguments in (
        (world.aggregators[0], "StakeRegistry", "requestUnstake", (3, 1_000 * POT)),
        (world.client, "OrderEscrow", "refund", (world.client.address, order.nonce, order.seal_by_s, order.spec)),
    ):
        at = world.contracts.registry if contract == "StakeRegistry" else world.contracts.escrow
        call = {
            "from": "0x" + sender.address.hex(),
            "to": "0x" + at.hex(),
            "gas": hex(gas),
            "data": "0x" + interface(contract).functions[function].call_data(arguments).hex(),
        }
        with pytest.raises((ChainReverted, ChainRefused), match=r"ActiveSigner|TooEarly|gas"):
            world.rpc.call("eth_call", call, "latest")


def test_stake_is_slashed_on_the_last_days_of_its_unbonding(world: World) -> None:
    """Unbonding takes as long as the longest order, so what was asked back before it ends still answers for it."""
    world.send(world.founder, "StakeRegistry", "setUnbondingPeriod", 21 * DAY_S)
    staker, order = world.wallet(world.client), world.order(life_s=30 * DAY_S)
    staker.stake(0, 100 * POT)
    staker.request_unstake(0, 100 * POT)
    world.warp(20 * DAY_S)
    with refused("StillLocked"):
        staker.withdraw(0)
    slash = slash_leaf(world.client.address, 0, 60 * POT, WORKER)
    tree = PayoutTree([reward_leaf(WORKER, 100 * POT), slash])
    world.settle(tree, 100 * POT, [order.oid])
    world.wallet(world.relayer).apply_slash(world.client.address, 0, 60 * POT, WORKER, tree.proof(slash))
    assert world.wallet().balance_grains(WORKER) == 60 * POT
    world.warp(DAY_S)
    staker.withdraw(0)
    assert staker.stake_of(world.client.address, 0).unbonding_grains == 0
    assert staker.balance_grains() == 10**5 * POT - 160 * POT


def test_unbonding_can_only_be_made_longer(world: World) -> None:
    staker = world.wallet(world.client)
    staker.stake(0, 100 * POT)
    staker.request_unstake(0, 100 * POT)
    for period_s in (0, 1, 7 * DAY_S - 1, 90 * DAY_S + 1):
        with refused("BadParameter", "unbondingPeriod"):
            world.send(world.founder, "StakeRegistry", "setUnbondingPeriod", period_s)
    world.send(world.founder, "StakeRegistry", "setUnbondingPeriod", 90 * DAY_S)
    world.warp(7 * DAY_S)
    staker.withdraw(0)  # asked for before
    assert staker.balance_grains() == 10**5 * POT


# ---------------------------------------------------------------- pauses


@pytest.mark.parametrize("who", ["guardian", "founder"])
def test_nobody_can_keep_payouts_paused(world: World, who: str) -> None:
    """Neither by a longer pause, nor by one that follows, nor by ending one for a moment."""
    one, until = getattr(world, who), world.now_s() + PAUSE_S - 60
    world.send(one, "RewardSettlement", "pause", until)
    with refused("TooEarly", until + PAUSE_S):
        world.send(one, "RewardSettlement", "pause", until + 30)
    world.send(one, "RewardSettlement", "pause", until - DAY_S)
    world.warp(5 * DAY_S)
    world.send(one, "RewardSettlement", "unpause")
    world.settle(EMPTY, 0)
    for days in (0, 6):
        world.warp(max(1, days * DAY_S))
        with refused("TooEarly"):
            world.send(one, "RewardSettlement", "pause", world.now_s() + PAUSE_S - 60)
    world.warp(DAY_S)
    world.send(one, "RewardSettlement", "pause", world.now_s() + PAUSE_S - 60)


def test_a_pause_is_ended_by_those_who_may_begin_one_and_only_once(world: World) -> None:
    with refused("TooLate"):
        world.send(world.guardian, "RewardSettlement", "unpause")
    for past in (0, world.now_s()):
        with refused("BadParameter", "until"):
            world.send(world.guardian, "RewardSettlement", "pause", past)
    world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + DAY_S)
    for function, arguments in (("unpause", ()), ("pause", (world.now_s() + 60,))):
        with refused("NotAllowed", world.relayer.address):
            world.send(world.relayer, "RewardSettlement", function, *arguments)
    world.send(world.founder, "RewardSettlement", "unpause")
    world.settle(EMPTY, 0)
    assert world.wallet().epoch() == 1
