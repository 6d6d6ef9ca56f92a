"""Wrong scores: disputes that open by themselves, challenges, verdicts, what each costs and earns, how each ends."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders.disputes import CHALLENGES_PER_ACCOUNT
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent, ClaimScore, validation_id
from pot_lab.protocol.state import Dispute
from pot_lab.protocol.transactions import Verdict
from tests.protocol.scenes import LEAF, MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, finish, new_world, speech
from tests.protocol.world import PARAMETERS, POT, World, key, link

RIVAL = PROVIDERS[0]
"""Its model is the second best, unless the best one's score turns out to be false."""
BOND = 25 * POT // 20


def slashed(world: World, who: bytes, role: Role = Role.VALIDATOR) -> int:
    return world.ledger.book.stake(who, role).slashed


def verdicts(world: World, order_id: bytes, right: dict[int, bool], count: int = 2) -> None:
    """So many aggregators judge each open dispute by the total of its score."""
    for aggregator in world.aggregators[:count]:
        for dispute in list(world.order(order_id).disputes):
            if dispute.right is None and world.order(order_id).window not in (Window.FINALIZATION, Window.VOID):
                world.must(aggregator, Verdict(order_id, dispute.name, right[dispute.score.total]))


def differing(world: World, liars: int = 3, lie: int = 10) -> bytes:
    """An order in CHALLENGE whose best model some validators scored `lie`."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for place, validator in enumerate(VALIDATORS):
            scores = {**SCORES, MODELS[1]: lie} if place < liars else SCORES
            assert act(order_id, validator, scores).accepted
    assert world.order(order_id).window is Window.CHALLENGE
    return order_id


def unanimous_lie(world: World) -> bytes:
    """An order in CHALLENGE whose worse model all validators call perfect."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, {MODELS[0]: 80, MODELS[1]: 100}).accepted
    return order_id


def challenged(world: World, order_id: bytes, index: int = 99) -> None:
    world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], index))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(RIVAL, world.open_challenge(order_id, VALIDATORS[1], MODELS[1], 100, index))
    assert world.order(order_id).window is Window.JUDGE


# --- disputes that open by themselves ------------------------------------------------------------------------------
@pytest.mark.parametrize("liars", [1, 2, 3])
def test_where_scores_differ_a_single_honest_seat_is_enough(liars: int) -> None:
    world = new_world()
    order_id = differing(world, liars)
    order = world.order(order_id)
    assert sorted(each.score.total for each in order.disputes) == [10, 95]
    verdicts(world, order_id, {10: False, 95: True})
    world.wait_for(order_id, Window.FINALIZATION)
    assert order.winner == PROVIDERS[1].address
    for place, validator in enumerate(VALIDATORS):
        assert slashed(world, validator.address) == (order.lock_grains if place < liars else 0)
        wrong = world.ledger.state.accounts[validator.address].reputation.wrong_validations
        assert wrong == (1 if place < liars else 0)
    paid = {payout.account for payout in order.payouts if payout.reason == "validator"}
    assert paid == {validator.address for validator in VALIDATORS[liars:]}


def test_equal_scores_open_no_dispute() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    assert world.order(order_id).disputes == []
    assert world.submit(world.aggregators[0], Verdict(order_id, bytes(32), True)).code == "UnknownDispute"


def test_one_verdict_decides_nothing_and_each_aggregator_has_one() -> None:
    world = new_world()
    order_id = differing(world)
    dispute = world.order(order_id).disputes[0]
    world.must(world.aggregators[0], Verdict(order_id, dispute.name, False))
    assert world.submit(world.aggregators[0], Verdict(order_id, dispute.name, True)).code == "AlreadyDone"
    assert world.submit(key("stranger"), Verdict(order_id, dispute.name, True)).code == "NotAllowed"
    world.must(world.aggregators[1], Verdict(order_id, dispute.name, True))
    assert dispute.right is None
    world.must(world.aggregators[2], Verdict(order_id, dispute.name, True))
    assert dispute.right is True
    assert world.submit(world.aggregators[3], Verdict(order_id, dispute.name, True)).code == "UnknownDispute"


def test_without_verdicts_the_judge_window_opens_once_more_and_a_quorum_of_seats_decides() -> None:
    world = new_world()
    order_id = differing(world, liars=1)
    order = world.order(order_id)
    world.wait_for(order_id, Window.JUDGE)
    opened_ms = world.now_ms
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.now_ms == opened_ms + 2 * order.order.windows.judge_ms
    assert order.winner in {each.address for each in PROVIDERS}
    assert all(slashed(world, validator.address) == 0 for validator in VALIDATORS)


@pytest.mark.parametrize("judged", [True, False])
def test_judge_closes_when_the_last_dispute_is_decided(judged: bool) -> None:
    world = new_world()
    order_id = differing(world)
    world.wait_for(order_id, Window.JUDGE)
    before_ms = world.now_ms
    verdicts(world, order_id, {10: False, 95: True}, count=2 if judged else 1)
    assert (world.order(order_id).window is Window.FINALIZATION) is judged
    assert world.now_ms == before_ms


def test_a_liar_that_hides_its_transcript_loses_to_what_was_shown() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    shown, hidden = link("shown"), link("hidden")
    world.lost = {hidden}
    for validator in VALIDATORS:
        total = 10 if validator in VALIDATORS[:3] else 95
        assert world.commit_scores(order_id, validator, {MODELS[0]: 80, MODELS[1]: total}).accepted
    for validator in VALIDATORS:
        total, where = (10, hidden) if validator in VALIDATORS[:3] else (95, shown)
        world.open_scores_at(order_id, validator, {MODELS[0]: 80, MODELS[1]: total}, where)
    order = world.order(order_id)
    world.wait_for(order_id, Window.FINALIZATION)
    assert order.winner == PROVIDERS[1].address
    lost = [slashed(world, validator.address) for validator in VALIDATORS]
    assert lost == [order.lock_grains // 2] * 3 + [0]


# --- challenges ------------------------------------------------------------------------------------------------------
def test_a_rival_overturns_what_all_seats_agree_on_and_is_paid_for_it() -> None:
    world = new_world()
    order_id = unanimous_lie(world)
    challenged(world, order_id)
    order = world.order(order_id)
    assert world.ledger.book.stake(RIVAL.address, Role.PROVIDER).locked == BOND + POT
    verdicts(world, order_id, {100: False})
    assert order.window is Window.FINALIZATION and order.winner == RIVAL.address
    assert all(slashed(world, each.address) == order.lock_grains for each in VALIDATORS)
    assert slashed(world, RIVAL.address, Role.PROVIDER) == 0
    reasons = {payout.reason: payout for payout in order.payouts}
    assert reasons["challenger"].account == RIVAL.address
    assert reasons["challenger"].grains == 25 * POT * 15 // 100, "all that the liars would have had"
    assert "validator" not in reasons
    assert world.ledger.book.stake(RIVAL.address, Role.PROVIDER).locked == 0


def test_a_lie_about_the_only_model_voids_the_order_and_pays_the_challenger() -> None:
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)
    world.wait_for(order_id, Window.RELEASE)
    world.release(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            assert act(order_id, validator, {MODELS[1]: 100}).accepted
    world.stake(key("watcher"), Role.VERIFIER)
    watcher, order = key("watcher"), world.order(order_id)
    world.must(watcher, world.challenge(order_id, watcher, VALIDATORS[2], MODELS[1], 50, Role.VERIFIER))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(watcher, world.open_challenge(order_id, VALIDATORS[2], MODELS[1], 100, 50))
    verdicts(world, order_id, {100: False})
    assert (order.window, order.void_reason) == (Window.VOID, "no quorum of validations")
    paid = {payout.reason: payout.grains for payout in order.payouts}
    assert paid["challenger"] == 25 * POT * 15 // 100
    assert paid["reward back"] == 25 * POT - paid["challenger"]
    assert "validation fee" not in paid, "nobody is paid for a lie"


def test_a_false_challenge_costs_its_bond_and_changes_nothing() -> None:
    world = new_world()
    order_id = bring_to(world, Window.JUDGE)
    order = world.order(order_id)
    for aggregator in (world.aggregators[0], world.aggregators[2]):
        world.must(aggregator, Verdict(order_id, order.disputes[0].name, True))
    assert order.window is Window.FINALIZATION and order.winner == PROVIDERS[1].address
    assert slashed(world, RIVAL.address, Role.PROVIDER) == BOND
    assert all(slashed(world, validator.address) == 0 for validator in VALIDATORS)
    assert "challenger" not in {payout.reason for payout in order.payouts}


def test_a_challenge_that_is_not_opened_costs_its_bond() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    world.must(*speech(world, order_id, "challenge"))
    world.wait_for(order_id, Window.FINALIZATION)
    assert slashed(world, RIVAL.address, Role.PROVIDER) == BOND


def test_a_challenge_that_nobody_judges_gets_its_bond_back() -> None:
    world = new_world()
    order_id = bring_to(world, Window.JUDGE)
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.order(order_id).judged_twice
    assert slashed(world, RIVAL.address, Role.PROVIDER) == 0
    assert world.ledger.book.stake(RIVAL.address, Role.PROVIDER).locked == 0


def test_an_order_that_is_refunded_on_the_chain_frees_its_challenges() -> None:
    world = new_world()
    order_id = bring_to(world, Window.JUDGE)
    world.chain(
        ChainEvent(
            kind="order_refunded",
            block=3,
            log_index=0,
            account=world.client.address,
            role=-1,
            amount_grains=0,
            subject=order_id,
            detail=(),
        )
    )
    assert world.order(order_id).window is Window.VOID
    assert world.ledger.book.stake(RIVAL.address, Role.PROVIDER).locked == 0


def test_what_one_challenger_proved_another_is_not_paid_for() -> None:
    world = new_world()
    order_id = unanimous_lie(world)
    world.stake(key("late"), Role.VERIFIER)
    late = key("late")
    world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], 99))
    world.must(late, world.challenge(order_id, late, VALIDATORS[2], MODELS[1], 98, Role.VERIFIER))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(late, world.open_challenge(order_id, VALIDATORS[2], MODELS[1], 100, 98))
    world.must(RIVAL, world.open_challenge(order_id, VALIDATORS[1], MODELS[1], 100, 99))
    verdicts(world, order_id, {100: False})
    order = world.order(order_id)
    assert [payout.account for payout in order.payouts if payout.reason == "challenger"] == [RIVAL.address]
    assert slashed(world, late.address, Role.VERIFIER) == 0
    assert all(slashed(world, each.address) == order.lock_grains for each in VALIDATORS), "once, not for each challenge"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"salt": b"\x01" * 32}, "BadCommitment"),
        ({"leaf": 0}, "BadCommitment"),
        ({"leaves_total": 94}, "BadCommitment"),
        ({"validator": VALIDATORS[2].address}, "BadCommitment"),
        ({"mid": b"\x05" * 32}, "BadCommitment"),
    ],
)
def test_only_what_was_committed_to_and_is_under_the_root_is_opened(change: dict[str, object], code: str) -> None:
    world = new_world()
    order_id = bring_to(world, Window.OPEN_CHALLENGES)
    who, body = speech(world, order_id, "open_challenge")
    assert world.submit(who, structs.replace(body, **change)).code == code
    proof = structs.replace(body.proof, index=100)  # type: ignore[attr-defined]
    assert world.submit(who, structs.replace(body, proof=proof)).code == "BadCommitment"
    world.must(who, body)


def test_a_challenge_is_opened_once() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    for index in (LEAF, LEAF + 1):
        world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], index))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    shown = world.open_challenge(order_id, VALIDATORS[1], MODELS[1], 95, LEAF)
    world.must(RIVAL, shown)
    assert world.submit(RIVAL, shown).code == "AlreadyDone"
    assert len(world.order(order_id).disputes) == 1


def test_nobody_opens_what_another_committed_to() -> None:
    world = new_world()
    order_id = bring_to(world, Window.OPEN_CHALLENGES)
    _, body = speech(world, order_id, "open_challenge")
    assert world.submit(PROVIDERS[1], body).code == "BadCommitment"


def test_a_validator_that_opened_nothing_cannot_be_challenged() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    world.must(RIVAL, world.challenge(order_id, RIVAL, key("nobody"), MODELS[1], LEAF))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    body = world.open_challenge(order_id, key("nobody"), MODELS[1], 95, LEAF)
    assert world.submit(RIVAL, body).code == "UnknownClaim"


def test_challenges_cost_free_stake_and_have_a_bound() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    stranger = key("stranger")
    assert (
        world.submit(stranger, world.challenge(order_id, stranger, VALIDATORS[1], MODELS[1], 1)).code
        == "InsufficientStake"
    )
    first = world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], 0)
    assert world.submit(RIVAL, structs.replace(first, role=int(Role.AGGREGATOR))).code == "Malformed"
    world.must(RIVAL, first)
    assert world.submit(RIVAL, first).code == "AlreadyDone"
    for index in range(1, CHALLENGES_PER_ACCOUNT):
        world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], index))
    last = world.challenge(order_id, RIVAL, VALIDATORS[1], MODELS[1], 50)
    assert world.submit(RIVAL, last).code == "TooManyChallenges"


def test_who_has_a_part_in_the_order_does_not_judge_it() -> None:
    world = new_world()
    first = world.aggregators[0]
    world.stake(first, Role.PROVIDER)
    order_id = unanimous_lie(world)
    world.must(first, world.challenge(order_id, first, VALIDATORS[1], MODELS[1], 99))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(first, world.open_challenge(order_id, VALIDATORS[1], MODELS[1], 100, 99))
    name = world.order(order_id).disputes[0].name
    assert world.submit(first, Verdict(order_id, name, False)).code == "NotAllowed"


def test_a_leaf_that_is_right_does_not_prove_a_whole_score() -> None:
    """A liar challenges its own lie at a right example, for a verdict in its favour."""
    world = new_world()
    order_id = differing(world, liars=1, lie=100)
    world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[0], MODELS[1], 3))
    for aggregator in world.aggregators[:2]:
        for dispute in world.order(order_id).disputes:
            world.must(aggregator, Verdict(order_id, dispute.name, dispute.score.total == 95))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(RIVAL, world.open_challenge(order_id, VALIDATORS[0], MODELS[1], 100, 3))
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, Verdict(order_id, world.order(order_id).disputes[-1].name, True))
    order = world.order(order_id)
    claim = order.claims[PROVIDERS[1].address]
    assert claim.agreed == ClaimScore(95, 100, True)
    assert slashed(world, VALIDATORS[0].address) == order.lock_grains


def test_a_right_leaf_decides_nothing_between_scores_that_nobody_judged() -> None:
    world = new_world()
    order_id = differing(world, liars=1, lie=100)
    world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[0], MODELS[1], 3))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(RIVAL, world.open_challenge(order_id, VALIDATORS[0], MODELS[1], 100, 3))
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, Verdict(order_id, world.order(order_id).disputes[-1].name, True))
    world.wait_for(order_id, Window.FINALIZATION)
    assert world.order(order_id).claims[PROVIDERS[1].address].agreed != ClaimScore(100, 100, True)


def test_every_order_with_disputes_ends_and_a_replay_agrees() -> None:
    world = new_world()
    order_id = differing(world)
    world.must(RIVAL, world.challenge(order_id, RIVAL, VALIDATORS[3], MODELS[1], 99))
    finish(world)
    assert world.order(order_id).window in (Window.SETTLED, Window.VOID)
    assert world.replayed().snapshot() == world.ledger.snapshot()
    for who, role in [(RIVAL, Role.PROVIDER), *((each, Role.VALIDATOR) for each in VALIDATORS)]:
        assert world.ledger.book.stake(who.address, role).locked == 0


def test_validations_of_different_accounts_and_models_have_different_ids() -> None:
    world = new_world()
    order_id = bring_to(world, Window.CHALLENGE)
    ids = {
        validation_id(world.network_id, order_id, world.mid(order_id, model), validator.address)
        for model in MODELS
        for validator in VALIDATORS
    }
    assert len(ids) == len(MODELS) * len(VALIDATORS)
    assert Dispute(name=b"", mid=b"", score=ClaimScore(1, 1, True), root=b"").right is None
    assert PARAMETERS.challenge_bond_grains(25 * POT) == BOND
