"""What the contracts cost is what it was: each figure of a small network, within half a per cent.

`python -m tests.bench.test_gas_snapshot` writes the file anew, after a change that is meant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pot_lab.bench.gas import measure_gas

SNAPSHOT = Path(__file__).with_name("gas_snapshot.json")
TOLERANCE = 0.005
"""Signatures and dates differ in how many of their bytes are zero, which is some 50 gas of a transaction."""
SIGNERS, ACCOUNTS = 30, (1, 10)


def measured() -> dict[str, int | float]:
    """Every figure by its name, in one table."""
    found: dict[str, int | float] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for each, inner in value.items():
                add(f"{name}, {each}" if name else each, inner)
        elif isinstance(value, list):
            for inner in value:
                add(f"{name}, {inner['accounts']}", inner)
        else:
            found[name] = value

    add("", measure_gas(SIGNERS, ACCOUNTS))
    return found


@pytest.fixture(scope="module")
def figures() -> dict[str, int | float]:
    return measured()


def test_gas_is_what_it_was(figures: dict[str, int | float]) -> None:
    kept = json.loads(SNAPSHOT.read_text())
    assert set(figures) == set(kept)
    moved = {
        name: f"{kept[name]} -> {value}"
        for name, value in figures.items()
        if abs(value - kept[name]) > TOLERANCE * kept[name]
    }
    assert not moved, "gas has changed: write the snapshot anew if that is meant"


def test_gas_keeps_to_its_aims(figures: dict[str, int | float]) -> None:
    aims = {
        "cycle, settle, 18 of 30 signatures, 0 orders": 135_000,
        "cycle, settle, 30 of 30 signatures, 0 orders": 190_000,
        "accounts, 1, repeat: all per account": 240_000,
        "accounts, 10, repeat: all per account": 42_000,
        "deposits, stake, first": 84_000,
        "deposits, stake, more": 50_000,
        "deposits, placeOrder, no permit": 70_000,
    }
    assert {name: figures[name] for name, aim in aims.items() if figures[name] > aim} == {}


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(measured(), indent=2, sort_keys=True) + "\n")
