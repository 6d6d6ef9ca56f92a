"""Voting with stake that is on its way out, or with the same money under several names."""

from __future__ import annotations

import pytest

from pot_lab.crypto.identity import Address
from pot_lab.protocol import governance
from pot_lab.protocol.book import Book
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Vote
from tests.protocol.scenes import PROVIDERS, VALIDATORS
from tests.protocol.test_governance import chain_event, outcome, propose
from tests.protocol.world import POT, World, key

RICH = key("rich")


def bought(world: World) -> str:
    """Someone stakes three times what all others have, proposes, votes, and takes the stake back at once."""
    world.stake(RICH, Role.PROVIDER, 4_000 * POT)
    number = propose(world, RICH, winner_bp=5_000)
    world.must(RICH, Vote(number, True))
    world.chain(chain_event("unstake_requested", RICH, Role.PROVIDER, 4_000 * POT))
    for each in (*PROVIDERS, *VALIDATORS):
        world.must(each, Vote(number, False))
    world.wait(world.parameters.voting_ms)
    world.wait(world.parameters.timelock_ms)
    return outcome(world, number)


def test_stake_that_is_unbonding_when_votes_are_counted_decides_nothing(world: World) -> None:
    assert bought(world) != "in force"
    assert world.ledger.state.parameters.winner_bp == 8_000


def test_with_the_rule_switched_off_it_decides(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_alone(book: Book, account: Address) -> int:
        known = book.state.accounts.get(account)
        return sum(stake.bonded + stake.unbonding for stake in known.stakes) if known else 0

    monkeypatch.setattr(governance, "weight", snapshot_alone)
    assert bought(world) == "in force"


def carried(world: World) -> str:
    """600 POT vote, go home, and vote again under three other names; the chain's unbonding is as short as may be."""
    number = propose(world, VALIDATORS[0], Role.VALIDATOR, winner_bp=5_000)
    before = RICH
    world.stake(before, Role.PROVIDER, 600 * POT)
    for each in (RICH, *(key(f"straw {i}") for i in range(3))):
        if each is not before:
            world.chain(
                chain_event("unstake_requested", before, Role.PROVIDER, 600 * POT),
                chain_event("withdrawn", before, Role.PROVIDER, 600 * POT),
            )
            world.stake(each, Role.PROVIDER, 600 * POT)
        world.submit(each, Vote(number, True))
        before = each
    world.wait(world.parameters.voting_ms)
    world.wait(world.parameters.timelock_ms)
    return outcome(world, number)


def test_money_that_came_after_the_vote_began_does_not_vote(world: World) -> None:
    assert carried(world) == "lapsed"


def test_without_a_snapshot_one_stake_would_vote_under_four_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Anybody(dict):  # type: ignore[type-arg]
        def get(self, account: Address, default: int = 0) -> int:
            return 600 * POT

        def __getitem__(self, account: Address) -> int:
            return 600 * POT

    honest = governance._weights
    monkeypatch.setattr(governance, "_weights", lambda book: Anybody(honest(book)))
    monkeypatch.setattr(governance, "weight", lambda book, account: 600 * POT)
    assert carried(world) == "in force"
