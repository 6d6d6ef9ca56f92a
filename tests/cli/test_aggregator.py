"""`pot-lab aggregator`: what it refuses; what it runs is tested in tests/network."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.cli.aggregator import aggregator
from pot_lab.cli.main import main

FOLDERS = ["--network", "network.toml", "--keys", "keys", "--data", "data"]


@pytest.mark.parametrize("place", [[], ["--index", "0", "--listen", "localhost", "7000", "7001", "7002"]])
def test_its_place_is_given_once(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aggregator", *FOLDERS, *place]) == 2
    assert "exactly one of --index and --listen is needed" in capsys.readouterr().err


@pytest.mark.parametrize("ports", [("0", "7", "8"), ("abc", "7", "8"), ("7", "65536", "8"), ("7", "7", "8")])
def test_where_it_listens_has_to_be_three_ports(ports: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aggregator", *FOLDERS, "--listen", "localhost", *ports]) == 2
    assert "Invalid value for '--listen'" in capsys.readouterr().err


def test_without_its_network_it_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["aggregator", *FOLDERS, "--index", "0"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("place", ["0", "abc", "65536", "host:", ""])
def test_where_metrics_are_served_has_to_be_a_port(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aggregator", *FOLDERS, "--index", "0", "--metrics", place]) == 2
    assert "names no TCP port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "served_at"),
    [("9000", ("127.0.0.1", 9000)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:80", ("::1", 80))],
)
def test_metrics_are_served_on_this_host_unless_told_otherwise(place: str, served_at: tuple[str, int]) -> None:
    [option] = [each for each in aggregator.params if each.name == "metrics"]
    assert option.type.convert(place, option, None) == served_at
