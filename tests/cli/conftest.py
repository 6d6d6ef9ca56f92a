"""A home without networks for every command, and no settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    for name in ("POT_LAB_NETWORK", "POT_LAB_ACCOUNT", "POT_LAB_PASSWORD", "_POT_LAB_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
