"""`pot-lab` as a user types it: refusals in one line, exit codes, JSON on the last line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pot_lab.cli.main import main
from pot_lab.crypto.identity import parse_address
from pot_lab.crypto.keystore import load_keystore
from tests.begin import heeding_interrupts


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    for name in ("POT_LAB_NETWORK", "POT_LAB_ACCOUNT", "POT_LAB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["orders"],
        ["wallet"],
        ["testnet", "status"],
        ["testnet", "down"],
        ["mine", "provider"],
        ["orders", "--network", "x"],
    ],
)
def test_without_a_network_each_command_says_so_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("pot-lab: NoTestnet: ") and "pot-lab testnet up" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["dance"], ["mine", "gold"], ["testnet"], ["testnet", "sideways"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


INTERRUPTED_WHILE_DELETING = """
import os, signal, sys, time
from pot_lab.cli import main as cli

class Old:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def begin(chosen):
    old = Old()
    del old
    time.sleep(20)

sys.argv = ["pot-lab", "orders"]
cli._orders = begin
sys.exit(cli.main())
"""


def test_an_interrupt_is_heeded_even_while_an_object_is_deleted() -> None:
    command = heeding_interrupts([sys.executable, "-c", INTERRUPTED_WHILE_DELETING])
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "pot-lab: stopped\n")


def test_a_damaged_network_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "network.toml"
    path.write_text("this is = = no toml")
    assert main(["orders", "--network", str(path), "--account", str(path)]) == 1
    assert "pot-lab: " in capsys.readouterr().err


def test_a_new_wallet_is_a_keystore_that_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POT_LAB_PASSWORD", "correct horse")
    path = tmp_path / "wallet.json"
    assert main(["wallet", "new", str(path), "--json"]) == 0
    address = json.loads(capsys.readouterr().out)["address"]
    assert load_keystore(path, "correct horse").address == parse_address(address)
    before = path.read_bytes()
    assert main(["wallet", "new", str(path)]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_demo_does_not_write_into_somebody_elses_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--run-dir", str(tmp_path)]) == 1
    assert "DemoFailed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unreadable_notebook_parameter_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "provider", "--set", "learning rate 0.1"]) == 1
    assert "NAME=VALUE" in capsys.readouterr().err
