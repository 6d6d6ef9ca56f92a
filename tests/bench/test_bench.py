"""`pot-lab bench consensus` and `throughput` on real aggregator processes: what they say, refuse and leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pot_lab.bench.consensus import measure_consensus
from pot_lab.bench.network import BadSetting, MeasuringNetwork, NetworkFailed
from pot_lab.cli import main as cli
from pot_lab.network.client.client import NetworkClient
from tests.begin import heeding_interrupts

CALIBRATION = {"verify_per_s", "recover_per_s", "fdatasync_ms", "load"}


def nodes_of(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "pot_lab.bench.node" in child.cmdline():
                found.append(child)
    return found


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("admitted", [False, True])
def test_a_bundle_is_timed_and_described(capsys: pytest.CaptureFixture[str], admitted: bool) -> None:
    given = ["--nodes", "4", "--orders", "2", "--validations", "3", "--runs", "3", "--durability", "flush", "--json"]
    assert cli.main(["bench", "consensus", *given, *(["--admitted"] if admitted else [])]) == 0
    found = said(capsys)
    facts = {"nodes": 4, "transactions": 5, "bytes": 2 * 312 + 3 * 304, "durability": "flush", "admitted": admitted}
    assert {name: found[name] for name in facts} == facts
    assert (found["runs"], found["hangs"], found["view"]) == (3, 0, 0)
    assert 0 < found["min_s"] <= found["median_s"] <= found["p90_s"]  # type: ignore[operator]
    assert set(found["calibration"]) == CALIBRATION  # type: ignore[call-overload]
    assert nodes_of(psutil.Process()) == []


def test_throughput_tells_three_latencies(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "throughput", "--nodes", "4", "--seconds", "1", "--durability", "flush", "--json"]) == 0
    found = said(capsys)
    assert found["transactions_per_s"] > 0  # type: ignore[operator]
    for name in ("latency_ms", "tenth_latency_ms", "one_by_one_latency_ms", "idle_latency_ms"):
        shares = found[name]
        assert isinstance(shares, dict) and list(shares) == ["p50", "p90", "p99"]
        assert 0 < shares["p50"] <= shares["p90"] <= shares["p99"]
    assert set(found["calibration"]) == CALIBRATION  # type: ignore[call-overload]
    assert nodes_of(psutil.Process()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["consensus", "--nodes", "3"],
        ["consensus", "--nodes", "101"],
        ["consensus", "--runs", "0"],
        ["consensus", "--orders", "0", "--validations", "0"],
        ["consensus", "--orders", "-1"],
        ["consensus", "--validations", "501"],
        ["throughput", "--seconds", "0"],
        ["throughput", "--nodes", "1"],
    ],
)
def test_a_measurement_without_sense_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert cli.main(["bench", *wrong]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("pot-lab: BadSetting: ") and "wanted: " in error[0]
    with pytest.raises(BadSetting):
        MeasuringNetwork(4, "perhaps")


def test_an_aggregator_that_ends_is_reported_and_nothing_is_left() -> None:
    with MeasuringNetwork(4, "flush") as network, NetworkClient(network.config) as client:
        victim = nodes_of(psutil.Process())[2]
        victim.kill()
        with pytest.raises(NetworkFailed, match="ended"):
            network.settle(client, timeout_s=300)
    assert nodes_of(psutil.Process()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_stops_a_measurement_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "pot_lab.cli", "bench", "consensus", "--runs", "10000", "--durability", "flush"]
    with open(tmp_path / "err", "wb") as stderr:
        bench = subprocess.Popen(
            heeding_interrupts(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + 400
        while "connected" not in (tmp_path / "err").read_text():
            assert bench.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.05)
        nodes = nodes_of(psutil.Process(bench.pid))
        assert len(nodes) == 4
        bench.send_signal(number)
        assert bench.wait(300) == (-number if number == signal.SIGKILL else 130)
        assert psutil.wait_procs(nodes, 300)[1] == []
        assert number == signal.SIGKILL or list(tmp_path.glob("pot-lab-bench-*")) == []
    finally:
        bench.kill()
        bench.wait()


def test_a_bundle_larger_than_a_queue_is_refused_before_anything_starts() -> None:
    with pytest.raises(BadSetting, match="together"):
        measure_consensus(4, 300, 300, 1)
    assert nodes_of(psutil.Process()) == []


def test_gas_is_far_below_the_papers_and_less_for_each_account_when_many_are_paid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    given = ["--signers", "3", "--accounts", "1", "--accounts", "4"]
    assert cli.main(["bench", "gas", *given, "--json"]) == 0
    found = said(capsys)
    one, four = found["accounts"]  # type: ignore[misc]
    assert four["repeat: all per account"] < one["repeat: all per account"] < 1_609_893
    assert four["repeat: all per account"] < four["first: all per account"], "the first payment writes a fresh slot"
    assert found["paper_scheme_measured"]["per account"] > one["repeat: all per account"]  # type: ignore[index]
    assert found["prices"] == {"gwei": 4.562, "coin_usd": 246.2}
    assert cli.main(["bench", "gas", *given, "--gwei", "1", "--coin-usd", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[-3:] == ["1,609,893", "0.001610", "1.6099"]
