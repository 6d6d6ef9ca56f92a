"""A settlement can be found again by its epoch."""

from __future__ import annotations

from pot_lab.chain.lookup import find_settlement
from pot_lab.protocol.settlement import PayoutTree
from tests.chain.world import World


def test_a_settled_epoch_names_its_transaction_and_gas(world: World) -> None:
    assert find_settlement(world.url, world.contracts, 1) is None
    world.settle(PayoutTree([]), 0)
    found = find_settlement(world.url, world.contracts, 1)
    assert found is not None
    name, gas = found
    receipt = world.rpc.call("eth_getTransactionReceipt", "0x" + name.hex())
    assert int(receipt["gasUsed"], 16) == gas > 50_000
    assert find_settlement(world.url, world.contracts, 2) is None
