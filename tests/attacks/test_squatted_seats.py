"""Filling the list of candidates for an aggregator's seat with stake that goes home at once."""

from __future__ import annotations

import pytest

from pot_lab.protocol import members
from pot_lab.protocol.transactions import Join
from tests.protocol.test_members import Town, application_for, unstaked
from tests.protocol.world import key

PLACES = 3


def squat(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """One owner's accounts take all places, and take their stake back."""
    monkeypatch.setattr(members, "MAX_CANDIDATES", PLACES)
    for number in range(PLACES):
        squatter = key(f"squatter {number}")
        town.fund(squatter)
        town.must(squatter, application_for(Join, town, squatter, squatter))
        town.chain(unstaked(squatter))


def newcomer(town: Town) -> str:
    """How the ledger answers an honest account that applies."""
    honest = key("newcomer")
    town.fund(honest)
    return town.submit(honest, application_for(Join, town, honest, honest)).code


def test_a_candidate_without_stake_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    squat(town, monkeypatch)
    assert newcomer(town) == ""


def test_without_the_rule_the_squatters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "lapse", lambda book: None)
    town = Town()
    squat(town, monkeypatch)
    assert newcomer(town) == "BadSeat"


def test_a_candidate_whom_nobody_wants_lapses_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_CANDIDATES", 1)
    town, unwanted = Town(), key("unwanted")
    town.fund(unwanted)
    town.must(unwanted, application_for(Join, town, unwanted, unwanted))
    town.wait(town.parameters.candidate_ms - 1_000)
    assert newcomer(town) == "BadSeat"
    town.now_ms += 1_000
    assert newcomer(town) == ""
    assert list(town.ledger.state.candidates) == [key("newcomer").address]
