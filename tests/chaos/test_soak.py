"""Load and random faults for minutes, on the real ledger, and the whole run judged at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.soak import soak

MOST_MEMORY_MIB, MOST_LOG_MIB = 80, 8


def is_bounded(found: dict[str, Any]) -> None:
    """Everything was answered, and nobody's memory or log grew with the run."""
    assert found["acknowledged"] == found["operations"] > 100, found
    assert found["peak_resident_mib"] < MOST_MEMORY_MIB, found
    assert found["log_and_snapshots_last_quarter_mib"] < MOST_LOG_MIB, found
    assert len(found["faults"]) > 3 and found["epochs_settled"] > 0, found


@pytest.mark.parametrize("seconds", [60, pytest.param(120, marks=pytest.mark.long)])
def test_a_minute_or_two_of_faults(tmp_path: Path, seconds: float) -> None:
    is_bounded(soak(tmp_path, seconds=seconds, seed=11))


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("n", [4, 7])
def test_half_an_hour_of_faults(tmp_path: Path, n: int) -> None:
    is_bounded(soak(tmp_path, seconds=1_800, seed=n, n=n))
