"""A settlement can be found again by its epoch."""

from __future__ import annotations

from typing import Any

from pot_lab.chain.lookup import find_settlement
from pot_lab.protocol.settlement import PayoutTree
from tests.chain.world import World, strict_node


def test_a_settled_epoch_names_its_transaction_and_gas(world: World) -> None:
    assert find_settlement(world.url, world.contracts, 1) is None
    world.settle(PayoutTree([]), 0)
    found = find_settlement(world.url, world.contracts, 1)
    assert found is not None
    name, gas = found
    receipt = world.rpc.call("eth_getTransactionReceipt", "0x" + name.hex())
    assert int(receipt["gasUsed"], 16) == gas > 50_000
    assert find_settlement(world.url, world.contracts, 2) is None


def test_it_is_found_at_a_node_that_gives_few_blocks_at_once(world: World) -> None:
    world.settle(PayoutTree([]), 0)
    for _ in range(9):
        world.rpc.call("evm_mine")

    def narrow(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if request["method"] != "eth_getLogs":
            return None
        wanted = request["params"][0]
        blocks = int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1
        return (200, {"code": -32602, "message": "at most 3 blocks"}) if blocks > 3 else None

    with strict_node(world.url, narrow) as url:
        assert find_settlement(url, world.contracts, 1) == find_settlement(world.url, world.contracts, 1) is not None
