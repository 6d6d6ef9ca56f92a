"""A thief copies another's model when it is revealed, or its commitment before that; neither wins anything."""

from __future__ import annotations

from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Claim
from tests.protocol.scenes import MODELS, PROVIDERS, bring_to
from tests.protocol.world import POT, World, key, link, salt

THIEF = key("thief")


def test_a_model_seen_at_its_reveal_cannot_be_claimed_any_more(world: World) -> None:
    world.stake(THIEF, Role.PROVIDER)
    order_id = bring_to(world, Window.REVEAL)
    assert world.claim(order_id, THIEF, MODELS[1]).code == "TooLate"
    assert world.reveal(order_id, THIEF, MODELS[1]).code == "UnknownClaim"


def test_a_thief_that_kept_a_claim_of_its_own_cannot_open_it_as_the_stolen_model(world: World) -> None:
    world.stake(THIEF, Role.PROVIDER)
    order_id = bring_to(world, Window.COMMIT)
    assert world.claim(order_id, THIEF, "rubbish").accepted
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[1], MODELS[1]).accepted
    assert world.reveal(order_id, THIEF, MODELS[1]).code == "BadCommitment"


def test_a_copied_commitment_opens_for_nobody_else_and_costs_its_bond(world: World) -> None:
    world.stake(THIEF, Role.PROVIDER)
    order_id = bring_to(world, Window.COMMIT)
    copied = world.order(order_id).claims[PROVIDERS[1].address].commitment
    world.must(THIEF, Claim(order_id, copied))
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[1], MODELS[1]).accepted
    assert world.reveal(order_id, THIEF, MODELS[1]).code == "BadCommitment"
    world.wait_for(order_id, Window.RELEASE)
    assert THIEF.address not in world.order(order_id).claims
    stake = world.ledger.book.stake(THIEF.address, Role.PROVIDER)
    assert (stake.slashed, stake.locked) == (POT, 0)


def test_a_commitment_made_for_one_order_opens_in_no_other(world: World) -> None:
    first = bring_to(world, Window.COMMIT)
    commitment = world.order(first).claims[PROVIDERS[1].address].commitment
    second = bring_to(world, Window.COMMIT, claimed=False)
    world.must(PROVIDERS[1], Claim(second, commitment))
    world.wait_for(second, Window.REVEAL)
    assert world.reveal(second, PROVIDERS[1], MODELS[1]).code == "BadCommitment"


def test_the_same_weights_under_another_graph_are_not_the_committed_model(world: World) -> None:
    # The model's id binds the order's own graph, so a commitment to some other id cannot be kept.
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    # It is revealed sealed; when it is opened, the aggregators see that it is none of this order's models.
    own = PROVIDERS[0]
    model = world.seal(order_id, own, b"\x77" * 32, link("x"), bytes(32), salt("x"))
    world.must(own, world.claim_of(order_id, own, model))
    world.wait_for(order_id, Window.REVEAL)
    world.must(own, world.reveal_of(order_id, model))
    world.release(order_id, count=3)
    world.judge(order_id)
    world.open_models(order_id)
    world.judge(order_id, model.mid, right=False)
    assert world.order(order_id).void_reason is VoidReason.NOTHING_REVEALED
    assert world.ledger.book.stake(own.address, Role.PROVIDER).slashed == POT


def test_of_two_claims_to_one_model_the_earlier_keeps_it(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    for provider in PROVIDERS:
        assert world.claim(order_id, provider, "same").accepted
    world.wait_for(order_id, Window.REVEAL)
    for provider in reversed(PROVIDERS):
        assert world.reveal(order_id, provider, "same").accepted
    assert list(world.order(order_id).claims) == [PROVIDERS[0].address]
    assert world.ledger.book.stake(PROVIDERS[1].address, Role.PROVIDER).locked == 0
