"""`pot-lab earnings`: what the miners of this host earned."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pot_lab.cli import main as cli
from pot_lab.jobs.earnings_book import EarningsBook, Entry
from pot_lab.protocol.parameters import GRAINS_PER_POT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    return tmp_path


def write(home: Path) -> None:
    book = EarningsBook(home / "work" / "provider-12345678-feed")
    now_ms = int(time.time() * 1000)
    for age_ms, outcome, pot, hours in (
        (40 * 86_400_000, "won", 100, 1),
        (2000, "won\x1b[2J", 20, 1),
        (1000, "lost", 0, 3),
    ):
        grains = pot * GRAINS_PER_POT
        book.append(
            Entry(
                ended_ms=now_ms - age_ms,
                order_id="ab" * 32,
                outcome=outcome,
                grains=grains,
                reasons=("winner",) if grains else (),
                worked_s=3600 * hours,
            )
        )


def test_a_host_without_miners_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["earnings"]) == 0
    assert "no order of a miner of this host has ended in 30 days" in capsys.readouterr().err
    assert cli.main(["earnings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_days_orders_and_energy_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home)
    assert cli.main(["earnings", "--watts", "250", "--kwh-price", "0.4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "provider-12345678-feed"
    assert lines[-2].split() == ["all", "2", "1", "20.0000", "4.00", "5.00"]
    assert lines[-1].strip() == "1.00 kWh at 250 W, 0.40 at 0.4 a kWh"
    assert cli.main(["earnings", "--orders", "--days", "90"]) == 0
    text = capsys.readouterr().out
    assert text.count("abababababab") == 3 and "\x1b" not in text and "won?[2J (winner)" in text
    assert cli.main(["earnings", "--json", "--orders"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["total"]["grains"] == 20 * GRAINS_PER_POT and [each["outcome"] for each in told["orders"]][1] == "lost"
