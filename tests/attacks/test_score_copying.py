"""A validator that scores nothing copies what others committed or opened."""

from __future__ import annotations

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, validation_commitment
from pot_lab.protocol.transactions import CommitScores, ScoreCommitment
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to
from tests.protocol.test_chain_events import staked
from tests.protocol.world import POT, World, salt

LAZY, HONEST = VALIDATORS[0], VALIDATORS[1]


def test_a_copied_commitment_does_not_open_and_costs_stake(world: World) -> None:
    order_id = bring_to(world, Window.SCORE)
    copied = tuple(
        ScoreCommitment(v.mid, v.commitment) for v in world.order(order_id).validations if v.validator == HONEST.address
    )
    world.must(LAZY, CommitScores(order_id, copied))
    assert world.order(order_id).window == Window.OPEN_SCORES
    for validator in VALIDATORS[1:]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    assert world.open_scores(order_id, LAZY, SCORES).code == "BadCommitment"
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.ledger.book.stake(LAZY.address, Role.VALIDATOR).slashed == 25 * POT // 20
    assert LAZY.address not in {payout.account for payout in world.order(order_id).payouts}


def test_after_scores_are_open_nobody_commits(world: World) -> None:
    order_id = bring_to(world, Window.SCORE)
    world.wait_for(order_id, Window.OPEN_SCORES)
    assert world.open_scores(order_id, HONEST, SCORES).accepted
    assert world.commit_scores(order_id, LAZY, SCORES).code == "TooLate"


def with_a_high_baseline(world: World) -> bytes:
    """An order of 99 in 100, and one model to be scored."""
    order_id, _ = world.start(baseline_total=99, baseline_count=100)
    assert world.claim(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.wait_for(order_id, Window.REVEAL)
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).accepted
    world.release(order_id)
    return order_id


def test_scores_are_opened_only_when_nobody_can_commit_any_more(world: World) -> None:
    """Once, scores were open in the window that an extension opened again, and could be copied there."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for validator in VALIDATORS[1:3]:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    world.wait(world.order(order_id).closes_ms - world.now_ms)
    assert world.order(order_id).extended and world.order(order_id).window == Window.SCORE
    assert world.open_scores(order_id, HONEST, SCORES).code == "TooEarly"
    for validator in (LAZY, VALIDATORS[3]):
        assert world.commit_scores(order_id, validator, SCORES).accepted
    assert world.order(order_id).window == Window.OPEN_SCORES
    for validator in VALIDATORS:
        assert world.open_scores(order_id, validator, SCORES).accepted
    assert world.commit_scores(order_id, LAZY, SCORES).code == "TooLate"
    world.wait_for(order_id, Window.FINALIZATION)
    paid = {p.account for p in world.order(order_id).payouts if p.reason == "validator"}
    assert paid == {validator.address for validator in VALIDATORS}


def test_a_score_of_few_values_cannot_be_guessed_from_its_commitment(world: World) -> None:
    order_id = bring_to(world, Window.SCORE)
    validation = world.order(order_id).validations[0]
    opened = world.opened(order_id, HONEST, "model 0", SCORES["model 0"])
    right = validation_commitment(
        world.network_id, order_id, opened.mid, HONEST.address, opened.score, opened.transcript_root,
        opened.salt,
    )  # fmt: skip
    assert right in {v.commitment for v in world.order(order_id).validations}
    guesses = {
        validation_commitment(
            world.network_id,
            order_id,
            opened.mid,
            HONEST.address,
            ClaimScore(total, 100, True),
            opened.transcript_root,
            guess,
        )
        for total in range(101)
        for guess in (bytes(32), validation.mid, salt("another"))
    }  # fmt: skip
    assert right not in guesses, "the salt is 256 bits, so knowing everything else does not help"


def test_a_validator_that_was_not_drawn_is_not_paid(world: World) -> None:
    order_id = bring_to(world, Window.OPEN_SCORES)
    outsider = world.client
    assert world.open_scores(order_id, outsider, SCORES).code == "UnknownClaim"


def test_a_minority_of_liars_changes_no_score_and_is_not_paid(world: World) -> None:
    for validator in VALIDATORS[1:]:  # so that the liar holds fewer than a third of the seats
        world.chain(staked(400 * POT, 1, validator))
    order_id = bring_to(world, Window.SCORE)
    lie = dict.fromkeys(SCORES, 100)
    assert world.commit_scores(order_id, LAZY, lie).accepted
    for validator in VALIDATORS[1:]:
        world.open_scores(order_id, validator, SCORES)
    assert world.open_scores(order_id, LAZY, lie).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    order = world.order(order_id)
    assert {claim.agreed.total for claim in order.claims.values() if claim.agreed} == set(SCORES.values())
    assert LAZY.address not in {payout.account for payout in order.payouts}


def test_a_liar_is_not_paid_from_the_fee_of_an_order_without_improvement(world: World) -> None:
    for validator in VALIDATORS[1:]:
        world.chain(staked(400 * POT, 1, validator))
    order_id = with_a_high_baseline(world)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, {MODELS[0]: 100 if validator is LAZY else 80}).accepted
    world.wait_for(order_id, Window.VOID)
    fees = {
        payout.account: payout.grains for payout in world.order(order_id).payouts if payout.reason == "validation fee"
    }
    assert fees == {validator.address: POT // 3 for validator in VALIDATORS[1:]}
