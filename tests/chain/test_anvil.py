"""The same contracts, wallet and watcher on another EVM node: anvil, where it is installed.

What the embedded chain forgives (gas is free, one block a transaction) a real node does not; what both say must be
equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pot_lab.chain.errors import ChainRefused, ChainReverted
from pot_lab.chain.rpc import JsonRpc
from pot_lab.chain.watcher import ChainWatcher
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.protocol.settlement import PayoutTree, reward_leaf, settlement_digest
from tests.chain.world import POT, World, fields, identity, running_anvil

PAYEE = identity("payee").address
FUNDED = ("founder", "client", "relayer", *(f"aggregator {i}" for i in range(5)))


@pytest.fixture(scope="module")
def anvil_world() -> Iterator[World]:
    with running_anvil() as url:
        rpc = JsonRpc(url)
        for name in FUNDED:
            rpc.call("anvil_setBalance", format_address(identity(name).address), hex(10**18))
        yield World(url)


def test_a_whole_cycle_on_another_node(anvil_world: World) -> None:
    world = anvil_world
    order = world.order(reward=90 * POT, fee=6 * POT, bond=4 * POT)
    tree = PayoutTree([reward_leaf(PAYEE, 60 * POT), reward_leaf(world.client.address, 40 * POT)])
    world.settle(tree, 100 * POT, [order.oid])
    wallet = world.wallet(world.relayer)
    wallet.claim(PAYEE, 60 * POT, tree.proof(reward_leaf(PAYEE, 60 * POT)))
    assert wallet.balance_grains(PAYEE) == 60 * POT
    with pytest.raises(ChainReverted) as caught:
        wallet.claim(PAYEE, 60 * POT, tree.proof(reward_leaf(PAYEE, 60 * POT)))
    assert (caught.value.name, caught.value.arguments) == ("NothingToClaim", (PAYEE, 60 * POT))
    events = ChainWatcher(world.url, world.contracts, 0, world.contracts.first_block).poll()
    assert [event.kind for event in events] == [*["staked"] * 5, "signers_rotated", "order_placed", "settled"]
    assert events[-1].subject == tree.root and events[-1].detail == (1, 0, 1)


def test_it_computes_the_same_digest(anvil_world: World) -> None:
    world = anvil_world
    settlement = world.settlement(PayoutTree([]), 0)
    digest = settlement_digest(world.contracts.chain_id, world.contracts.settlement, settlement)
    assert world.read("RewardSettlement", "digest", fields(settlement)) == (digest,)


def test_an_account_without_gas_money_is_told_so(anvil_world: World) -> None:
    poor = Identity(b"\x42" * 32)
    anvil_world.wallet(anvil_world.client).transfer(poor.address, POT)
    with pytest.raises(ChainRefused, match=r"(?i)insufficient funds"):
        anvil_world.wallet(poor).transfer(anvil_world.client.address, POT)
