"""A transaction in words: every call that a wallet makes, and any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pot_lab.chain.errors import NotConfirmed
from pot_lab.chain.proposal import ContractAction, ProposedTransaction
from pot_lab.chain.wallet import ChainWallet
from pot_lab.crypto.identity import format_address
from pot_lab.protocol.settlement import PayoutTree, reward_leaf
from tests.chain.world import POT, World, identity

OTHER = format_address(identity("relayer").address)
Step = Callable[[ChainWallet, World], Any]
CALLS: list[tuple[Step, str]] = [
    (lambda w, world: w.transfer(world.relayer.address, 1_500_000_000), f"send 1.5 POT to {OTHER}"),
    (
        lambda w, world: w.stake(1, 200 * POT),
        "stake 200 POT as validator, and permit the stake registry to take exactly that",
    ),
    (
        lambda w, world: w.place_order(7 * POT, 2 * POT, POT, world.now_s() + 999, bytes(32), 1),
        (
            "pay 10 POT into an order's escrow (reward 7 POT, fee 2 POT, bond 1 POT), "
            "and permit the escrow to take exactly that"
        ),
    ),
    (
        lambda w, world: w.set_signing_key(world.relayer),
        f"let the key {OTHER} sign for this account",
    ),
]


@pytest.mark.parametrize(("call", "words"), CALLS)
def test_what_is_not_confirmed_is_shown_in_words_and_not_sent(world: World, call: Step, words: str) -> None:
    shown: list[ProposedTransaction] = []

    def no(proposed: ProposedTransaction) -> bool:
        shown.append(proposed)
        return False

    wallet = world.wallet(world.client)
    wallet.confirm_by(no)
    count = ("eth_getTransactionCount", format_address(world.client.address), "latest")
    before = world.rpc.call(*count)
    with pytest.raises(NotConfirmed):
        call(wallet, world)
    assert shown[0].action.words == words
    assert shown[0].words.startswith(words[0].upper() + words[1:] + ".\n  account  0x")
    assert world.rpc.call(*count) == before
    wallet.confirm_by(lambda _: True)
    call(wallet, world)
    assert int(world.rpc.call(*count), 16) == int(before, 16) + 1
    wallet.confirm_by(None)


def test_a_claim_says_for_whom(world: World) -> None:
    payee = identity("payee").address
    order = world.order(reward=3 * POT)
    tree = PayoutTree([reward_leaf(payee, 3 * POT)])
    world.settle(tree, 3 * POT, [order.oid])
    shown: list[str] = []
    wallet = world.wallet(world.relayer)
    wallet.confirm_by(lambda proposed: not shown.append(proposed.action.words))
    wallet.claim(payee, 3 * POT, tree.proof(reward_leaf(payee, 3 * POT)))
    assert shown == [f"pay out what {format_address(payee)} has earned, 3 POT in all since the first epoch"]


def test_any_other_call_is_shown_with_its_arguments() -> None:
    action = ContractAction(contract="RewardSettlement", function="pause", arguments=(7, b"\1" * 32))
    assert action.words == "call RewardSettlement.pause(7, 0x010101010101010101010…)"


def test_what_it_may_cost_is_said_in_the_chains_coin() -> None:
    action = ContractAction(contract="StakeRegistry", function="withdraw", arguments=(0,))
    proposed = ProposedTransaction(
        action=action, account=bytes(20), chain_id=56, gas=80_000, fee_wei=80_000 * 3 * 10**9
    )
    assert proposed.words.splitlines()[0] == "Withdraw what has finished unbonding as provider."
    assert proposed.words.splitlines()[-1] == "  gas      at most 80,000; at most 0.00024 of the chain's coin"
    assert proposed.as_table()["fee_wei"] == 240_000_000_000_000
