"""What the watcher yields: every final event once, in one order, the same for everyone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.chain.errors import ChainRefused, ChainUnreachable, DeepReorganisation
from pot_lab.chain.watcher import ChainWatcher, Position
from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import Malformed
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.settlement import PayoutTree, reward_leaf, slash_leaf
from tests.chain.world import DAY_S, POT, World, identity, start_chain, stop


def watcher(world: World, confirmations: int = 0, position: Position | None = None) -> ChainWatcher:
    first = world.contracts.first_block
    return ChainWatcher(world.url, world.contracts, confirmations, first, position=position)


def mine(world: World, blocks: int) -> None:
    for _ in range(blocks):
        world.rpc.call("evm_mine")


@pytest.fixture
def story(world: World) -> Iterator[tuple[World, list[tuple[object, ...]]]]:
    """One of each event, and how each should be told after those of the genesis."""
    client, node, payee = world.client.address, world.aggregators[4].address, identity("payee").address
    wallet = world.wallet(world.client)
    told: list[tuple[object, ...]] = []
    wallet.stake(0, 150 * POT)
    told.append(("staked", client, 0, 150 * POT, b"", (150 * POT,)))
    wallet.stake(0, 50 * POT)
    told.append(("staked", client, 0, 200 * POT, b"", (50 * POT,)))
    order = world.order(reward=100 * POT, fee=7 * POT, bond=3 * POT)
    detail = (7 * POT, 3 * POT, order.seal_by_s, order.nonce)
    told.append(("order_placed", client, -1, 100 * POT, order.oid, detail))
    overdue = world.order(reward=5 * POT, life_s=60)
    told.append(("order_placed", client, -1, 5 * POT, overdue.oid, (0, 0, overdue.seal_by_s, overdue.nonce)))
    wallet.request_unstake(0, 100 * POT)
    unlock = wallet.stake_of(client, 0).unlock_at_s
    told.append(("unstake_requested", client, 0, 100 * POT, b"", (100 * POT, unlock)))
    world.warp(7 * DAY_S)
    wallet.withdraw(0)
    told.append(("withdrawn", client, 0, 100 * POT, b"", ()))
    world.settle(PayoutTree([]), 0)
    told.append(("settled", bytes(20), -1, 0, bytes(32), (1, 0, 1)))
    wallet.refund(overdue.seal_by_s, overdue.spec, overdue.nonce)
    told.append(("order_refunded", client, -1, 5 * POT, overdue.oid, ()))
    wallet.fund(9 * POT)
    told.append(("funded", client, -1, 9 * POT, b"", ()))
    slash = slash_leaf(node, 3, 400 * POT, payee)
    tree = PayoutTree([reward_leaf(payee, 110 * POT), slash])
    world.settle(tree, 110 * POT, [order.oid])
    told.append(("settled", bytes(20), -1, 110 * POT, tree.root, (2, 0, 1)))
    world.wallet(world.relayer).apply_slash(node, 3, 400 * POT, payee, tree.proof(slash))
    told.append(("slashed", node, 3, 400 * POT, b"", (600 * POT,)))
    hot = identity("hot")
    wallet.set_signing_key(hot)
    told.append(("signing_key_set", client, -1, 0, hot.address, ()))
    others = [each.address for each in world.aggregators[:4]]
    world.send(world.founder, "RewardSettlement", "rotate", others, 3, 0, b"")
    told.append(("signers_rotated", bytes(20), -1, 0, b"".join(others), (2, 3)))
    yield world, told


def told(events: list[ChainEvent]) -> list[tuple[object, ...]]:
    return [(e.kind, e.account, e.role, e.amount_grains, e.subject, e.detail) for e in events]


def test_every_kind_of_event_is_told_in_order(story: tuple[World, list[tuple[object, ...]]]) -> None:
    world, expected = story
    events = watcher(world).poll()
    *genesis, seated = events[: len(world.aggregators) + 1]
    keys = [signer.address for signer in world.aggregators]
    assert [event.kind for event in genesis] == ["staked"] * len(keys)
    assert {event.account for event in genesis} == set(keys)
    assert told([seated]) == [("signers_rotated", bytes(20), -1, 0, b"".join(keys), (1, 4))]
    assert told(events[len(keys) + 1 :]) == expected
    places = [(event.block, event.log_index) for event in events]
    assert places == sorted(set(places))
    assert [decode(encode(event), ChainEvent, limit_bytes=1_000) for event in events] == events


def test_an_event_is_told_once_and_a_restart_goes_on_where_it_stopped(world: World) -> None:
    one = watcher(world)
    before = one.poll()
    assert one.position.events == len(before)
    assert one.poll() == []
    world.order()
    saved = decode(encode(one.position), Position, limit_bytes=200)
    two = watcher(world, position=saved)
    for again in (one, two):
        assert [event.kind for event in again.poll()] == ["order_placed"]
        assert again.position.events == len(before) + 1
    assert one.position == two.position


def test_an_event_waits_for_its_confirmations(world: World) -> None:
    careful = watcher(world, 3)
    mine(world, 3)
    careful.poll()
    world.order()
    for _ in range(3):
        assert careful.poll() == []
        mine(world, 1)
    assert [event.kind for event in careful.poll()] == ["order_placed"]


def test_a_shallow_reorganisation_is_never_seen(world: World) -> None:
    careful = watcher(world, 3)
    mine(world, 3)
    careful.poll()
    snapshot = world.rpc.call("evm_snapshot")
    lost = world.order(reward=1 * POT)
    assert careful.poll() == []
    world.rpc.call("evm_revert", snapshot)
    kept = world.order(reward=2 * POT)
    mine(world, 3)
    assert [event.subject for event in careful.poll()] == [kept.oid] != [lost.oid]


def test_a_deep_reorganisation_stops_the_watcher(world: World) -> None:
    careful = watcher(world, 1)
    snapshot = world.rpc.call("evm_snapshot")
    world.order()
    mine(world, 1)
    assert [event.kind for event in careful.poll()][-1] == "order_placed"
    position = careful.position
    world.rpc.call("evm_revert", snapshot)
    mine(world, 4)
    for _ in range(2):
        with pytest.raises(DeepReorganisation):
            careful.poll()
    assert careful.position == position


def test_a_node_that_lags_behind_is_waited_for(world: World) -> None:
    snapshot = world.rpc.call("evm_snapshot")
    mine(world, 5)
    ahead = watcher(world)
    ahead.poll()
    world.rpc.call("evm_revert", snapshot)
    assert ahead.poll() == []


def test_a_long_history_is_read_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = watcher(world).poll()
    monkeypatch.setattr("pot_lab.chain.logs.MAX_BLOCKS", 2)
    pieces, reader = [], watcher(world)
    while reader.position.next_block <= int(world.rpc.call("eth_blockNumber"), 16):
        pieces += reader.poll()
    assert pieces == whole


@pytest.mark.parametrize(
    "lie",
    [
        {"address": "0x" + "77" * 20},
        {"topics": ["0x" + "00" * 32]},
        {"topics": []},
        {"data": "0x"},
        {"data": "0xzz"},
        {"blockNumber": "0xffffff"},
        {"logIndex": None},
        {"removed": True},
    ],
)
def test_a_lying_node_is_refused_and_nothing_is_skipped(world: World, lie: dict[str, object]) -> None:
    reader = watcher(world)
    honest = reader._rpc.call

    def lying(method: str, *parameters: object) -> object:
        answer = honest(method, *parameters)
        return [log | lie for log in answer] if method == "eth_getLogs" else answer

    reader._rpc.call = lying  # type: ignore[method-assign]
    start = reader.position
    with pytest.raises(ChainRefused):
        reader.poll()
    assert reader.position == start
    reader._rpc.call = honest  # type: ignore[method-assign]
    assert len(reader.poll()) == len(world.aggregators) + 1  # their stakes, and that they sign


def test_a_log_told_twice_is_refused(world: World) -> None:
    reader = watcher(world)
    honest = reader._rpc.call

    def stuttering(method: str, *parameters: object) -> object:
        answer = honest(method, *parameters)
        return answer * 2 if method == "eth_getLogs" else answer

    reader._rpc.call = stuttering  # type: ignore[method-assign]
    with pytest.raises(ChainRefused, match="twice"):
        reader.poll()


def test_a_chain_that_is_down_is_waited_for_without_loss(tmp_path: Path) -> None:
    journal = ("--journal", str(tmp_path / "journal"))
    process, url = start_chain(tmp_path, *journal, "--control")
    world = World(url, aggregators=4)
    reader = watcher(world)
    before = reader.poll()
    world.order()
    stop(process)
    with pytest.raises(ChainUnreachable):
        reader.poll()
    process, _ = start_chain(tmp_path, *journal, "--port", url.rsplit(":", 1)[1])
    try:
        assert [event.kind for event in reader.poll()] == ["order_placed"]
        assert watcher(world).poll()[: len(before)] == before
    finally:
        stop(process)


def test_the_wrong_chain_or_a_senseless_setting_is_refused(world: World) -> None:
    other = world.contracts.as_table() | {"chain_id": 1}
    with pytest.raises(ChainRefused, match="another chain"):
        ChainWatcher(world.url, type(world.contracts).from_table(other), 0).poll()
    with pytest.raises(Malformed):
        ChainWatcher(world.url, world.contracts, -1)
