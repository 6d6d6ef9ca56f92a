"""Payouts go where their account says, by whoever claims them; one that cannot be paid holds up no other."""

from __future__ import annotations

import pytest

from pot_lab.chain.wallet import ClaimablePayout
from pot_lab.protocol.settlement import PayoutTree, reward_leaf
from tests.chain.test_settlement_attacks import refused
from tests.chain.world import POT, World, identity

A, B, SAFE = (identity(name).address for name in ("payee A", "payee B", "cold account"))
NOWHERE = bytes(20)
"""An account that the token never pays."""


def settled(world: World, due: dict[bytes, int]) -> PayoutTree:
    """An epoch that owes these grains, paid by one order."""
    order = world.order(reward=sum(due.values()))
    tree = PayoutTree([reward_leaf(account, grains) for account, grains in due.items()])
    world.settle(tree, sum(due.values()), [order.oid])
    return tree


def test_whoever_claims_it_a_payout_goes_to_the_accounts_payout_address(world: World) -> None:
    earner, wallet = world.aggregators[0], world.wallet(world.relayer)
    assert wallet.payout_address(earner.address) == earner.address
    world.wallet(earner).set_payout_address(SAFE)
    assert wallet.payout_address(earner.address) == SAFE
    tree = settled(world, {earner.address: 60 * POT, A: 40 * POT})
    before = wallet.balance_grains(earner.address)
    wallet.claim(earner.address, 60 * POT, tree.proof(reward_leaf(earner.address, 60 * POT)))
    assert wallet.balance_grains(SAFE) == wallet.claimed_grains(earner.address) == 60 * POT
    assert wallet.balance_grains(earner.address) == before and wallet.claimed_grains(SAFE) == 0
    with refused("NothingToClaim", earner.address, 60 * POT):
        wallet.claim(earner.address, 60 * POT, tree.proof(reward_leaf(earner.address, 60 * POT)))


def test_only_the_account_itself_says_where_and_takes_it_back(world: World) -> None:
    earner, wallet = world.aggregators[0], world.wallet(world.relayer)
    world.wallet(world.relayer).set_payout_address(SAFE)  # the relayer's own
    assert wallet.payout_address(earner.address) == earner.address
    world.wallet(earner).set_payout_address(SAFE)
    world.wallet(earner).set_payout_address(None)
    assert wallet.payout_address(earner.address) == earner.address


@pytest.mark.parametrize("contract", ["token", "registry", "escrow", "settlement"])
def test_a_payout_cannot_be_sent_where_nobody_gets_it_out(world: World, contract: str) -> None:
    with refused("BadParameter", "to"):
        world.wallet(world.client).set_payout_address(getattr(world.contracts, contract))


@pytest.mark.parametrize("shared_proof", [False, True])
def test_one_that_cannot_be_paid_holds_up_nobody_else(world: World, shared_proof: bool) -> None:
    due = {A: 10 * POT, NOWHERE: 20 * POT, B: 30 * POT}
    tree, wallet = settled(world, due), world.wallet(world.relayer)
    if shared_proof:
        wallet.claim_from_tree(tree, due)
    else:
        wallet.claim_many(
            [ClaimablePayout(who, grains, tuple(tree.proof(reward_leaf(who, grains)))) for who, grains in due.items()]
        )
    assert (wallet.balance_grains(A), wallet.balance_grains(B)) == (10 * POT, 30 * POT)
    assert wallet.claimed_grains(NOWHERE) == 0, "it keeps its claim"
    assert wallet.balance_grains(world.contracts.settlement) == 20 * POT
    with refused("ERC20InvalidReceiver", NOWHERE):
        wallet.claim(NOWHERE, 20 * POT, tree.proof(reward_leaf(NOWHERE, 20 * POT)))


def test_a_batch_goes_to_each_ones_own_address_and_skips_what_was_paid(world: World) -> None:
    earner, wallet = world.aggregators[0], world.wallet(world.relayer)
    world.wallet(earner).set_payout_address(SAFE)
    due = {A: 10 * POT, earner.address: 30 * POT}
    tree = settled(world, due)
    wallet.claim(A, 10 * POT, tree.proof(reward_leaf(A, 10 * POT)))
    wallet.claim_from_tree(tree, due)
    assert (wallet.balance_grains(A), wallet.balance_grains(SAFE)) == (10 * POT, 30 * POT)
    assert wallet.balance_grains(world.contracts.settlement) == 0
