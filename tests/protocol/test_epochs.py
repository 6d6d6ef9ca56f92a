"""Epochs: rounds, quorums, and payouts that the chain can always afford."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.protocol import epochs
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import ChainEvent, HeldBlob
from pot_lab.protocol.settlement import Settlement, orders_hash, reward_leaf, settlement_digest
from pot_lab.protocol.transactions import SignEpoch, Withdraw
from tests.protocol.scenes import bring_to, finish, new_world
from tests.protocol.world import POT, World, key, link


def pending(world: World) -> Settlement:
    assert world.ledger.state.pending is not None
    return world.ledger.state.pending.settlement


def ended_orders(world: World, count: int) -> list[bytes]:
    """Orders whose money waits to be settled: they are withdrawn in one batch after they have started."""
    found = [world.start(nonce=1_000 + len(world.shares) + i)[0] for i in range(count)]
    assert all(reply.accepted for reply in world.batch(*((world.client, Withdraw(order_id)) for order_id in found)))
    return found


def signature(world: World, identity: Identity, settlement: Settlement | None = None) -> SignEpoch:
    settlement = settlement or pending(world)
    digest = settlement_digest(world.genesis.chain_id, world.genesis.settlement_contract, settlement)
    return SignEpoch(settlement.epoch, settlement.round, identity.sign(digest))


@pytest.fixture
def world() -> World:
    """A world whose first epoch waits for signatures."""
    world = World()
    ended_orders(world, 1)
    finish_due(world)
    return world


def finish_due(world: World) -> None:
    """Let time pass until an epoch is pending."""
    while world.ledger.state.pending is None:
        due = world.ledger.due_ms()
        assert due is not None
        world.now_ms = max(due, world.now_ms)
        world.batch()


@pytest.mark.parametrize("aggregators", [1, 4, 5, 6, 7, 10])
def test_a_quorum_of_signatures_completes_an_epoch_once(aggregators: int) -> None:
    world = World(aggregators)
    ended_orders(world, 1)
    finish_due(world)
    n, f = aggregators, (aggregators - 1) // 3
    assert world.ledger.book.quorum == -(-(n + f + 1) // 2)
    for signed, aggregator in enumerate(world.aggregators, 1):
        world.must(aggregator, signature(world, aggregator))
        world.must(aggregator, signature(world, aggregator))
        complete = sum(event.kind == "epoch_signed" for event in world.events)
        assert complete == (signed >= world.ledger.book.quorum)


def test_signatures_that_do_not_count_are_refused(world: World) -> None:
    one, other, stranger = world.aggregators[0], world.aggregators[1], key("stranger")
    assert world.submit(stranger, signature(world, stranger)).code == "NotAllowed"
    assert world.submit(one, signature(world, other)).code == "BadEpoch"
    assert world.submit(one, SignEpoch(1, 1, b"")).code == "BadEpoch"
    assert world.submit(one, SignEpoch(1, 1, b"\xff" * 65)).code == "BadEpoch"
    for epoch, round_ in ((1, 2), (2, 1), (0, 0), (-1, 1), (2**64 - 1, 2**64 - 1)):
        assert world.submit(one, SignEpoch(epoch, round_, signature(world, one).signature)).code == "BadEpoch"
    assert world.ledger.state.pending is not None and not world.ledger.state.pending.signatures


def test_nothing_is_signed_when_nothing_waits() -> None:
    world = World()
    assert world.submit(world.aggregators[0], SignEpoch(1, 1, bytes(65))).code == "BadEpoch"
    assert world.ledger.due_ms() is None, "a network without orders makes no epochs"


def test_an_epoch_is_made_every_update_and_only_when_there_is_something_to_settle() -> None:
    world = World(parameters=Parameters(update_ms=5_000, treasury=key("treasury").address))
    ended_orders(world, 1)
    finish_due(world)
    first_ms = world.now_ms
    world.settle()
    assert world.ledger.due_ms() is None
    ended_orders(world, 1)
    assert world.ledger.state.pending is None and world.ledger.due_ms() == first_ms + 5_000
    finish_due(world)
    assert world.now_ms == first_ms + 5_000 and pending(world).epoch == 2


def test_each_round_asks_for_new_signatures_and_the_chain_may_confirm_any_of_them(world: World) -> None:
    first = pending(world)
    world.sign_epoch()
    for round_ in (2, 3):
        world.wait(world.parameters.settlement_timeout_ms)
        assert pending(world).round == round_ and pending(world).root == first.root
        assert world.ledger.state.pending is not None and not world.ledger.state.pending.signatures
    world.chain(
        ChainEvent(
            kind="settled",
            block=9,
            log_index=0,
            account=bytes(20),
            role=-1,
            amount_grains=first.cumulative_total,
            subject=first.root,
            detail=(1, 1, 1),
        )
    )
    assert world.ledger.state.pending is None and world.ledger.state.confirmed.epoch == 1


def test_no_two_settlements_of_one_epoch_share_a_round() -> None:
    # The contract takes two signatures of one key under one (epoch, round) for equivocation, and its whole stake.
    world = World()
    first, second = ended_orders(world, 2)
    seen: dict[tuple[int, int], bytes] = {}

    def note() -> None:
        settlement = pending(world)
        digest = settlement_digest(1, bytes(20), settlement)
        assert seen.setdefault((settlement.epoch, settlement.round), digest) == digest

    finish_due(world)
    note()
    world.wait(world.parameters.settlement_timeout_ms)
    note()
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=28 * POT,
            subject=first,
            detail=(),
        )
    )
    finish_due(world)
    note()
    assert world.ledger.state.pending is not None and world.ledger.state.pending.order_ids == [second]
    assert (pending(world).epoch, pending(world).round) == (1, 3)
    world.settle()
    ended_orders(world, 1)
    finish_due(world)
    note()
    assert (pending(world).epoch, pending(world).round) == (2, 1)


def test_a_refund_of_another_order_leaves_the_pending_epoch_alone(world: World) -> None:
    before = pending(world)
    order_id, _ = world.start(nonce=77)
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=28 * POT,
            subject=order_id,
            detail=(),
        )
    )
    assert pending(world) == before


@pytest.mark.parametrize("wrong", [{"epoch": 2}, {"epoch": 0}, {"root": b"\x01" * 32}])
def test_a_confirmation_of_something_else_settles_nothing(world: World, wrong: dict[str, object]) -> None:
    settlement = pending(world)
    root, epoch = wrong.get("root", settlement.root), wrong.get("epoch", settlement.epoch)
    world.chain(
        ChainEvent(
            kind="settled",
            block=9,
            log_index=0,
            account=bytes(20),
            role=-1,
            amount_grains=settlement.cumulative_total,
            subject=root,
            detail=(epoch, 1, 1),
        )
    )
    assert pending(world) == settlement and world.ledger.state.confirmed.epoch == 0


def test_a_confirmation_comes_once(world: World) -> None:
    settlement = pending(world)
    world.settle()
    confirmed = world.ledger.state.confirmed
    world.chain(
        ChainEvent(
            kind="settled",
            block=9,
            log_index=1,
            account=bytes(20),
            role=-1,
            amount_grains=settlement.cumulative_total,
            subject=settlement.root,
            detail=(1, 1, 1),
        )
    )
    assert world.ledger.state.confirmed is confirmed


@pytest.fixture
def two_per_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(epochs, "MAX_ORDERS_PER_EPOCH", 2)
    yield 2


def test_an_epoch_promises_no_more_than_its_orders_bring_to_the_chain(two_per_epoch: int) -> None:
    world = World()
    order_ids = ended_orders(world, 5)
    brought = 0
    for epoch, named in enumerate((order_ids[:2], order_ids[2:4], order_ids[4:]), 1):
        finish_due(world)
        waiting = world.ledger.state.pending
        assert waiting is not None and waiting.order_ids == named
        assert waiting.settlement.orders_hash == orders_hash(named)
        brought += 28 * POT * len(named)
        assert waiting.settlement.cumulative_total == sum(waiting.rewards.values()) == brought
        world.settle()
        assert world.ledger.state.confirmed.epoch == epoch
    assert not world.ledger.state.unsettled and world.ledger.due_ms() is None


def test_a_refund_of_an_order_left_for_the_next_epoch_keeps_the_books(two_per_epoch: int) -> None:
    world = World()
    order_ids = ended_orders(world, 3)
    finish_due(world)
    before = pending(world)
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=9,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=28 * POT,
            subject=order_ids[2],
            detail=(),
        )
    )
    assert pending(world) == before
    world.settle()
    assert world.ledger.state.accounts[world.client.address].earned_grains == 56 * POT
    assert not world.ledger.state.unsettled


def test_slashes_go_into_the_tree_and_stay_cumulative() -> None:
    world = new_world()
    for nonce in (50, 51):
        order_id, _ = world.start(nonce=nonce)
        world.claim(order_id, key("provider 0"), "model 0")
        world.wait_for(order_id, Window.VOID)
        finish_due(world)
        assert world.ledger.state.pending is not None
        assert world.ledger.state.pending.slashes == {key("provider 0").address: [(nonce - 49) * POT, 0, 0, 0]}
        world.settle()
    tree = epochs.confirmed_tree(world.ledger.book)
    assert tree.root == world.ledger.state.confirmed.root
    assert reward_leaf(world.client.address, 56 * POT) in tree


def test_settled_orders_become_headers_when_their_time_is_over() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SETTLED)
    order = world.order(order_id)
    world.wait(order.ended_ms + world.parameters.retention_ms - world.now_ms - 1)
    assert order_id in world.ledger.state.orders
    world.wait(1)
    header = world.ledger.state.headers[order_id]
    assert order_id not in world.ledger.state.orders
    assert (header.window, header.winner, header.epoch) == (Window.SETTLED, order.winner, 1)
    assert header.score is not None and header.score.total == 95
    assert header.spec_hash == order.order.spec_hash
    winning = order.claims[order.winner]
    assert winning.sealed is not None and header.key == winning.sealed.key != b""
    assert header.ciphertext == HeldBlob(link("model 1").digest, 1_000), "with its key whoever has a copy can open it"
    assert header.graph == HeldBlob(link("graph").digest, 1_000)


def test_an_order_that_waits_for_the_chain_is_never_forgotten() -> None:
    world = new_world()
    order_id = bring_to(world, Window.VOID)
    world.wait(2 * world.parameters.retention_ms // 1000)
    world.now_ms += 10 * world.parameters.retention_ms
    world.batch()
    assert order_id in world.ledger.state.orders
    finish(world)
    world.batch()
    assert order_id in world.ledger.state.headers
