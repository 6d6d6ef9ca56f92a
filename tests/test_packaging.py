"""The systemd units and container files: they parse, and every command and option that they name is there."""

from __future__ import annotations

import configparser
import json
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
TIMERS = sorted((PACKAGING / "systemd").glob("*.timer"))
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
        while isinstance(command, click.Group):
            command = command.commands[rest.pop(0)]
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


@pytest.mark.parametrize("path", TIMERS, ids=lambda path: path.name)
def test_a_timer_starts_a_unit_that_ends_by_itself(path: Path) -> None:
    timer = unit(path)
    assert timer["Timer"]["OnCalendar"] and timer["Install"]["WantedBy"] == "timers.target"
    assert unit(path.with_suffix(".service"))["Service"]["Type"] == "oneshot"


@pytest.mark.parametrize("path", [*UNITS, *TIMERS], ids=lambda path: path.name)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed here")
    for each in (path, path.with_suffix(".service")):
        instance = tmp_path / each.name.replace("@.", "@provider.")
        instance.write_text(each.read_text())
    instance = tmp_path / path.name.replace("@.", "@provider.")
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


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_the_health_check_asks_where_metrics_are_served(name: str) -> None:
    service = COMPOSE["services"][name]
    served = [word.partition("=")[2] for word in service["command"] if word.startswith(("--metrics", "--port"))]
    (port,) = {each.rpartition(":")[2] for each in served}
    assert f"http://127.0.0.1:{port}/healthz" in service["healthcheck"]["test"][-1]
    outside = [f"127.0.0.1:{port}:{port}"] if service.get("network_mode") != "host" else []
    assert service.get("ports", []) == outside, "Prometheus of the host reaches it, and nobody else"


@pytest.mark.parametrize(("where", "words"), list(commands()))
def test_all_that_run_for_long_serve_their_metrics_to_this_host(where: str, words: list[str]) -> None:
    if "pot_lab.store.server" in words or where == "compose store":
        return  # at its one port
    if words[words.index("pot-lab") + 1 :][:2] == ["store", "prune"] and where.endswith("-prune.service"):
        return  # it ends by itself
    given = " ".join(words).replace("=", " ").partition("--metrics ")[2].split()[0]
    if given == "${METRICS}":
        (given,) = re.findall(r"^Environment=METRICS=(.+)$", (PACKAGING / "systemd" / where).read_text(), re.MULTILINE)
    host, _, port = given.partition(":")
    assert host == ("0.0.0.0" if where == "compose validator" else "127.0.0.1") and 1_024 < int(port) < 65_536


def told_names() -> set[str]:
    """Every metric that a process of the package can tell, without `pot_lab_`: names of counters, gauges and facts."""
    package = PACKAGING.parent / "pot_lab"
    found: set[str] = set()
    for path in [*(package / "network").rglob("*.py"), *(package / "consensus").rglob("*.py")]:
        found |= set(re.findall(r'(?:counters|totals)\["([a-z_]+)"', path.read_text()))
    found |= set(re.findall(r'"([a-z_]+)": ', (package / "network" / "aggregator" / "metrics.py").read_text()))
    found |= set(re.findall(r'"(miner_[a-z_]+)"', (package / "jobs" / "loop_metrics.py").read_text()))
    for name in ("server.py", "custody_server.py"):
        facts = re.findall(r'"([a-z_]+)": ', (package / "store" / name).read_text())
        found |= {f"store_{each}" for each in facts}
    return found | {"peers_heard"}  # a part of its own, which names itself


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"pot_lab_([a-z_]+)", expression))


ALERTS = [
    rule
    for group in yaml.safe_load((PACKAGING / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((PACKAGING / "grafana" / "pot-lab.json").read_text())


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_that_are_told(rule: dict[str, Any]) -> None:
    assert metrics_in(rule["expr"]) <= told_names(), rule["expr"]
    assert metrics_in(rule["expr"]) or rule["expr"].startswith("up{")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
    assert rule["expr"].count("(") == rule["expr"].count(")")


def test_alerts_have_names_of_their_own() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) > 10


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_a_panel_names_metrics_that_are_told(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert metrics_in(target["expr"]) <= told_names(), target["expr"]
        assert metrics_in(target["expr"]) or target["expr"].startswith("up{")
    assert panel["datasource"]["uid"] == "${source}"


def test_panels_do_not_lie_on_each_other() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
    assert DASHBOARD["uid"] == "pot-lab" and DASHBOARD["templating"]["list"][0]["name"] == "source"


def test_a_name_that_nobody_tells_is_found() -> None:
    assert not metrics_in("rate(pot_lab_no_such_counter[5m])") <= told_names()
    assert {"view", "queries", "peers_muted", "miner_orders_active", "store_used_bytes"} <= told_names()
