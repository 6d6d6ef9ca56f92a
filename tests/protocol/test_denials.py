"""An order whose escrow the chain does not hold is set apart by f+1 members, and everybody else is paid."""

from __future__ import annotations

import pytest

from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.records import ChainEvent, OrderId
from pot_lab.protocol.state import PendingEpoch
from pot_lab.protocol.transactions import DeniedOrder, DenyEscrow
from tests.protocol.test_epochs import ended_orders, finish_due
from tests.protocol.world import World, key


@pytest.fixture
def world() -> World:
    """A world whose first epoch waits for signatures, with three orders."""
    world = World()
    ended_orders(world, 3)
    finish_due(world)
    return world


def waiting(world: World) -> PendingEpoch:
    assert world.ledger.state.pending is not None
    return world.ledger.state.pending


def denial(world: World, *order_ids: bytes) -> DenyEscrow:
    settlement = waiting(world).settlement
    return DenyEscrow(settlement.epoch, settlement.round, tuple(DeniedOrder(OrderId(each)) for each in order_ids))


def settled(pending: PendingEpoch) -> ChainEvent:
    """The chain's word that it has applied this settlement."""
    settlement = pending.settlement
    return ChainEvent(
        kind="settled",
        block=9,
        log_index=0,
        account=bytes(20),
        role=-1,
        amount_grains=settlement.cumulative_total,
        subject=settlement.root,
        detail=(settlement.epoch, settlement.round, settlement.signer_set_id),
    )


def test_f_plus_1_members_set_an_order_apart_and_the_next_epoch_pays_the_others(world: World) -> None:
    first, bad = waiting(world), waiting(world).order_ids[1]
    body = denial(world, bad)
    world.must(world.aggregators[0], body)
    world.must(world.aggregators[0], body)
    assert waiting(world) is first, "one member is not enough, however often it says so"
    world.must(world.aggregators[2], body)
    state = world.ledger.state
    assert state.pending is None and any(event.kind == "escrow_denied" for event in world.events)
    assert state.orders[bad].window is Window.VOID and state.orders[bad].void_reason is VoidReason.REFUNDED
    assert state.orders[bad].payouts == []
    finish_due(world)
    second = waiting(world)
    assert second.order_ids == [each for each in first.order_ids if each != bad]
    assert second.settlement.epoch == first.settlement.epoch and second.settlement.round > first.settlement.round
    world.sign_epoch()
    world.settle()
    assert state.confirmed.epoch == 1 and not state.unsettled and not state.forgotten
    assert state.confirmed.total_grains == state.earned_grains
    world.ledger.book.audit()


def test_without_denials_one_order_holds_up_everybody_for_ever(world: World) -> None:
    """The hole: round after round has the order that the contract refuses."""
    first = waiting(world)
    for _ in range(5):
        world.sign_epoch()
        world.wait(world.parameters.settlement_timeout_ms)
        assert waiting(world).order_ids == first.order_ids
    assert world.ledger.state.confirmed.epoch == 0


def test_denials_of_several_rounds_add_up(world: World) -> None:
    bad = waiting(world).order_ids[0]
    world.must(world.aggregators[0], denial(world, bad))
    world.wait(world.parameters.settlement_timeout_ms)
    assert waiting(world).settlement.round == 2
    world.must(world.aggregators[1], denial(world, bad))
    assert bad not in waiting(world).order_ids and waiting(world).settlement.round == 3


def test_members_may_deny_different_orders_and_all_at_once(world: World) -> None:
    a, b, c = waiting(world).order_ids
    world.must(world.aggregators[0], denial(world, a))
    world.must(world.aggregators[1], denial(world, b))
    assert world.ledger.state.pending is not None
    world.must(world.aggregators[2], denial(world, a, b, c))
    assert world.ledger.state.pending is None
    finish_due(world)
    assert waiting(world).order_ids == [c]


def test_when_all_are_denied_nothing_is_settled(world: World) -> None:
    orders = waiting(world).order_ids
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, denial(world, *orders))
    world.wait(10 * world.parameters.update_ms)
    state = world.ledger.state
    assert state.pending is None and state.earned_grains == 0 and not state.unsettled
    world.ledger.book.audit()


def test_what_denies_nothing_is_refused_and_changes_nothing(world: World) -> None:
    first, one = waiting(world), world.aggregators[0]
    order_id = first.order_ids[0]
    assert world.submit(key("stranger"), denial(world, order_id)).code == "NotAllowed"
    assert world.submit(one, denial(world, b"\x07" * 32)).code == "BadEpoch"
    assert world.submit(one, denial(world, order_id, b"\x07" * 32)).code == "BadEpoch"
    assert world.submit(one, denial(world, b"short")).code == "Malformed"
    assert world.submit(one, denial(world)).code == "Malformed"
    for epoch, round_ in ((1, 2), (2, 1), (0, 0), (-1, 1)):
        body = DenyEscrow(epoch, round_, (DeniedOrder(order_id),))
        assert world.submit(one, body).code == "BadEpoch"
    assert first.denials == {}


def test_a_late_denial_of_the_given_up_settlement_is_refused(world: World) -> None:
    old = denial(world, waiting(world).order_ids[0])
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, old)
    finish_due(world)
    assert world.submit(world.aggregators[2], old).code == "BadEpoch"


@pytest.mark.parametrize("again", [False, True])
def test_a_settlement_that_was_given_up_may_still_be_what_the_chain_applies(world: World, again: bool) -> None:
    """The client pays the escrow after all, and somebody sends the signatures that exist: the ledger follows."""
    first = waiting(world)
    bad = first.order_ids[1]
    world.sign_epoch()
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, denial(world, bad))
    finish_due(world)
    second = waiting(world)
    world.sign_epoch()
    if again:
        world.escrow(world.ledger.state.orders[bad].order)
    world.chain(settled(first))
    state = world.ledger.state
    assert state.confirmed.epoch == 1 and state.confirmed.root == first.settlement.root
    assert state.pending is None and not state.forgotten and not state.unsettled
    assert state.earned_grains == state.confirmed.total_grains == first.settlement.cumulative_total
    assert state.orders[bad].epoch == 1 and state.orders[bad].payouts
    world.ledger.book.audit()
    world.chain(settled(second))
    assert state.confirmed.epoch == 1, "the other settlement of the epoch means nothing any more"
    ended_orders(world, 1)
    finish_due(world)
    assert waiting(world).settlement.epoch == 2
    assert waiting(world).settlement.cumulative_total > first.settlement.cumulative_total


def test_a_set_of_liars_within_the_assumption_sets_nothing_apart() -> None:
    for n in (4, 7, 10):
        world = World(n)
        ended_orders(world, 1)
        finish_due(world)
        faulty = (n - 1) // 3
        for liar in world.aggregators[:faulty]:
            world.must(liar, denial(world, *waiting(world).order_ids))
        assert world.ledger.state.pending is not None
        world.sign_epoch()
        world.settle()
        assert world.ledger.state.confirmed.epoch == 1
