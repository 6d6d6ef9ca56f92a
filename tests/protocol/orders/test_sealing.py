"""How an order's end pays: by stake, by work, to the best claim, and never a grain more than the escrow."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.errors import InvariantBroken
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders.sealing import direction_of, winning_claim
from pot_lab.protocol.parameters import Direction, Role
from pot_lab.protocol.records import ClaimScore, ScoreSpec
from pot_lab.protocol.transactions import CommitScores, OpenScores, ScoreCommitment
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, World, key

STAKES = [POT, 2 * POT, 3 * POT, 9 * POT]
WINNER = {MODELS[1]: 95}


def to_scoring(world: World) -> bytes:
    """An order whose validators may commit and have not."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    assert world.order(order_id).window is Window.SCORE
    return order_id


def paid(world: World, order_id: bytes, reason: str) -> dict[bytes, int]:
    return {payout.account: payout.grains for payout in world.order(order_id).payouts if payout.reason == reason}


def test_validators_of_the_winner_are_paid_by_the_stake_that_they_put_on_it() -> None:
    world = new_world()
    order_id = to_scoring(world)
    for validator, stake in zip(VALIDATORS, STAKES, strict=True):
        assert world.commit_scores(order_id, validator, WINNER, stake_grains=stake).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator, stake in zip(VALIDATORS, STAKES, strict=True):
        assert world.open_scores(order_id, validator, WINNER, stake_grains=stake).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    share = world.order(order_id).order.reward_grains * world.parameters.validators_bp // 10_000
    assert paid(world, order_id, "validator") == {
        validator.address: share * stake // sum(STAKES) for validator, stake in zip(VALIDATORS, STAKES, strict=True)
    }


def test_validations_of_other_models_are_paid_from_the_fee_by_their_number() -> None:
    world = new_world()
    order_id = to_scoring(world)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, SCORES).accepted
        world.wait_for(order_id, Window.OPEN_SCORES if act == world.commit_scores else Window.FINALIZATION)
    fee = world.order(order_id).order.fee_grains
    assert paid(world, order_id, "validation fee") == {validator.address: fee // 4 for validator in VALIDATORS}
    counts = [world.ledger.book.account(validator.address).reputation.agreeing_validations for validator in VALIDATORS]
    assert counts == [2, 2, 2, 2]
    provider = world.ledger.book.account(PROVIDERS[1].address).reputation
    other = world.ledger.book.account(PROVIDERS[0].address).reputation
    assert (provider.wins, provider.claims, other.wins, other.claims) == (1, 1, 0, 1)


@pytest.mark.parametrize(("count", "accepted"), [(-1, False), (0, False), (1, True)])
def test_a_score_that_counts_no_example_is_refused(count: int, accepted: bool) -> None:
    world = new_world()
    order_id = to_scoring(world)
    validator = VALIDATORS[0]
    opened = structs.replace(world.opened(order_id, validator, MODELS[1], 1), score=ClaimScore(1, count, True))
    commitment = world.commitment(order_id, validator, opened)
    assert world.submit(validator, CommitScores(order_id, (ScoreCommitment(opened.mid, commitment),))).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    reply = world.submit(validator, OpenScores(order_id, (opened,)))
    assert reply.accepted is accepted
    if not accepted:
        assert (reply.code, reply.seen) == ("BadCommitment", str(count))


@pytest.mark.parametrize(
    ("scores", "winner"),
    [
        ([ClaimScore(80, 100, True), ClaimScore(95, 100, True)], 1),
        ([ClaimScore(95, 100, True), ClaimScore(80, 100, True)], 0),
        ([ClaimScore(19, 20, True), ClaimScore(95, 100, True)], 0),  # a tie stays with the earlier commitment
        ([ClaimScore(99, 100, False), ClaimScore(51, 100, True)], 1),
        ([None, ClaimScore(51, 100, True)], 1),
        ([ClaimScore(51, 100, True), None], 0),
        ([ClaimScore(50, 100, True), None], None),  # no better than the baseline
        ([ClaimScore(99, 100, False), None], None),
        ([None, None], None),
    ],
)
def test_the_best_agreed_and_valid_score_above_the_baseline_wins(
    scores: list[ClaimScore | None], winner: int | None
) -> None:
    world = new_world()
    order = world.order(bring_to(world, Window.CHALLENGE))
    order.order = structs.replace(order.order, baseline_total=1, baseline_count=2)
    for claim, score in zip(sorted(order.claims.values(), key=lambda claim: claim.place), scores, strict=True):
        claim.agreed = score
    best = winning_claim(order)
    places = {claim.place: claim for claim in order.claims.values()}
    assert best is (None if winner is None else places[sorted(places)[winner]])


def test_a_lower_loss_wins() -> None:
    world = new_world()
    order = world.order(bring_to(world, Window.CHALLENGE))
    order.order = structs.replace(order.order, score=ScoreSpec("cross_entropy", 1))
    assert direction_of(order) is Direction.LOWER
    best = winning_claim(order)
    assert best is not None and best.agreed == ClaimScore(80, 100, True)


def test_an_order_whose_score_function_is_unknown_breaks_an_invariant() -> None:
    world = new_world()
    order = world.order(bring_to(world, Window.CHALLENGE))
    order.order = structs.replace(order.order, score=ScoreSpec("accuracy", 99))
    with pytest.raises(InvariantBroken, match="unknown score function"):
        direction_of(order)


def test_absent_validators_are_slashed_in_the_order_of_their_accounts() -> None:
    world = new_world()
    more = [key(f"validator {i}") for i in range(4, 8)]
    for validator in more:
        world.stake(validator, Role.VALIDATOR)
    order_id = to_scoring(world)
    mid = world.mid(order_id, MODELS[1])
    assigned = [each for each in (*VALIDATORS, *more) if mid in world.assigned(order_id, each)]
    assert len(assigned) == world.parameters.validators_per_model == 7
    assert world.commit_scores(order_id, assigned[0], WINNER).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    assert world.open_scores(order_id, assigned[0], WINNER).accepted
    world.wait_for(order_id, Window.VOID)
    slashed = [event for event in world.events if event.kind == "slashed"]
    absent = sorted(each.address for each in assigned[1:])
    assert [event.account for event in slashed] == absent, "replicas would part by the order of a set"
    stake = 200 * POT
    assert {event.detail["grains"] for event in slashed} == {stake * world.parameters.absence_bp // 10_000}
    assert {event.detail["why"] for event in slashed} == {"assignment missed"}
    counts = [world.ledger.book.account(account).reputation.absences for account in absent]
    assert counts == [1] * 6 and world.ledger.book.account(assigned[0].address).reputation.absences == 0


def test_a_committed_score_that_is_not_opened_costs_a_share_of_the_stake_on_it() -> None:
    world = new_world()
    order_id = to_scoring(world)
    for validator in VALIDATORS:
        assert world.commit_scores(order_id, validator, WINNER).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[1:]:
        assert world.open_scores(order_id, validator, WINNER).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    (event,) = [event for event in world.events if event.kind == "slashed"]
    assert (event.account, event.detail["why"]) == (VALIDATORS[0].address, "score not opened")
    assert event.detail["grains"] == POT * world.parameters.unopened_bp // 10_000
    assert world.ledger.book.account(VALIDATORS[0].address).reputation.forfeits == 1
    assert VALIDATORS[0].address not in paid(world, order_id, "validator")
