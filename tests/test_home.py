"""Where networks and jobs are kept, also for accounts that have no home."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from pot_lab import home
from pot_lab.cli.main import main
from pot_lab.discovery import network_files
from pot_lab.home import NoHome


def test_it_is_the_variable_or_a_folder_of_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "here"))
    assert home.home() == tmp_path / "here" and home.jobs() == tmp_path / "here" / "jobs"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POT_LAB_HOME", "~/there")
    assert home.home() == tmp_path / "there"
    monkeypatch.delenv("POT_LAB_HOME")
    assert home.home() == tmp_path / ".pot-lab"


def test_a_home_that_the_system_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", "~no-such-account/pot-lab")
    with pytest.raises(NoHome) as refused:
        home.home()
    assert refused.value.seen == "~no-such-account/pot-lab"
    monkeypatch.setenv("POT_LAB_HOME", "/elsewhere")
    monkeypatch.setenv("POT_LAB_NETWORK", "~no-such-account/network.toml")
    with pytest.raises(NoHome):
        network_files()


def test_the_command_says_so_to_an_account_without_a_home(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unknown(number: int) -> object:
        raise KeyError(f"uid not found: {number}")

    monkeypatch.delenv("POT_LAB_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert main(["orders"]) == 1
    told = capfd.readouterr().err
    assert "POT_LAB_HOME" in told and told.count("\n") == 1
