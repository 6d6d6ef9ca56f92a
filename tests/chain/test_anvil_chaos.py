"""A real node with fees: a stuck number, a fee that multiplies, a fee above the cap, reorganisations of payments and of
settlements.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.chain.account import ChainAccount
from pot_lab.chain.errors import ChainReverted, DeepReorganisation, FeeAboveCap, TransactionUnconfirmed
from pot_lab.chain.rpc import JsonRpc
from pot_lab.chain.wallet import ChainWallet
from pot_lab.chain.watcher import ChainWatcher
from pot_lab.crypto.identity import format_address
from pot_lab.protocol.settlement import PayoutTree, reward_leaf
from tests.chain.test_anvil import anvil_world  # noqa: F401
from tests.chain.world import POT, World, identity

PAYEE = identity("payee").address


@pytest.fixture
def world(anvil_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:  # noqa: F811
    """A network on anvil in its first state; nothing is under way."""
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    snapshot = anvil_world.rpc.call("evm_snapshot")
    anvil_world.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    anvil_world.rpc.call("evm_mine")
    yield anvil_world
    anvil_world.rpc.call("evm_setAutomine", True)
    anvil_world.rpc.call("anvil_dropAllTransactions")
    anvil_world.rpc.call("evm_revert", snapshot)


def base_fee(world: World) -> int:
    return int(world.rpc.call("eth_getBlockByNumber", "pending", False)["baseFeePerGas"], 16)


def account(world: World, **settings: float) -> ChainAccount:
    return ChainAccount(JsonRpc(world.url), world.contracts.chain_id, world.client, **settings)  # type: ignore[arg-type]


def pay(world: World, grains: int, **settings: float) -> None:
    account(world, **settings).send("PoTToken", world.contracts.token, "transfer", PAYEE, grains)


def received(world: World) -> int:
    return world.wallet().balance_grains(PAYEE)


def sent(world: World) -> int:
    return int(world.rpc.call("eth_getTransactionCount", format_address(world.client.address), "latest"), 16)


@contextlib.contextmanager
def mining(world: World, fee: int) -> Iterator[None]:
    """Blocks one after the other, each with this base fee, once the node has a payment that no block has taken."""
    ended, rpc, payer = threading.Event(), JsonRpc(world.url), format_address(world.client.address)

    def mine() -> None:
        counts = ("pending", "latest")
        while len({rpc.call("eth_getTransactionCount", payer, at) for at in counts}) == 1 and not ended.wait(0.01):
            pass  # earlier it would be refused, and not left behind
        while not ended.wait(0.05):
            rpc.call("anvil_setNextBlockBaseFeePerGas", hex(fee))
            rpc.call("evm_mine")

    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def leave_unmined(world: World, grains: int) -> None:
    """A payment that no block has taken, by a process that is gone."""
    world.rpc.call("evm_setAutomine", False)
    with pytest.raises(TransactionUnconfirmed):
        pay(world, grains, receipt_timeout_s=0.2)


def test_a_payment_that_fees_have_left_behind_is_offered_again_and_mined_once(world: World) -> None:
    world.rpc.call("evm_setAutomine", False)
    before, spike = sent(world), 5 * base_fee(world)
    with mining(world, spike):
        pay(world, 3 * POT, replace_after_s=0.2)
    assert received(world) == 3 * POT and sent(world) == before + 1


def test_a_new_process_sees_the_end_of_a_payment_and_then_makes_its_own(world: World) -> None:
    before = sent(world)
    leave_unmined(world, 3 * POT)
    with mining(world, 2 * base_fee(world)):
        pay(world, 5 * POT, replace_after_s=0.2)
    assert received(world) == 8 * POT and sent(world) == before + 2


def test_a_payment_that_the_node_dropped_is_not_made_by_the_next_process(world: World) -> None:
    before, spike = sent(world), 5 * base_fee(world)
    leave_unmined(world, 3 * POT)
    world.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(spike))
    world.rpc.call("evm_mine")  # anvil forgets what cannot pay the base fee
    with mining(world, spike):
        pay(world, 5 * POT, replace_after_s=0.2)
    assert received(world) == 5 * POT and sent(world) == before + 1


def test_a_base_fee_above_the_cap_sends_nothing(world: World) -> None:
    before = sent(world)
    with pytest.raises(FeeAboveCap, match="gwei"):
        pay(world, POT, max_fee_wei=base_fee(world) - 1)
    assert sent(world) == before and received(world) == 0
    pay(world, POT, max_fee_wei=2 * base_fee(world))
    assert received(world) == POT


def test_a_reorganisation_of_twelve_blocks_is_not_seen_by_who_waits_for_more(world: World) -> None:
    first = world.contracts.first_block
    careful = ChainWatcher(world.url, world.contracts, 15, first)
    hasty = ChainWatcher(world.url, world.contracts, 1, first)
    world.rpc.call("anvil_mine", hex(20))
    careful.poll(), hasty.poll()
    order = world.order(reward=7 * POT)
    world.rpc.call("anvil_mine", hex(5))
    assert [event.subject for event in hasty.poll()] == [order.oid]
    assert careful.poll() == []
    world.rpc.call("anvil_reorg", 12, [])
    assert world.wallet().escrowed_grains(order.oid) == 0
    world.rpc.call("anvil_mine", hex(30))
    assert careful.poll() == []
    with pytest.raises(DeepReorganisation):
        hasty.poll()


TREE = PayoutTree([reward_leaf(PAYEE, 7 * POT)])


def settle(world: World, orders: list[bytes], round_: int, **settings: int) -> None:
    """Send the first epoch, as its signers agreed on it in a round."""
    settlement = world.settlement(TREE, 7 * POT, orders, epoch=1, round_=round_)
    ChainWallet(world.url, world.contracts, world.relayer, **settings).settle(
        settlement, orders, world.signatures(settlement)
    )


def claim(world: World) -> None:
    world.wallet(world.relayer).claim(PAYEE, 7 * POT, TREE.proof(reward_leaf(PAYEE, 7 * POT)))


@pytest.mark.parametrize("undone", ["settlement", "claim", "both"])
def test_a_settlement_that_a_reorganisation_undoes_is_made_again_and_pays_once(world: World, undone: str) -> None:
    watcher = ChainWatcher(world.url, world.contracts, 15, world.contracts.first_block)
    order = world.order(reward=7 * POT)
    world.rpc.call("anvil_mine", hex(20))
    watcher.poll()
    settle(world, [order.oid], 0)
    if undone != "settlement":
        world.rpc.call("anvil_mine", hex(0 if undone == "both" else 12))
        claim(world)
    world.rpc.call("anvil_mine", hex(3))
    depth = 4 if undone == "claim" else 12
    world.rpc.call("anvil_reorg", depth, [])
    assert received(world) == 0
    if undone == "claim":
        assert world.wallet().epoch() == 1
    else:
        assert world.wallet().epoch() == 0 and world.wallet().escrowed_grains(order.oid) == 7 * POT
        settle(world, [order.oid], 1)  # what the ledger makes of an epoch that is not confirmed in time
        with pytest.raises(ChainReverted, match="WrongEpoch"):
            settle(world, [order.oid], 0)
    claim(world)
    with pytest.raises(ChainReverted, match="NothingToClaim"):
        claim(world)
    assert received(world) == 7 * POT
    assert world.wallet().balance_grains(world.contracts.settlement) == 0
    world.rpc.call("anvil_mine", hex(30))
    round_ = 0 if undone == "claim" else 1
    assert [event.detail for event in watcher.poll() if event.kind == "settled"] == [(1, round_, 1)], "told once"


def test_a_settlement_waits_while_fees_are_above_the_cap(world: World) -> None:
    order = world.order(reward=7 * POT)
    settlers = int(world.rpc.call("eth_getTransactionCount", format_address(world.relayer.address), "latest"), 16)
    fee = base_fee(world)
    with pytest.raises(FeeAboveCap):
        settle(world, [order.oid], 0, max_fee_wei=fee - 1)
    now = int(world.rpc.call("eth_getTransactionCount", format_address(world.relayer.address), "pending"), 16)
    assert now == settlers and world.wallet().epoch() == 0
    settle(world, [order.oid], 0, max_fee_wei=4 * fee)
    claim(world)
    assert received(world) == 7 * POT
