"""Votes that are harmless alone and break the network together, or by what they do to what is under way."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pot_lab.protocol import epochs, governance
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.proposals import ParameterChange, change, value_of
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import Payout
from pot_lab.protocol.transactions import Propose, Vote
from tests.protocol.scenes import PROVIDERS, VALIDATORS, bring_to, new_world
from tests.protocol.test_governance import DAY_MS, outcome, propose, vote
from tests.protocol.world import PARAMETERS, World


def unchecked(parameters: Parameters, changes: tuple[ParameterChange, ...]) -> Parameters:
    """The changes made, whatever comes of them."""
    return structs.replace(parameters, **{one.name: value_of(one) for one in changes})


def two_votes(world: World, one: dict[str, Any], other: dict[str, Any]) -> tuple[str, str]:
    """Two proposals, each right for the parameters as they are, pass and come due one after the other."""
    first = propose(world, PROVIDERS[0], Role.PROVIDER, **one)
    second = propose(world, VALIDATORS[0], Role.VALIDATOR, **other)
    for number in (first, second):
        for each in (*PROVIDERS, *VALIDATORS):
            world.must(each, Vote(number, True))
    world.wait(world.parameters.voting_ms)
    world.wait(world.parameters.timelock_ms)
    return outcome(world, first), outcome(world, second)


PAIRS = [
    ({"winner_bp": 7_000, "aggregators_bp": 1_500}, {"winner_bp": 9_000, "validators_bp": 500}),
    ({"min_window_ms": 50_000}, {"usual_windows_ms": (40_000,) * 7}),
    ({"max_train_ms": 5_000}, {"min_train_ms": 6_000}),
    ({"voting_ms": 15 * DAY_MS}, {"timelock_ms": 15 * DAY_MS}),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[next(iter(one)) for one, _ in PAIRS])
def test_of_two_that_do_not_go_together_the_second_does_not_take_force(
    world: World, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = two_votes(world, one, other)
    world.ledger.state.parameters.check()
    assert (first, second) == ("in force", "impossible")


def test_unchecked_shares_of_more_than_the_reward_leave_every_order_unpaid(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance, "changed", unchecked)
    assert two_votes(world, {"winner_bp": 10_000}, {"validators_bp": 5_000}) == ("in force", "in force")
    world.expects_faults = True
    order_id = bring_to(world, Window.CHALLENGE)
    world.wait_for(order_id, Window.VOID)
    assert world.order(order_id).void_reason is VoidReason.FAULT, "it was won, and the ledger could not pay it"


def test_checked_they_do_not(world: World) -> None:
    assert world.submit(PROVIDERS[0], Propose(0, (change("winner_bp", 10_000),))).code == "BadParameter"


def waits_ms(world: World) -> int:
    """A cartel votes for epochs every twenty days while an order runs, and an epoch has just been opened when the order
    ends; returns how long the order waits for the next one. Its client may ask the escrow back meanwhile.
    """
    first, order_id = bring_to(world, Window.CHALLENGE), world.start()[0]
    number = propose(world, update_ms=20 * DAY_MS)
    vote(world, number, 6)
    world.wait(2_000)
    world.wait_for(first, Window.FINALIZATION)
    world.wait(1_000)
    world.sign_epoch()
    world.settle()
    assert world.ledger.state.next_update_ms >= world.now_ms + 19 * DAY_MS
    world.wait_for(order_id, Window.VOID)
    assert world.ledger.state.pending is None
    due_ms = epochs.due_ms(world.ledger.book)
    assert due_ms is not None
    return due_ms - world.now_ms


def test_no_vote_holds_up_an_order_that_has_started() -> None:
    world = new_world(structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000))
    assert waits_ms(world) == PARAMETERS.update_ms


def test_without_the_cycle_of_the_orders_start_it_waits_for_twenty_days(monkeypatch: pytest.MonkeyPatch) -> None:
    pay_out = Book.pay_out

    def with_the_networks_cycle(book: Book, order_id: OrderId, payouts: list[Payout]) -> None:
        next_ms = book.state.next_update_ms
        pay_out(book, order_id, payouts)
        book.state.next_update_ms = next_ms

    monkeypatch.setattr(Book, "pay_out", with_the_networks_cycle)
    world = new_world(structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000))
    assert waits_ms(world) >= 19 * DAY_MS
