"""`pot-lab simulate` and `pot-lab bench wan` from a terminal."""

from __future__ import annotations

import json

import pytest

from pot_lab import cli
from pot_lab.simulator import run
from pot_lab.simulator.run import BadSeeds, seeds_of
from pot_lab.simulator.simulation import Outcome, Simulation
from tests.simulator.plants import MintingLedger


def test_seeds_are_named_with_both_ends() -> None:
    assert list(seeds_of("3..5")) == [3, 4, 5] and list(seeds_of("7")) == [7]
    for text in ("", "a..b", "5..3", "-2..4"):
        with pytest.raises(BadSeeds):
            seeds_of(text)


def test_simulate_reports_what_it_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seeds", "1..3", "--nodes", "4", "--profile", "network", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    wanted = {"seeds", "events", "violations", "stuck", "faults", "view_changes", "catch_ups", "elapsed_s"}
    assert wanted <= set(facts)
    assert facts["seeds"] == 3 and facts["violations"] == facts["stuck"] == 0 and facts["events"] > 10_000


def test_a_report_does_not_depend_on_the_number_of_processes() -> None:
    alone, together = (run.simulate(range(1, 5), 4, "network", processes=count) for count in (1, 2))
    alone.elapsed_s = together.elapsed_s = 0
    assert alone == together


def test_a_failing_seed_says_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(seed: int, nodes: int | None, profile: str) -> Outcome:
        return Simulation(seed, nodes, profile, make_application=MintingLedger).run()

    monkeypatch.setattr(run, "run_seed", broken)
    assert cli.main(["simulate", "--seeds", "2..2", "--nodes", "4", "--profile", "calm", "--json"]) == 1
    said = capsys.readouterr()
    assert "pot-lab simulate --seeds 2..2 --nodes 4 --profile calm" in said.err
    assert "VIOLATION money" in said.err and "its last moments:" in said.err
    facts = json.loads(said.out)
    assert facts["violations"] == 1 and facts["failures"][0]["seed"] == 2


def test_an_unknown_profile_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seeds", "1..1", "--profile", "stormy"]) == 1
    assert capsys.readouterr().err.startswith("pot-lab: UnknownProfile:")


def test_bench_wan_prints_rows_beside_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "wan", "--row", "20x4", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [(row["transactions"], row["nodes"], row["speed"]) for row in table["rows"]] == [
        (20, 4, "slow"), (20, 4, "medium"), (20, 4, "fast"),
    ]  # fmt: skip
    assert cli.main(["bench", "wan", "--row", "4"]) == 1
