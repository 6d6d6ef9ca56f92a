"""Voting twice: the same account again, under another spelling, or for and against."""

from __future__ import annotations

import pytest

from pot_lab.crypto.identity import Address
from pot_lab.protocol import ledger as rules
from pot_lab.protocol.book import Book
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Vote
from tests.protocol.scenes import PROVIDERS
from tests.protocol.test_governance import outcome, propose
from tests.protocol.world import World


def two_votes(world: World) -> tuple[set[str], str]:
    """Two of six equal members vote three times each."""
    number = propose(world, winner_bp=5_000)
    codes = {world.submit(each, Vote(number, True)).code for _ in range(3) for each in PROVIDERS}
    world.wait(world.parameters.voting_ms)
    world.wait(world.parameters.timelock_ms)
    return codes, outcome(world, number)


def test_who_has_voted_is_refused(world: World) -> None:
    assert two_votes(world) == ({"", "AlreadyDone"}, "lapsed")


def test_an_account_with_two_roles_votes_once_with_both_stakes(world: World) -> None:
    world.stake(PROVIDERS[0], Role.VERIFIER)
    number = propose(world, winner_bp=5_000)
    assert [world.submit(PROVIDERS[0], Vote(number, yes)).code for yes in (True, False)] == ["", "AlreadyDone"]
    world.wait(world.parameters.voting_ms)
    assert world.ledger.state.governance.ended[-1].for_grains == 400 * 10**9


def test_with_votes_counted_as_they_come_two_of_six_would_decide(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_vote(book: Book, voter: Address, body: Vote) -> bytes:
        proposal = book.state.governance.proposals[body.proposal]
        name = Address(voter[:-1] + bytes([len(proposal.votes)]))  # each vote is its own
        book.state.accounts[name] = book.state.accounts[voter]
        proposal.weights[name], proposal.votes[name] = proposal.weights[voter], body.approve
        return b""

    monkeypatch.setitem(rules.HANDLERS, "vote", on_vote)
    monkeypatch.setattr(Book, "audit", lambda self: None)
    assert two_votes(world) == ({""}, "in force")
