"""Every test of this folder has a home of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Notes of payments lie in the test's folder."""
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
