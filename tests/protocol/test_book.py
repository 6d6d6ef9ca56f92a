"""The book's primitive moves: what they add up to, and that a mistake in a rule stops the replica."""

from __future__ import annotations

import pytest

from pot_lab.errors import InvariantBroken
from pot_lab.protocol.book import MAX_INSIDE_GRAINS, Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import InsufficientStake
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.state import Payout
from tests.protocol.scenes import PROVIDERS, bring_to, new_world
from tests.protocol.world import POT, World, key

ALICE = PROVIDERS[0].address


@pytest.fixture
def world() -> World:
    return new_world()


@pytest.fixture
def book(world: World) -> Book:
    return world.ledger.book


def test_more_than_is_locked_is_not_unlocked(book: Book) -> None:
    book.lock(ALICE, Role.PROVIDER, 5)
    with pytest.raises(InvariantBroken, match="unlocked"):
        book.unlock(ALICE, Role.PROVIDER, 6)
    assert book.stake(ALICE, Role.PROVIDER).locked == 5
    book.unlock(ALICE, Role.PROVIDER, 5)
    assert book.stake(ALICE, Role.PROVIDER).locked == 0


@pytest.mark.parametrize("grains", [-1, 1])
def test_payouts_that_differ_from_the_escrow_change_nothing(world: World, book: Book, grains: int) -> None:
    order_id = bring_to(world, Window.COMMIT)
    before = world.ledger.snapshot()
    total = book.state.escrows[order_id].total_grains
    with pytest.raises(InvariantBroken, match="payouts"):
        book.pay_out(order_id, [Payout(ALICE, total + grains, "winner")])
    assert world.ledger.snapshot() == before


@pytest.mark.parametrize("pot", ["deposited", "withdrawn", "staked", "escrowed", "earned", "slashed"])
@pytest.mark.parametrize("grains", [-1, 1])
def test_a_grain_that_appears_or_vanishes_stops_the_ledger(world: World, book: Book, pot: str, grains: int) -> None:
    bring_to(world, Window.COMMIT)
    book.check_conservation()
    setattr(book.state, f"{pot}_grains", getattr(book.state, f"{pot}_grains") + grains)
    with pytest.raises(InvariantBroken, match="not conserved"):
        book.check_conservation()
    with pytest.raises(InvariantBroken):
        world.ledger.execute(book.state.sequence + 1, world.now_ms, [])


def test_pots_below_zero_that_add_up_are_not_conserved_either(book: Book) -> None:
    book.state.withdrawn_grains -= POT
    book.state.earned_grains += POT
    with pytest.raises(InvariantBroken, match="not conserved"):
        book.check_conservation()


@pytest.mark.parametrize(
    ("pot", "other"), [("staked", "earned"), ("slashed", "earned"), ("escrowed", "slashed"), ("earned", "escrowed")]
)
def test_running_totals_that_are_not_the_entries_are_found_by_the_audit(
    world: World, book: Book, pot: str, other: str
) -> None:
    bring_to(world, Window.COMMIT)
    book.audit()
    state = book.state
    setattr(state, f"{pot}_grains", getattr(state, f"{pot}_grains") + 1)
    setattr(state, f"{other}_grains", getattr(state, f"{other}_grains") - 1)
    with pytest.raises(InvariantBroken, match="differ from their total"):
        book.audit()


def test_locked_stake_is_not_free_and_not_more_than_free_can_be_asked_for(book: Book) -> None:
    assert book.free(ALICE, Role.PROVIDER) == 200 * POT
    book.lock(ALICE, Role.PROVIDER, 150 * POT)
    assert book.free(ALICE, Role.PROVIDER) == 50 * POT
    book.require_free(ALICE, Role.PROVIDER, 50 * POT)
    with pytest.raises(InsufficientStake) as refusal:
        book.require_free(ALICE, Role.PROVIDER, 50 * POT + 1)
    assert refusal.value.seen == f"{50 * POT} grains" and refusal.value.wanted == f"at least {50 * POT + 1} grains"
    book.account(ALICE).stakes[Role.PROVIDER].bonded = 100 * POT
    assert book.free(ALICE, Role.PROVIDER) == 0


@pytest.mark.parametrize(
    ("grains", "bonded", "unbonding", "slashed"),
    [(0, 7, 5, 0), (3, 4, 5, 3), (7, 0, 5, 7), (9, 0, 3, 9), (99, 0, 0, 12)],
)
def test_a_slash_takes_bonded_stake_first_and_never_more_than_there_is(
    book: Book, grains: int, bonded: int, unbonding: int, slashed: int
) -> None:
    stake = book.account(ALICE).stakes[Role.PROVIDER]
    stake.bonded, stake.unbonding = 7, 5
    staked = book.state.staked_grains
    book.slash(ALICE, Role.PROVIDER, grains, "test")
    assert (stake.bonded, stake.unbonding, stake.slashed) == (bonded, unbonding, slashed)
    assert (staked - book.state.staked_grains, book.state.slashed_grains) == (slashed, slashed)
    slashes = [event.detail["grains"] for event in book.events if event.kind == "slashed"]
    assert slashes == ([slashed] if grains else [])


def test_an_account_at_the_minimum_stays_registered_and_one_far_below_does_not(book: Book) -> None:
    minimum = book.state.parameters.min_stake_grains[Role.PROVIDER]
    book.account(ALICE).stakes[Role.PROVIDER].bonded = minimum
    book.drop_if_below_minimum(ALICE, Role.PROVIDER)
    assert ALICE in book.active[Role.PROVIDER]
    book.account(ALICE).stakes[Role.PROVIDER].bonded = minimum * 3 // 4
    book.drop_if_below_minimum(ALICE, Role.PROVIDER)
    assert ALICE in book.active[Role.PROVIDER], "a small slash ends nobody's work"
    book.account(ALICE).stakes[Role.PROVIDER].bonded = minimum * 3 // 4 - 1
    book.drop_if_below_minimum(ALICE, Role.PROVIDER)
    assert ALICE not in book.active[Role.PROVIDER] and not book.account(ALICE).active[Role.PROVIDER]


def test_deposits_end_where_a_canonical_integer_would(book: Book) -> None:
    left = MAX_INSIDE_GRAINS - book.state.deposited_grains
    assert book.can_deposit(left) and not book.can_deposit(left + 1)
    book.state.deposited_grains += POT  # what went home again, or was settled, leaves room
    book.state.withdrawn_grains += POT
    assert book.can_deposit(left) and not book.can_deposit(left + 1)


def test_validators_are_written_down_in_one_order_on_every_replica(world: World, book: Book) -> None:
    """A snapshot holds them as they stand, and a set of accounts stands otherwise in every process."""
    validators = [key(f"one of many validators {number}") for number in range(12)]
    for each in validators:
        world.stake(each, Role.VALIDATOR)
    number = book.validator_set()
    known = list(book.state.validator_sets[number])
    assert {each.address for each in validators} < set(known) and known == sorted(known)
