"""Peers are other people's programs: each is run as it is, and one that hangs, fails or babbles is said to."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pot_lab.bench.network import BadSetting

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> Any:
    """The program as a module; its folder is on the path as it is when the program runs."""
    module = ModuleType("peers")
    sys.path.insert(0, str(FOLDER))
    try:
        exec(compile((FOLDER / "peers.py").read_text(), "peers.py", "exec"), module.__dict__)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def python(code: str) -> str:
    return f'{sys.executable} -c "{code}" {{nodes}} {{bytes}}'


def test_a_peer_gets_nodes_and_bytes_and_says_seconds_in_its_last_line(peers: Any) -> None:
    command = python("import sys; print('starting'); print(int(sys.argv[1]) + int(sys.argv[2]) / 1e6)")
    assert peers.run_peer(command, 10, 3_352) == 10.003352


def test_one_that_hangs_or_fails_has_no_time(peers: Any) -> None:
    assert peers.run_peer(python("import time; time.sleep(600)"), 4, 1, patience_s=1.0) is None
    assert peers.run_peer(python("import sys; print(1.0); sys.exit(3)"), 4, 1) is None


@pytest.mark.parametrize("command", ["/no/such/program {nodes}", python("print('done')"), python("pass")])
def test_what_is_no_peer_is_refused_in_words(peers: Any, command: str) -> None:
    with pytest.raises(BadSetting, match="a peer"):
        peers.run_peer(command, 4, 1)


def test_turns_alternate_and_ratios_are_of_one_turn(peers: Any) -> None:
    medians = iter([0.01, 0.04])

    def ours(nodes: int, orders: int, validations: int, runs: int, **options: Any) -> dict[str, Any]:
        assert (nodes, orders, validations, runs, options["admitted"]) == (10, 1, 10, 2, True)
        return {"median_s": next(medians), "hangs": 0}

    steady = python("print(0.04)")
    chosen = Namespace(turns=2, runs=2, signatures=False, durability="flush", peer=[("steady", steady)])
    row = peers.turns(chosen, 10, 11, ours)
    assert row["ahead_of_steady_turns"] == [4.0, 1.0]
    assert row["ahead_of_steady"] == 2.5 and row["steady_s"] == 0.04 and row["ours_s"] == 0.025


def test_it_measures_ours_beside_a_peer(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, str(FOLDER / "peers.py"), "--peer", f"one={python('print(1.0)')}", "--nodes", "4"]
    command += ["--turns", "1", "--runs", "1", "--output", str(report)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    (row,) = json.loads(report.read_text())["figures"]
    assert row["ours_s"] > 0 and row["one_s"] == 1.0 and row["ahead_of_one"] > 0
