"""`pot-lab bench wan` from a terminal; the other figures run real processes, see tests/bench."""

from __future__ import annotations

import json

import click
import pytest

from pot_lab.cli.bench import table_rows
from pot_lab.cli.main import main


def test_wan_prints_rows_beside_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "wan", "--row", "20x4", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [(row["transactions"], row["nodes"], row["speed"]) for row in table["rows"]] == [
        (20, 4, "slow"), (20, 4, "medium"), (20, 4, "fast"),
    ]  # fmt: skip


@pytest.mark.parametrize("row", ["4", "x4", "20x", "20x4x4", "-20x4", "ax4", ""])
def test_a_row_is_two_numbers(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.BadParameter):
        table_rows(None, None, [row])
    assert main(["bench", "wan", "--row", row]) == 2
    assert "TRANSACTIONSxNODES" in capsys.readouterr().err
