"""`pot-lab simulate` from a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Collection

import coverage
import pytest

from pot_lab.cli.main import main
from pot_lab.simulator import run
from pot_lab.simulator.outcome import Outcome
from pot_lab.simulator.profiles import PROFILES
from pot_lab.simulator.run import run_seed
from pot_lab.simulator.simulation import Simulation
from tests.simulator.plants import MintingLedger


def test_simulate_reports_what_it_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "1..3", "--nodes", "4", "--profile", "network", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts) == {
        "seeds", "events", "violations", "stuck", "faults", "view_changes", "catch_ups", "elapsed_s"
    }  # fmt: skip
    assert facts["seeds"] == 3 and facts["violations"] == facts["stuck"] == 0 and facts["events"] > 10_000


def dies_at_six(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
    if seed == 6:
        os._exit(9)
    return run_seed(seed, nodes, profile, without)


# Coverage's own handler of SIGTERM may wait for ever in a process that the broken pool terminates while it starts.
@pytest.mark.skipif(coverage.Coverage.current() is not None, reason="coverage is measured")
def test_a_dead_process_is_reported_and_not_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_seed", dies_at_six)
    assert main(["simulate", "--seeds", "1..9", "--nodes", "4", "--profile", "calm", "--processes", "2"]) == 1
    assert capsys.readouterr().err.startswith("pot-lab: ProcessLost: ")


def broken(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
    return Simulation(seed, nodes, profile, without=without, make_application=MintingLedger).run()


def test_a_failing_seed_is_printed_with_the_command_that_runs_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_seed", broken)
    assert main(["simulate", "--seeds", "2..2", "--nodes", "4", "--profile", "calm", "--json"]) == 1
    printed = capsys.readouterr()
    assert "pot-lab simulate --seeds 2..2 --nodes 4 --profile calm" in printed.err
    assert "VIOLATION money" in printed.err and "its last moments:" in printed.err
    assert json.loads(printed.out)["violations"] == 1


def test_a_failing_seed_is_shown_without_the_faults_that_it_does_not_need(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_seed", broken)
    assert main(["simulate", "--seeds", "3..3", "--nodes", "4", "--profile", "crashes", "--json"]) == 1
    printed = capsys.readouterr().err
    assert "fails with fewer faults too: pot-lab simulate --seeds 3..3 --nodes 4 --profile crashes --without" in printed
    assert "the run has" not in printed  # it needs none


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
    assert main(["simulate", "--seeds", "1..1", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"pot-lab: {error}:")


def test_help_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--help"]) == 0
    printed = capsys.readouterr().out.split("profiles:")[1].split("examples:")[0]
    assert [line.split()[0] for line in printed.split("\n") if line.strip()] == list(PROFILES)
