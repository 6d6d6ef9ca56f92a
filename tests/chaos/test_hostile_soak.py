"""A short hostile soak in the suite, and half an hour of it in the long tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pot_lab.protocol.queries import query
from tests.chaos.hostile_soak import (
    ALL,
    ask_heavily,
    hang_up_within_frames,
    heavy_query,
    hostile_soak,
    place_hostile_orders,
    speak_as_a_seat,
)
from tests.protocol.world import World

MOST_MEMORY_MIB = 160


def nobody_is_harmed(found: dict[str, Any]) -> None:
    """Nobody died, every honest request was answered, and memory stayed in its bounds."""
    assert found["processes_ended"] == 0, found
    assert found["honest_requests"] > 3 and found["honest_requests_failed"] == 0, found
    assert found["acknowledged"] == found["operations"], found
    assert found["peak_resident_mib"] < MOST_MEMORY_MIB, found


def test_strangers_and_a_seat_in_turn_harm_nobody(tmp_path: Path) -> None:
    attacks = (ask_heavily, hang_up_within_frames, place_hostile_orders, speak_as_a_seat)
    nobody_is_harmed(hostile_soak(tmp_path, seconds=16, seed=5, attacks=attacks, quiet_s=1.0))


@pytest.mark.long
@pytest.mark.timeout(4_800)
def test_half_an_hour_of_strangers_and_a_seat(tmp_path: Path) -> None:
    found = hostile_soak(tmp_path, seconds=1_800, seed=6, attacks=ALL * 3)
    nobody_is_harmed(found)
    assert found["orders_lost"] == 0 and found["orders_ended"] > 20, found


def test_heavy_queries_are_answered_and_not_refused() -> None:
    """What is refused costs nothing, and would show nothing."""
    ledger, asked = World().ledger, set[str]()
    for number in range(1, 15):
        question = heavy_query(number)
        asked.add(question.name)
        if question.name != "metrics":  # answered by the aggregator itself
            assert query(ledger, question.name, question.arguments)
    assert asked == {"orders", "fetch_orders", "orders_in", "account", "epoch", "metrics"}
