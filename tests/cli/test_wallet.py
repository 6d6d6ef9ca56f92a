"""`pot-lab wallet`: keystores are made and never overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pot_lab.cli.main import cli, main
from pot_lab.crypto.identity import parse_address
from pot_lab.crypto.keystore import load_keystore
from pot_lab.protocol.parameters import Role


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("POT_LAB_PASSWORD", "correct horse")
    return "correct horse"


def test_a_new_wallet_is_a_keystore_that_is_never_overwritten(
    tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wallet.json"
    assert main(["wallet", "new", str(path), "--json"]) == 0
    address = json.loads(capsys.readouterr().out)["address"]
    assert load_keystore(path, password).address == parse_address(address)
    before = path.read_bytes()
    assert main(["wallet", "new", str(path)]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_keystore_that_cannot_be_written_is_refused(
    tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["wallet", "new", str(tmp_path / "file" / "deeper" / "wallet.json")]) == 1
    assert "pot-lab: PotLabError: the keystore cannot be written" in capsys.readouterr().err


def test_a_new_wallet_needs_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "new"]) == 2
    assert "Missing argument 'PATH'" in capsys.readouterr().err


def test_options_without_a_command_are_those_of_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "--json", "--help"]) == 0
    assert "Usage: pot-lab wallet show" in capsys.readouterr().out
    assert main(["wallet", "--help"]) == 0
    assert "Usage: pot-lab wallet [OPTIONS] COMMAND" in capsys.readouterr().out


def test_one_stakes_for_the_ledgers_roles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "stake", "gold"]) == 2
    error = capsys.readouterr().err
    assert all(repr(role.name.lower()) in error for role in Role)
    stake = cli.commands["wallet"].commands["stake"]  # type: ignore[attr-defined]
    assert len(stake.params[0].type.choices) == len(Role)


@pytest.mark.parametrize("inherited", [subprocess.DEVNULL, subprocess.PIPE])
def test_without_a_terminal_one_line_says_which_variable_to_set(tmp_path: Path, inherited: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "POT_LAB_PASSWORD"}
    for arguments in (["new", str(tmp_path / "wallet.json")], ["import", str(tmp_path / "b.json"), "--from", "a.json"]):
        asked = subprocess.run(
            [sys.executable, "-m", "pot_lab.cli", "wallet", *arguments],
            stdin=inherited, capture_output=True, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        assert asked.returncode == 1 and "Traceback" not in asked.stderr, asked.stderr
        assert "there is no terminal to ask for it" in asked.stderr and "PASSWORD" in asked.stderr
    assert not (tmp_path / "wallet.json").exists()
