"""Orders and models whose files nobody else can get: to make others work for nothing, or to be the only one scored."""

from __future__ import annotations

import pytest

from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import HeldBlob
from pot_lab.protocol.transactions import AttestBlobs, Put
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, World, link


# --- an order --------------------------------------------------------------------------------------------------------
def placed(world: World, missing: str) -> bytes:
    """An order with money, one of whose files answers no aggregator."""
    world.lost = {link(missing)}
    order = world.new_order()
    world.must(world.client, Put(order))
    world.escrow(order)
    return order.id


@pytest.mark.parametrize("missing", ["graph", "weights", "train", "test"])
def test_an_order_with_a_file_that_is_nowhere_starts_for_nobody_and_costs_nobody(missing: str) -> None:
    world = new_world()
    order_id = placed(world, missing)
    order = world.order(order_id)
    assert order.window is Window.WAITING and not order.t0_ms
    assert world.claim(order_id, PROVIDERS[0], MODELS[0]).code == "TooEarly"
    world.wait(world.parameters.pool_ms)
    assert (order.window, order.void_reason) == (Window.VOID, VoidReason.NOT_IN_CUSTODY)
    assert {(payout.account, payout.grains) for payout in order.payouts} == {
        (world.client.address, grains)
        for grains in (order.order.reward_grains, order.order.fee_grains, order.order.bond_grains)
    }


def test_it_starts_with_the_attestation_that_makes_the_last_file_count() -> None:
    world = new_world()
    order_id = placed(world, "train")
    blob = next(each.blob for each in world.ledger.book.custody.of_order(order_id) if each.link == link("train"))
    world.must(world.aggregators[3], AttestBlobs((blob,)))
    assert world.order(order_id).window is Window.WAITING
    world.must(world.aggregators[2], AttestBlobs((blob,)))
    assert world.order(order_id).window is Window.COMMIT and world.order(order_id).t0_ms == world.now_ms


def test_a_restored_ledger_starts_it_with_the_same_attestation() -> None:
    world = new_world()
    order_id = placed(world, "train")
    blob = next(each.blob for each in world.ledger.book.custody.of_order(order_id) if each.link == link("train"))
    world.must(world.aggregators[3], AttestBlobs((blob,)))
    world.ledger.restore(world.ledger.snapshot())
    world.must(world.aggregators[2], AttestBlobs((blob,)))
    assert world.order(order_id).window is Window.COMMIT
    assert world.replayed().state.digest == world.ledger.state.digest


def test_did_custody_not_matter_providers_would_train_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_missing_files", lambda book, order: False)
    world = new_world()
    order_id = placed(world, "test")
    assert world.claim(order_id, PROVIDERS[0], MODELS[0]).accepted


# --- a model ---------------------------------------------------------------------------------------------------------
def secret_model(world: World) -> tuple[bytes, int]:
    """A provider reveals a model that only an accomplice can get, who alone scores it: order, and what the provider
    has lost.
    """
    order_id = bring_to(world, Window.REVEAL)  # where the first provider has not revealed
    world.lost = {link(MODELS[0])}
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.wait_for(order_id, Window.RELEASE)
    return order_id, world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER).slashed


def test_a_model_that_is_not_in_custody_when_the_reveals_end_costs_its_bond() -> None:
    world = new_world()
    order_id, lost = secret_model(world)
    order = world.order(order_id)
    assert set(order.claims) == {PROVIDERS[1].address} and lost == order.order.claim_bond_grains == POT
    assert [note.what for note in order.notes if note.account == PROVIDERS[0].address and not note.grains] == [
        "model not in custody"
    ]


def test_did_a_reveal_alone_count_a_hidden_model_would_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_is_shown", lambda book, order, claim: bool(claim.mid))
    world = new_world()
    order_id, lost = secret_model(world)
    assert PROVIDERS[0].address in world.order(order_id).claims and lost == 0


def test_the_reveals_end_when_all_models_are_in_custody() -> None:
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)
    world.keeps = False
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    assert world.order(order_id).window is Window.REVEAL
    world.keep()
    assert world.order(order_id).window is Window.RELEASE


# --- a transcript ----------------------------------------------------------------------------------------------------
def test_scores_are_open_when_their_transcripts_are_in_custody() -> None:
    world = new_world()
    order_id = bring_to(world, Window.OPEN_SCORES)
    world.ledger.state.custody.pop(HeldBlob(link("transcript").digest, link("transcript").size_bytes).key)
    world.keeps = False
    assert world.open_scores(order_id, VALIDATORS[0], SCORES).accepted
    assert world.order(order_id).window is Window.OPEN_SCORES
    world._kept_of = None  # type: ignore[assignment]
    world.keep()
    assert world.order(order_id).window is Window.CHALLENGE
