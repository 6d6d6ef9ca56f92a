"""How an order's end pays: by stake, by work, to the best claim, and never a grain more than the escrow."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec import structs

from pot_lab.crypto.identity import Identity
from pot_lab.errors import InvariantBroken
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders.sealing import direction_of, has_most_seats, is_available, winning_claim
from pot_lab.protocol.parameters import Direction, Role
from pot_lab.protocol.records import ClaimScore, ScoreSpec
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.test_chain_events import staked
from tests.protocol.world import PARAMETERS, POT, World, key

WINNER = {MODELS[1]: 95}


def to_scoring(world: World) -> bytes:
    """An order whose validators may commit and have not."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    assert world.order(order_id).window is Window.SCORE
    return order_id


def paid(world: World, order_id: bytes, reason: str) -> dict[bytes, int]:
    return {payout.account: payout.grains for payout in world.order(order_id).payouts if payout.reason == reason}


def test_validators_are_paid_by_the_seats_whose_scores_stand() -> None:
    world = new_world()
    order_id = to_scoring(world)
    whole, part = VALIDATORS[:3], VALIDATORS[3]
    for act in (world.commit_scores, world.open_scores):
        for validator in whole:
            assert act(order_id, validator, SCORES).accepted
        assert act(order_id, part, WINNER).accepted
        if act == world.commit_scores:
            world.wait_for(order_id, Window.OPEN_SCORES)
    world.wait_for(order_id, Window.FINALIZATION)
    order = world.order(order_id)
    share = order.order.reward_grains * world.parameters.validators_bp // 10_000
    seats = Counter(order.seats[0])
    paying = sum(seats[validator.address] for validator in whole)
    assert paying + seats[part.address] == 63 and seats[part.address] > 0
    assert paid(world, order_id, "validator") == {
        validator.address: share * seats[validator.address] // paying for validator in whole
    }, "who scores the winner alone is not paid"


def test_the_lock_is_one_for_the_order_however_many_models_it_has() -> None:
    world = new_world()
    order_id = to_scoring(world)
    lock = 25 * POT // 10
    assert world.order(order_id).lock_grains == lock
    locked = [world.ledger.book.stake(validator.address, Role.VALIDATOR).locked for validator in VALIDATORS]
    assert locked == [lock] * 4, "from the draw on"
    for validator in VALIDATORS:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    assert [world.ledger.book.stake(each.address, Role.VALIDATOR).locked for each in VALIDATORS] == [lock] * 4


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


def silent_and_others(world: World) -> tuple[bytes, list[Identity]]:
    """Three of seven validators, with less than half of the stake, left their seats silent; the three."""
    silent = [key(f"validator {i}") for i in range(4, 7)]
    for validator in silent:
        world.stake(validator, Role.VALIDATOR, 150 * POT)
    order_id = to_scoring(world)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, SCORES).accepted
        if act == world.commit_scores:
            world.wait_for(order_id, Window.OPEN_SCORES)
    world.wait_for(order_id, Window.CHALLENGE)
    return order_id, silent


def test_silent_seats_are_slashed_in_the_order_of_their_accounts() -> None:
    world = new_world()
    order_id, more = silent_and_others(world)
    slashed = [event for event in world.events if event.kind == "slashed"]
    absent = sorted(each.address for each in more)
    assert [event.account for event in slashed] == absent, "replicas would part by the order of a set"
    seats = Counter(world.order(order_id).seats[0])
    a_seat = 25 * POT * 1_500 // 10_000 // 63 * 2
    assert world.parameters.absence_grains(25 * POT) == a_seat, "twice what the seat would have earned"
    assert [event.detail["grains"] for event in slashed] == [a_seat * seats[account] for account in absent]
    assert {event.detail["why"] for event in slashed} == {"seat left silent"}
    assert [world.ledger.book.account(account).reputation.absences for account in absent] == [1] * 3
    assert [world.ledger.book.account(each.address).reputation.absences for each in VALIDATORS] == [0] * 4


def test_silence_costs_no_more_than_the_lock() -> None:
    world = new_world(structs.replace(PARAMETERS, absence_bp=10 * 10_000))
    order_id, more = silent_and_others(world)
    lock = 25 * POT // 10
    taken = {event.account: event.detail["grains"] for event in world.events if event.kind == "slashed"}
    seats = Counter(world.order(order_id).seats[0])
    owed = {each.address: seats[each.address] * world.parameters.absence_grains(25 * POT) for each in more}
    assert taken == {account: min(grains, lock) for account, grains in owed.items()}
    assert max(owed.values()) > lock


def test_a_committed_score_that_is_not_opened_costs_a_share_of_the_lock() -> None:
    world = new_world()
    order_id = to_scoring(world)
    for validator in VALIDATORS:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[1:]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    assert world.open_scores(order_id, VALIDATORS[0], WINNER).accepted, "one of the two"
    world.wait_for(order_id, Window.FINALIZATION)
    (event,) = [event for event in world.events if event.kind == "slashed"]
    assert (event.account, event.detail["why"]) == (VALIDATORS[0].address, "score not opened")
    assert event.detail["grains"] == 25 * POT // 10 // 2
    assert world.ledger.book.account(VALIDATORS[0].address).reputation.forfeits == 1
    assert VALIDATORS[0].address not in paid(world, order_id, "validator")


def test_both_penalties_together_cost_no_more_than_the_lock() -> None:
    world = new_world(structs.replace(PARAMETERS, absence_bp=10 * 10_000))
    order_id = to_scoring(world)
    for validator in VALIDATORS[1:]:
        assert world.commit_scores(order_id, validator, SCORES).accepted
    assert world.commit_scores(order_id, VALIDATORS[0], {MODELS[0]: 80}).accepted, "and never opened"
    world.wait_for(order_id, Window.OPEN_SCORES)
    for validator in VALIDATORS[1:]:
        assert world.open_scores(order_id, validator, SCORES).accepted
    world.wait_for(order_id, Window.CHALLENGE)
    stake = world.ledger.book.stake(VALIDATORS[0].address, Role.VALIDATOR)
    assert stake.slashed == world.order(order_id).lock_grains


@pytest.mark.parametrize(("held", "most"), [(0, False), (3, False), (4, True), (7, True)])
def test_most_seats_are_more_than_half_of_them(held: int, most: bool) -> None:
    for seats in (6, 7):
        world = new_world()
        order = world.order(bring_to(world, Window.SCORE))
        order.seats = [[b"a"] * min(held, seats) + [b"b"] * (seats - held)]
        claim = order.revealed()[0]
        assert has_most_seats(order, claim, {b"a"}) is most
        assert not is_available(order, claim, {b"a", b"c"}) and is_available(order, claim, {b"a", b"c", b"d"}) is most


def test_two_accounts_decide_nothing_however_many_seats_they_hold() -> None:
    world = new_world()
    for rich in VALIDATORS[:2]:
        world.chain(staked(2_000 * POT, 1, rich))
    order_id = to_scoring(world)
    for validator in VALIDATORS:
        if world.assigned(order_id, validator):
            assert world.commit_scores(order_id, validator, SCORES).accepted
    for rich in VALIDATORS[:2]:
        assert world.open_scores(order_id, rich, SCORES).accepted
    world.wait_for(order_id, Window.VOID)
    seats = world.order(order_id).seats[0]
    assert sum(seats.count(rich.address) for rich in VALIDATORS[:2]) > 42, "two thirds"
    assert world.order(order_id).void_reason == VoidReason.NO_QUORUM
