"""`pot-lab simulate` and `pot-lab bench wan` from a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Collection

import pytest

from pot_lab.cli import main as cli
from pot_lab.simulator import run
from pot_lab.simulator.profiles import PROFILES
from pot_lab.simulator.run import BadSeeds, run_seed, seeds_of
from pot_lab.simulator.simulation import Outcome, Simulation
from tests.simulator.plants import MintingLedger, NeverSynced


def test_seeds_are_named_with_both_ends() -> None:
    assert list(seeds_of("3..5")) == [3, 4, 5] and list(seeds_of("7")) == [7]
    for text in ("", "a..b", "5..3", "-2..4"):
        with pytest.raises(BadSeeds):
            seeds_of(text)


def test_simulate_reports_what_it_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seeds", "1..3", "--nodes", "4", "--profile", "network", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts) == {
        "seeds", "events", "violations", "stuck", "faults", "view_changes", "catch_ups", "elapsed_s"
    }  # fmt: skip
    assert facts["seeds"] == 3 and facts["violations"] == facts["stuck"] == 0 and facts["events"] > 10_000


def test_a_report_does_not_depend_on_the_number_of_processes() -> None:
    alone, together = (run.simulate(range(1, 4), 4, "network", processes=count) for count in (1, 2))
    alone.elapsed_s = together.elapsed_s = 0
    assert alone == together


def dies_at_six(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
    if seed == 6:
        os._exit(9)
    return run_seed(seed, nodes, profile, without)


def test_a_process_that_dies_is_told_and_not_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_seed", dies_at_six)
    assert cli.main(["simulate", "--seeds", "1..9", "--nodes", "4", "--profile", "calm", "--processes", "2"]) == 1
    assert capsys.readouterr().err.startswith("pot-lab: ProcessLost: ")


def broken(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
    return Simulation(seed, nodes, profile, without=without, make_application=MintingLedger).run()


def test_a_failing_seed_says_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_seed", broken)
    assert cli.main(["simulate", "--seeds", "2..2", "--nodes", "4", "--profile", "calm", "--json"]) == 1
    said = capsys.readouterr()
    assert "pot-lab simulate --seeds 2..2 --nodes 4 --profile calm" in said.err
    assert "VIOLATION money" in said.err and "its last moments:" in said.err
    assert json.loads(said.out)["violations"] == 1


def test_a_failing_seed_is_shown_without_the_faults_that_it_does_not_need(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_seed", broken)
    assert cli.main(["simulate", "--seeds", "3..3", "--nodes", "4", "--profile", "crashes", "--json"]) == 1
    said = capsys.readouterr().err
    assert "fails with fewer faults too: pot-lab simulate --seeds 3..3 --nodes 4 --profile crashes --without" in said
    assert "the run has" not in said  # it needs none


def test_a_minimum_keeps_the_fault_that_is_needed() -> None:
    def unsynced(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
        return Simulation(seed, nodes, profile, without=without, make_disk=NeverSynced).run()

    failed = next(outcome for seed in range(1, 20) if not (outcome := unsynced(seed, 4, "everything")).is_good)
    smallest = run.minimise(failed, unsynced)
    left = set(smallest.parts) - set(smallest.without)
    assert smallest.rule == failed.rule and left and len(left) < len(set(failed.parts))
    assert all("power_cut" in part or "blackout" in part for part in left)
    assert Simulation(failed.seed, 4, "everything", without=smallest.without).run().is_good


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--profile", "stormy"], "UnknownProfile"),
        (["--nodes", "3"], "BadReplicaCount"),
        (["--nodes", "101"], "BadReplicaCount"),
        (["--seeds", "9..2"], "BadSeeds"),
        (["--without", "crush"], "UnknownFault"),
        (["--profile", "network", "--without", "crash#1"], "UnknownFault"),
        (["--processes", "0"], "BadProcesses"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", "--seeds", "1..1", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"pot-lab: {error}:")


def test_help_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["simulate", "--help"])
    said = capsys.readouterr().out.split("profiles:")[1].split("examples:")[0]
    assert [line.split()[0] for line in said.split("\n") if line.strip()] == list(PROFILES)


def test_bench_wan_prints_rows_beside_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "wan", "--row", "20x4", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [(row["transactions"], row["nodes"], row["speed"]) for row in table["rows"]] == [
        (20, 4, "slow"), (20, 4, "medium"), (20, 4, "fast"),
    ]  # fmt: skip
    assert cli.main(["bench", "wan", "--row", "4"]) == 1
