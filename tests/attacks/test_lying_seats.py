"""Validators that lie about a model, hide what shows it, or win by challenges that are false or not their own."""

from __future__ import annotations

import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import disputes, scores, windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Verdict
from tests.protocol.scenes import MODELS, PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, World, key, link

JUNK, GOOD = PROVIDERS
RIGHT = {MODELS[0]: 5, MODELS[1]: 90}
"""What the junk and the good model really score."""
LIE = {MODELS[0]: 100, MODELS[1]: 1}


def scored(world: World, liars: int, *, hide: bool = False) -> bytes:
    """An order in CHALLENGE of which so many validators of four say the lie."""
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    said = [(each, LIE if place < liars else RIGHT) for place, each in enumerate(VALIDATORS)]
    for validator, what in said:
        assert world.commit_scores(order_id, validator, what).accepted
    shown, hidden = link("shown"), link("hidden")
    world.lost = {hidden}
    for validator, what in said:
        world.open_scores_at(order_id, validator, what, hidden if hide and what is LIE else shown)
    return order_id


def judge(world: World, order_id: bytes) -> None:
    """The aggregators run what is disputed again, and say what is true."""
    names = {world.mid(order_id, model): total for model, total in RIGHT.items()}
    for aggregator in world.aggregators[:2]:
        for dispute in list(world.order(order_id).disputes):
            if dispute.right is None and world.order(order_id).window is not Window.FINALIZATION:
                world.must(aggregator, Verdict(order_id, dispute.name, dispute.score.total == names[dispute.mid]))


def winner(world: World, order_id: bytes) -> bytes:
    while world.order(order_id).window not in (Window.FINALIZATION, Window.VOID):
        world.now_ms = max(world.now_ms, world.ledger.due_ms() or 0)
        world.batch()
    return world.order(order_id).winner


# --- all but one seat lie --------------------------------------------------------------------------------------------
def test_three_of_four_that_lie_lose_to_the_one_that_does_not() -> None:
    world = new_world()
    order_id = scored(world, 3)
    judge(world, order_id)
    assert winner(world, order_id) == GOOD.address
    lock = world.order(order_id).lock_grains
    assert [world.ledger.book.stake(each.address, Role.VALIDATOR).slashed for each in VALIDATORS] == [lock] * 3 + [0]


def test_by_a_quorum_of_seats_alone_the_lie_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "open_disputes", lambda book, order_id, order: None)
    world = new_world()
    assert winner(world, scored(world, 3)) == JUNK.address


# --- the liars hide what shows it ------------------------------------------------------------------------------------
def test_who_hides_its_transcript_counts_as_silent() -> None:
    world = new_world()
    order_id = scored(world, 3, hide=True)
    assert winner(world, order_id) == GOOD.address
    half = world.order(order_id).lock_grains // 2
    assert all(world.ledger.book.stake(each.address, Role.VALIDATOR).slashed == half for each in VALIDATORS[:3])


def test_were_hidden_transcripts_as_good_as_shown_ones_hiding_would_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "hide_unshown", lambda book, order: None)
    world = new_world()
    assert winner(world, scored(world, 3, hide=True)) == JUNK.address


# --- all seats lie ---------------------------------------------------------------------------------------------------
def cartel(world: World) -> tuple[bytes, bytes]:
    """All seats lie; the good model's provider challenges: order and winner."""
    order_id = scored(world, 4)
    for model, index in ((MODELS[0], 50), (MODELS[1], 50)):
        world.must(GOOD, world.challenge(order_id, GOOD, VALIDATORS[0], model, index))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    for model, index in ((MODELS[0], 50), (MODELS[1], 50)):
        world.must(GOOD, world.open_challenge(order_id, VALIDATORS[0], model, LIE[model], index))
    judge(world, order_id)
    return order_id, winner(world, order_id)


def test_a_lie_of_all_seats_wins_nothing_and_costs_every_lock() -> None:
    world = new_world()
    order_id, won = cartel(world)
    assert won == b""
    lock = world.order(order_id).lock_grains
    assert all(world.ledger.book.stake(each.address, Role.VALIDATOR).slashed == lock for each in VALIDATORS), (
        "once each"
    )
    paid = {payout.reason: payout for payout in world.order(order_id).payouts}
    assert paid["challenger"].account == GOOD.address
    assert paid["challenger"].grains == 25 * POT * 15 // 100, "each seat's pay once, though it lied about two models"


def test_without_verdicts_the_cartel_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "judged", lambda order, right: set())
    world = new_world()
    assert cartel(world)[1] == JUNK.address


# --- a lie that is paid elsewhere -------------------------------------------------------------------------------------
def test_who_lied_about_one_model_is_not_paid_for_the_others() -> None:
    world = new_world()
    order_id = scored(world, 1)
    judge(world, order_id)
    assert winner(world, order_id) == GOOD.address
    paid = {payout.account for payout in world.order(order_id).payouts}
    assert VALIDATORS[0].address not in paid and VALIDATORS[1].address in paid


# --- false and copied challenges --------------------------------------------------------------------------------------
def rival_challenges(world: World) -> int:
    """The worse provider calls right scores wrong, to delay or to win: what it has lost, in grains."""
    order_id = scored(world, 0)
    world.must(JUNK, world.challenge(order_id, JUNK, VALIDATORS[0], MODELS[1], 3))
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    world.must(JUNK, world.open_challenge(order_id, VALIDATORS[0], MODELS[1], 90, 3))
    for aggregator in world.aggregators[:2]:
        world.must(aggregator, Verdict(order_id, world.order(order_id).disputes[0].name, True))
    assert winner(world, order_id) == GOOD.address
    return world.ledger.book.stake(JUNK.address, Role.PROVIDER).slashed


def test_a_false_challenge_costs_its_bond() -> None:
    assert rival_challenges(new_world()) == 25 * POT // 20


def test_unless_lost_bonds_are_taken_delay_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpunished(self: Book, address: bytes, role: Role, grains: int, why: str, *_: object) -> None:
        assert why == "challenge lost", why

    monkeypatch.setattr(Book, "slash", unpunished)
    assert rival_challenges(new_world()) == 0


def copied(world: World, thief: Identity) -> str:
    """Somebody repeats a challenger's commitment, and opens it with what the challenger shows."""
    order_id = scored(world, 4)
    own = world.challenge(order_id, GOOD, VALIDATORS[0], MODELS[0], 50)
    world.must(GOOD, own)
    world.stake(thief, Role.PROVIDER)
    world.must(thief, own)
    world.wait_for(order_id, Window.OPEN_CHALLENGES)
    return world.submit(thief, world.open_challenge(order_id, VALIDATORS[0], MODELS[0], 100, 50)).code


def test_a_copied_commitment_opens_for_nobody_else() -> None:
    assert copied(new_world(), key("thief")) == "BadCommitment"


def test_did_commitments_not_bind_the_account_copies_would_open(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = disputes.challenge_commitment

    def unbound(network_id: bytes, order_id: bytes, account: bytes, vid: bytes, index: int, salt: bytes) -> bytes:
        return bound(network_id, order_id, GOOD.address, vid, index, salt)

    monkeypatch.setattr(disputes, "challenge_commitment", unbound)
    assert copied(new_world(), key("thief")) == ""


# --- two accomplices that differ on purpose -------------------------------------------------------------------------
def staged(world: World) -> bytes:
    """Only two accomplices get the junk's files. One calls it perfect, the other lies elsewhere, so that the first is
    right where they differ; the winner.
    """
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    first, second, *honest = VALIDATORS
    said = [(first, {MODELS[0]: 100}), (second, {MODELS[0]: 99}), *((each, {MODELS[1]: 90}) for each in honest)]
    order = world.order(order_id)
    for act in (world.commit_scores, world.open_scores):
        for validator, what in said:
            assert act(order_id, validator, what).accepted
        while act == world.commit_scores and order.window is Window.SCORE:
            world.wait(order.closes_ms - world.now_ms)
    if order.window is Window.CHALLENGE:
        for aggregator in world.aggregators[:2]:
            for dispute in list(order.disputes):
                world.must(aggregator, Verdict(order_id, dispute.name, dispute.score.total == 100))
    return winner(world, order_id)


def test_who_is_right_against_an_accomplice_only_proves_nothing() -> None:
    assert staged(new_world()) != JUNK.address


def test_did_any_survivor_stand_the_staged_dispute_would_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "is_available", lambda order, claim, accounts: True)
    assert staged(new_world()) == JUNK.address
