"""Filling the places for proposals, so that nobody else can propose, and everybody has to vote against nonsense."""

from __future__ import annotations

import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.protocol import governance
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.proposals import change
from pot_lab.protocol.transactions import Propose
from tests.protocol.scenes import VALIDATORS
from tests.protocol.world import POT, World, key

SPAMMERS = [key(f"spammer {i}") for i in range(governance.MAX_PROPOSALS)]


def spam(world: World, each_has_grains: int) -> int:
    """How many accounts with this much stake get a proposal each."""
    accepted = 0
    for number, spammer in enumerate(SPAMMERS):
        world.stake(spammer, Role.PROVIDER, each_has_grains)
        accepted += world.submit(spammer, Propose(0, (change("update_ms", 5_000 + number),))).accepted
    return accepted


def honest(world: World, who: Identity = VALIDATORS[0]) -> str:
    return world.submit(who, Propose(1, (change("winner_bp", 7_000),))).code


def test_each_proposal_doubles_the_bond_of_the_next_one(world: World) -> None:
    assert spam(world, 60 * POT) == 3  # 10, 20, 40 POT beyond the least of 10
    assert honest(world) == ""  # 80 POT of 200
    assert governance.bond_grains(world.ledger.book) == 160 * POT


def test_bonds_of_spam_are_lost(world: World) -> None:
    spam(world, 60 * POT)
    world.wait(world.parameters.voting_ms)
    assert not world.ledger.state.governance.proposals
    assert world.ledger.state.slashed_grains == 70 * POT
    assert honest(world) == "" and governance.bond_grains(world.ledger.book) == 20 * POT


def test_with_one_price_for_all_places_an_honest_member_is_shut_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance, "bond_grains", lambda book: book.state.parameters.proposal_bond_grains)
    assert spam(world, 60 * POT) == governance.MAX_PROPOSALS
    assert honest(world) == "TooManyProposals"


def test_one_account_has_one_proposal_at_a_time(world: World) -> None:
    for code in ("", "TooManyProposals"):
        assert honest(world) == code
    world.wait(world.parameters.voting_ms)
    assert honest(world) == ""


def test_a_bond_that_others_promises_need_is_not_free(world: World) -> None:
    world.ledger.book.lock(VALIDATORS[1].address, Role.VALIDATOR, 195 * POT)
    assert honest(world, VALIDATORS[1]) == "InsufficientStake"
    world.ledger.book.unlock(VALIDATORS[1].address, Role.VALIDATOR, 195 * POT)
