"""Logs are read whole from nodes that limit blocks, results, or what one block gives."""

from __future__ import annotations

from typing import Any

import pytest

from pot_lab.chain.errors import ChainBusy, ChainRefused
from pot_lab.chain.logs import MAX_BLOCKS
from pot_lab.chain.watcher import ChainWatcher
from tests.chain.world import Hook, World, strict_node

BLOCKS = 300


def span(request: dict[str, Any]) -> int:
    """Blocks that a request for logs asks for; 0 for any other request."""
    if request["method"] != "eth_getLogs":
        return 0
    wanted = request["params"][0]
    return int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1


def at_most(blocks: int, error: dict[str, Any]) -> Hook:
    return lambda request: (200, error) if span(request) > blocks else None


def read_all(world: World, url: str) -> tuple[list[Any], int]:
    """Everything that a new watcher tells, and how many polls that took."""
    reader, events, polls = ChainWatcher(url, world.contracts, 0, world.contracts.first_block), [], 0
    head = int(world.rpc.call("eth_blockNumber"), 16)
    while reader.position.next_block <= head:
        try:
            events += reader.poll()
        except ChainBusy:
            pass
        polls += 1
        assert polls < 200
    reader.close()
    return events, polls


@pytest.fixture
def long_world(world: World) -> World:
    for _ in range(5):
        world.order()
        for _ in range(BLOCKS // 5):
            world.rpc.call("evm_mine")
    return world


def test_a_span_that_the_node_refuses_is_halved_until_it_gives_it(long_world: World) -> None:
    whole, _ = read_all(long_world, long_world.url)
    assert len(whole) > 5
    for limit in (
        at_most(150, {"code": -32602, "message": "range exceeds limit of 150"}),
        at_most(100, {"code": -32005, "message": "query returned more than 10000 results"}),
        at_most(50, {"code": -32005, "message": "limit exceeded"}),
        at_most(64, {"code": -32000, "message": "query timeout exceeded"}),
        at_most(199, {"code": 35, "message": "ranges over 199 blocks are not supported"}),
    ):
        with strict_node(long_world.url, limit) as url:
            assert read_all(long_world, url)[0] == whole


def test_a_block_that_the_node_never_gives_is_read_from_its_receipts(world: World) -> None:
    """Somebody fills one block with more events than a node answers: no watcher may stop at it for ever."""
    world.wallet(world.client).stake(0, 200 * 10**9)
    world.send(world.client, "PoTToken", "approve", world.contracts.registry, 10**6)
    grants = [(world.client.address, 0, 1)] * 300
    full = world.send(world.client, "StakeRegistry", "stakeFor", grants).block
    world.order()
    whole, _ = read_all(world, world.url)

    def limit(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if not (count := span(request)):
            return None
        first = int(request["params"][0]["fromBlock"], 16)
        full_too = first <= full < first + count
        return (200, {"code": -32005, "message": "query returned more than 100 results"}) if full_too else None

    with strict_node(world.url, limit) as url:
        events, _ = read_all(world, url)
    assert events == whole and sum(event.block == full for event in events) == 300


def test_receipts_of_another_block_are_refused(world: World) -> None:
    reader = ChainWatcher(world.url, world.contracts, 0, world.contracts.first_block)
    honest = reader._rpc.call

    def lying(method: str, *parameters: object) -> object:
        if method == "eth_getLogs":
            raise ChainRefused("no logs here")
        answer = honest(method, *parameters)
        if method == "eth_getTransactionReceipt":
            answer["blockHash"] = "0x" + "11" * 32
        return answer

    reader._rpc.call = lying  # type: ignore[method-assign]
    start = reader.position
    with pytest.raises(ChainRefused, match="receipt"):
        for _ in range(3):  # the first of the contracts' blocks may have no transaction
            reader.poll()
    assert reader.position.events == start.events == 0


def test_more_logs_in_a_span_than_a_node_should_give_are_read_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = read_all(world, world.url)
    monkeypatch.setattr("pot_lab.chain.logs.MAX_EVENTS", 2)
    assert read_all(world, world.url)[0] == whole


def test_a_span_grows_again_after_a_bad_hour(long_world: World) -> None:
    reader = ChainWatcher(long_world.url, long_world.contracts, 0, long_world.contracts.first_block)
    reader._logs._span = 1
    polls = 0
    while reader.position.next_block <= int(long_world.rpc.call("eth_blockNumber"), 16):
        reader.poll()
        polls += 1
    assert polls < 40 and reader._logs._span > 60 and MAX_BLOCKS == 2_000
