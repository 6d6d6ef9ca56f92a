"""Runs of many seeds: which, in how many processes, and the smallest that still fails."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from pot_lab.simulator import run
from pot_lab.simulator.outcome import Outcome
from pot_lab.simulator.run import BadSeeds, seeds_of
from pot_lab.simulator.simulation import Simulation
from tests.simulator.plants import NeverSynced


def test_seeds_are_named_with_both_ends() -> None:
    assert list(seeds_of("3..5")) == [3, 4, 5] and list(seeds_of("7")) == [7]
    for text in ("", "a..b", "5..3", "-2..4"):
        with pytest.raises(BadSeeds):
            seeds_of(text)


def test_a_report_does_not_depend_on_the_number_of_processes() -> None:
    alone, together = (run.simulate(range(1, 4), 4, "network", processes=count) for count in (1, 2))
    assert alone == together


def test_a_minimum_keeps_the_fault_that_is_needed() -> None:
    def unsynced(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
        return Simulation(seed, nodes, profile, without=without, make_disk=NeverSynced).run()

    failed = next(outcome for seed in range(1, 20) if not (outcome := unsynced(seed, 4, "everything")).is_good)
    smallest = run.minimise(failed, unsynced)
    left = set(smallest.parts) - set(smallest.without)
    assert smallest.rule == failed.rule and left and len(left) < len(set(failed.parts))
    assert all("power_cut" in part or "blackout" in part for part in left)
    assert Simulation(failed.seed, 4, "everything", without=smallest.without).run().is_good
