"""f aggregators together invent, change, withhold or repeat what happened on the chain."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Attest, Put, Register
from tests.protocol.scenes import bring_to, new_world
from tests.protocol.world import POT, World, key

MALLORY = key("mallory")


def staked(grains: int) -> ChainEvent:
    return ChainEvent(
        kind="staked",
        block=1,
        log_index=0,
        account=MALLORY.address,
        role=int(Role.PROVIDER),
        amount_grains=grains,
        subject=b"",
        detail=(grains,),
    )


@pytest.mark.parametrize("aggregators", [4, 7, 13])
def test_f_liars_make_no_money_however_they_try(aggregators: int) -> None:
    world = World(aggregators)
    liars = world.aggregators[: world.ledger.book.faulty]
    order = world.new_order()
    world.must(world.client, Put(order))
    detail = (order.fee_grains, order.bond_grains, order.seal_by_s, order.nonce)
    placed = ChainEvent(
        kind="order_placed",
        block=2,
        log_index=0,
        account=order.client,
        role=-1,
        amount_grains=order.reward_grains,
        subject=order.id,
        detail=detail,
    )
    for _ in range(3):
        for liar in liars:
            world.must(liar, Attest(0, (staked(10**6 * POT), placed)))
    assert world.ledger.state.deposited_grains == 0
    assert world.submit(MALLORY, Register(0)).code == "InsufficientStake"
    assert world.order(order.id).window == Window.WAITING


def test_liars_that_speak_first_do_not_keep_the_truth_out(world: World) -> None:
    first = world.ledger.state.next_chain_event
    world.must(world.aggregators[0], Attest(first, (staked(10**6 * POT),)))
    world.must(world.aggregators[1], Attest(first, (staked(POT),)))
    world.must(world.aggregators[2], Attest(first, (staked(POT),)))
    assert world.ledger.book.stake(MALLORY.address, Role.PROVIDER).bonded == POT


def test_liars_far_ahead_do_not_hold_up_or_colour_the_truth(world: World) -> None:
    first = world.ledger.state.next_chain_event
    world.must(world.aggregators[3], Attest(first + 5, (staked(10**6 * POT),) * 100))
    for _ in range(10):
        world.chain(staked(POT))
    assert world.ledger.book.stake(MALLORY.address, Role.PROVIDER).bonded == 10 * POT
    assert min(world.ledger.state.attestations) == first + 10


def test_f_that_withhold_their_attestations_stop_nothing() -> None:
    world = World(7)
    for aggregator in world.aggregators[world.ledger.book.faulty :][: world.ledger.book.faulty + 1]:
        world.must(aggregator, Attest(0, (staked(20 * POT),)))
    assert world.submit(MALLORY, Register(0)).accepted


def test_a_forged_refund_ends_no_order(world: World) -> None:
    order_id = bring_to(world, Window.SCORE)
    refund = ChainEvent(
        kind="order_refunded",
        block=9,
        log_index=0,
        account=world.client.address,
        role=-1,
        amount_grains=28 * POT,
        subject=order_id,
        detail=(),
    )
    world.must(world.aggregators[0], Attest(world.ledger.state.next_chain_event, (refund,)))
    assert world.order(order_id).window == Window.SCORE


def test_a_forged_settlement_settles_nothing(world: World) -> None:
    order_id = bring_to(world, Window.FINALIZATION)
    world.wait(world.parameters.update_ms)
    pending = world.ledger.state.pending
    assert pending is not None
    s = pending.settlement
    settled = ChainEvent(
        kind="settled",
        block=9,
        log_index=0,
        account=bytes(20),
        role=-1,
        amount_grains=s.cumulative_total,
        subject=s.root,
        detail=(s.epoch, s.round, 1),
    )
    world.must(world.aggregators[0], Attest(world.ledger.state.next_chain_event, (settled,)))
    assert world.order(order_id).window == Window.FINALIZATION and world.ledger.state.confirmed.epoch == 0


@pytest.mark.parametrize("change", [{"role": 99}, {"detail": ()}, {"account": b""}, {"kind": "gift"}])
def test_an_event_that_cannot_be_applied_never_enters_the_ledger(change: dict[str, object]) -> None:
    # Even from all: an honest aggregator cannot have read it from the contracts, and applying it could only fail.
    world = new_world()
    event = structs.replace(staked(POT), **change)
    first = world.ledger.state.next_chain_event
    for aggregator in world.aggregators:
        assert world.submit(aggregator, Attest(first, (event,))).code == "Malformed"
    world.chain(staked(POT))
    assert world.ledger.book.stake(MALLORY.address, Role.PROVIDER).bonded == POT


def test_junk_of_one_aggregator_is_bounded_in_memory(world: World) -> None:
    before = len(world.ledger.snapshot())
    for first in range(0, 8_000, 64):
        base = world.ledger.state.next_chain_event
        world.submit(world.aggregators[0], Attest(base + first, (staked(first),) * 64))
    assert len(world.ledger.state.attestations) == 4_096
    assert len(world.ledger.snapshot()) - before < 4_096 * 200
