"""Signatures of old epochs and rounds, settlements that are confirmed twice, and honest signers framed as liars."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.settlement import Settlement, settlement_digest
from pot_lab.protocol.transactions import SignEpoch
from tests.protocol.scenes import bring_to
from tests.protocol.test_epochs import ended_orders, finish_due, pending, signature
from tests.protocol.world import POT, World


def signatures(world: World) -> dict[bytes, bytes]:
    assert world.ledger.state.pending is not None
    return world.ledger.state.pending.signatures


def test_a_signature_of_an_old_round_is_worth_nothing_in_the_new_one(world: World) -> None:
    ended_orders(world, 1)
    finish_due(world)
    old = signature(world, world.aggregators[0])
    world.wait(world.parameters.settlement_timeout_ms)
    assert pending(world).round == 2
    assert world.submit(world.aggregators[0], old).code == "BadEpoch"
    assert world.submit(world.aggregators[0], SignEpoch(1, 2, old.signature)).code == "BadEpoch"
    assert not signatures(world)


def test_a_signature_of_an_old_epoch_is_worth_nothing_in_the_next(world: World) -> None:
    ended_orders(world, 1)
    finish_due(world)
    old = signature(world, world.aggregators[0])
    world.settle()
    ended_orders(world, 1)
    finish_due(world)
    assert pending(world).epoch == 2
    assert world.submit(world.aggregators[0], old).code == "BadEpoch"
    assert world.submit(world.aggregators[0], SignEpoch(2, 1, old.signature)).code == "BadEpoch"


def test_a_signature_for_another_contract_or_chain_is_worth_nothing(world: World) -> None:
    ended_orders(world, 1)
    finish_due(world)
    one, settlement = world.aggregators[0], pending(world)
    for chain_id, contract in ((1, world.genesis.settlement_contract), (world.genesis.chain_id, b"\x09" * 20)):
        signed = one.sign(settlement_digest(chain_id, contract, settlement))
        assert world.submit(one, SignEpoch(1, 1, signed)).code == "BadEpoch"


def test_f_signatures_and_copies_of_them_make_no_quorum(world: World) -> None:
    ended_orders(world, 1)
    finish_due(world)
    liar = world.aggregators[0]
    theirs = signature(world, liar)
    world.must(liar, theirs)
    for other in world.aggregators[1:]:
        assert world.submit(other, theirs).code == "BadEpoch"
    assert list(signatures(world)) == [liar.address]
    assert not any(event.kind == "epoch_signed" for event in world.events)


def test_an_order_is_paid_once_however_often_its_settlement_is_confirmed(world: World) -> None:
    order_id = bring_to(world, Window.FINALIZATION)
    world.wait(world.parameters.update_ms)
    s = pending(world)
    earned = world.ledger.state.earned_grains
    for log_index in range(3):
        detail = (s.epoch, s.round, s.signer_set_id)
        world.chain(
            ChainEvent(
                kind="settled",
                block=9,
                log_index=log_index,
                account=bytes(20),
                role=-1,
                amount_grains=s.cumulative_total,
                subject=s.root,
                detail=detail,
            )
        )
    state = world.ledger.state
    assert state.earned_grains == earned == state.confirmed.total_grains and not state.unsettled
    assert world.order(order_id).window == Window.SETTLED
    world.wait(10 * world.parameters.update_ms)
    assert state.pending is None, "nothing is left to settle again"


def test_a_client_that_takes_its_escrow_back_cannot_frame_the_signers(world: World) -> None:
    # The contract punishes two signatures of one key for two settlements of one (epoch, round). A client that refunds
    # an order while its epoch waits makes the ledger change that epoch, so the change must have a round of its own.
    refunded, kept = ended_orders(world, 2)
    finish_due(world)
    signed: dict[tuple[int, int, bytes], Settlement] = {}
    for _ in range(3):
        settlement = pending(world)
        for aggregator in world.aggregators:
            world.must(aggregator, signature(world, aggregator))
            name = (settlement.epoch, settlement.round, aggregator.address)
            assert signed.setdefault(name, settlement) == settlement
        if refunded:
            world.chain(
                ChainEvent(
                    kind="order_refunded",
                    block=9,
                    log_index=0,
                    account=world.client.address,
                    role=-1,
                    amount_grains=28 * POT,
                    subject=refunded,
                    detail=(),
                )
            )
            refunded = b""
            finish_due(world)
    assert len(signed) == 2 * len(world.aggregators)
    assert world.ledger.state.pending is not None and world.ledger.state.pending.order_ids == [kept]
