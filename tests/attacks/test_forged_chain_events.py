"""One aggregator votes for a false chain event under several keys, or with seats that it no longer has."""

from __future__ import annotations

import pytest

from pot_lab.protocol.book import Book
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Attest, Join, Leave, RotateKeys, VoteSeat
from tests.protocol.test_members import Town, application_for
from tests.protocol.world import POT, key

MALLORY = key("mallory")
AMOUNT = 10**9 * POT
FALSE = (
    ChainEvent(
        kind="staked",
        block=1,
        log_index=0,
        account=MALLORY.address,
        role=int(Role.VALIDATOR),
        amount_grains=AMOUNT,
        subject=b"",
        detail=(AMOUNT,),
    ),
)


def stake_of_mallory(town: Town) -> int:
    return town.ledger.book.stake(MALLORY.address, Role.VALIDATOR).bonded


def forge_by_rotating(town: Town, times: int) -> int:
    """Attest one false event under one key after the other; returns the stake that it made."""
    account, number = town.aggregators[0], town.ledger.state.next_chain_event
    used = account
    town.submit(used, Attest(number, FALSE))
    for turn in range(times):
        fresh = key(f"key {turn} of one account")
        town.must(account, application_for(RotateKeys, town, account, fresh))
        town.take_over()
        used = fresh
        town.submit(used, Attest(number, FALSE))
    return stake_of_mallory(town)


def test_a_change_of_keys_gives_no_second_vote() -> None:
    assert forge_by_rotating(Town(), 4) == 0


def test_it_would_if_votes_were_counted_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack works where the rule is off, so it is the rule that stops it."""
    town = Town()

    monkeypatch.setattr(Book, "count_members", lambda self, accounts: len(list(accounts)))
    monkeypatch.setattr("pot_lab.protocol.chain_events._voter", lambda state, index: state.aggregators[index].key)
    assert forge_by_rotating(town, 4) == AMOUNT


def test_a_former_member_has_no_vote_and_a_change_of_the_members_counts_again() -> None:
    town, leaver = Town(), key("newcomer")
    town.seat(leaver)
    town.take_over()
    number = town.ledger.state.next_chain_event
    town.must(leaver, Attest(number, FALSE))
    town.must(leaver, Leave())
    town.take_over()
    town.must(town.aggregators[0], Attest(number, FALSE))
    assert stake_of_mallory(town) == 0, "one member and one former member are no f+1"
    town.must(town.aggregators[1], Attest(number, FALSE))
    assert stake_of_mallory(town) == AMOUNT, "two members of four are"


def test_votes_that_suffice_in_the_set_in_force_count_without_another_one() -> None:
    """With seven members two of them do not decide; when the set has shrunk to six, whose f is 1, they do."""
    town = Town(7)
    number = town.ledger.state.next_chain_event
    for each in town.aggregators[:2]:
        town.must(each, Attest(number, FALSE))
    assert stake_of_mallory(town) == 0
    town.must(town.aggregators[6], Leave())
    town.take_over()
    assert stake_of_mallory(town) == AMOUNT


def test_a_vote_for_a_seat_counts_members_in_force_only() -> None:
    town, newcomer = Town(5), key("newcomer")
    leaver = town.aggregators[4]
    town.fund(newcomer)
    town.must(newcomer, application_for(Join, town, newcomer, newcomer))
    town.must(leaver, VoteSeat(newcomer.address, True))
    town.must(leaver, Leave())
    town.take_over()
    for each in town.aggregators[:2]:
        town.must(each, VoteSeat(newcomer.address, True))
    assert newcomer.address not in town.accounts
    town.must(town.aggregators[2], VoteSeat(newcomer.address, True))
    assert newcomer.address in town.accounts
