"""A home of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab import home


@pytest.fixture(autouse=True)
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this home's networks."""
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    for name in ("POT_LAB_NETWORK", "POT_LAB_ACCOUNT", "POT_LAB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return home.networks()
