"""Miners that were started from the panel: found by their folders, stopped, and not alive when they died."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.files import acquire_lock
from pot_lab.jobs.errors import BadJobParameters, UnknownJob
from pot_lab.jobs.miners import find_miners, get_miner, start_miner


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def test_a_miner_without_a_network_ends_and_its_log_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    miner = start_miner(tmp_path, "provider", parameters={"learning_rate": 0.01})
    assert miner.state in ("running", "ended")
    until(lambda: miner.state == "ended")
    assert "pot-lab testnet up" in miner.log.read_text()
    assert [one.id for one in find_miners(tmp_path)] == [miner.id]
    miner.stop()  # one that has ended stays as it is
    assert not (miner.directory / "stopping").exists()


def test_a_miner_that_was_asked_to_stop_is_stopping_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    miner = start_miner(tmp_path, "validator", parameters={})
    until(lambda: miner.state == "ended")
    lock = acquire_lock(miner.directory / "lock")  # as a process that lives holds it
    (miner.directory / "pid").write_text("no number")
    assert miner.state == "running"
    miner.stop()
    assert miner.state == "stopping"
    os.close(lock)
    assert miner.state == "ended"


def test_a_slip_in_a_parameters_name_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadJobParameters, match="learning_rate"):
        start_miner(tmp_path, "provider", parameters={"learning_rat": 0.1})
    assert find_miners(tmp_path) == []


@pytest.mark.parametrize("name", ["..", "../jobs", "no-such", ""])
def test_there_is_no_miner_of_another_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownJob):
        get_miner(tmp_path, name)
