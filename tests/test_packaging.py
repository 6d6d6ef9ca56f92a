"""The systemd units and container files: they parse, and every command and option that they name is there."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pot_lab.cli.main import cli

PACKAGING = Path(__file__).parent.parent / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((PACKAGING / "compose.yaml").read_text())


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(path)
    return parsed


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line in the files, as words."""
    for path in UNITS:
        yield path.name, shlex.split(unit(path)["Service"]["ExecStart"])
    for name, service in COMPOSE["services"].items():
        yield f"compose {name}", [*service.get("entrypoint", ["pot-lab"]), *service["command"]]


@pytest.mark.parametrize(("where", "words"), list(commands()))
def test_every_command_and_option_is_there(where: str, words: list[str]) -> None:
    if "pot-lab" in words:
        _, name, *rest = words[words.index("pot-lab") :]
        command = cli.commands[name]
        assert isinstance(command, click.Command)
        known = {option for each in command.params for option in each.opts}
    else:
        module = words[words.index("-m") + 1 :]
        assert module[0] == "pot_lab.store.server"
        source = (PACKAGING.parent / "pot_lab" / "store" / "server.py").read_text()
        known, rest = set(re.findall(r'add_argument\("(--[a-z-]+)"', source)), module[1:]
    used = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert used and used <= known, where


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_run_as_nobody_special_and_start_again(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == "pot-lab" and service["NoNewPrivileges"] == "yes"
    assert service["Restart"] == "on-failure" and service["UMask"] == "0077"
    assert int(service["LimitNOFILE"]) >= 8_192


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed here")
    instance = tmp_path / path.name.replace("@.", "@provider.")
    instance.write_text(path.read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(instance)], capture_output=True, text=True, check=False
    )
    told = [line for line in (done.stdout + done.stderr).splitlines() if path.name.partition("@")[0] in line]
    assert told == []


def test_containers_hold_no_privilege_and_keep_their_data() -> None:
    assert COMPOSE["services"].keys() == {"aggregator", "store", "validator"}
    named = set(COMPOSE["volumes"])
    for name, service in COMPOSE["services"].items():
        merged: dict[str, Any] = service
        assert merged["cap_drop"] == ["ALL"] and merged["read_only"] and merged["restart"] == "on-failure", name
        assert {volume.partition(":")[0] for volume in merged["volumes"] if not volume.startswith(".")} <= named
        assert all(volume.endswith(":ro") for volume in merged["volumes"] if volume.startswith(".")), name
    text = (PACKAGING / "Containerfile").read_text()
    assert "USER pot-lab" in text and "constraints.txt" in text


def test_the_health_check_asks_where_metrics_are_served() -> None:
    aggregator = COMPOSE["services"]["aggregator"]
    (metrics,) = [word.partition("=")[2] for word in aggregator["command"] if word.startswith("--metrics")]
    assert f"http://{metrics}/healthz" in aggregator["healthcheck"]["test"][-1]
