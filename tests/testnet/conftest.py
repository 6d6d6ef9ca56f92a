"""A home of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pot_lab import home


@pytest.fixture(autouse=True)
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this home's networks."""
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    for name in ("POT_LAB_NETWORK", "POT_LAB_ACCOUNT", "POT_LAB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return home.networks()


@pytest.fixture(autouse=True)
def no_process_stays(tmp_path: Path) -> Iterator[None]:
    """Kill what a failing test has left, also where the code under test cannot stop it."""
    yield
    for child in psutil.Process().children():
        try:
            if Path(child.cwd()).is_relative_to(tmp_path):
                child.kill()
        except (psutil.Error, OSError):
            continue  # it has ended
