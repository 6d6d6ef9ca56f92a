"""A home without networks for every command, and no settings from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.testnet.testnet import Testnet


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    for name in ("POT_LAB_NETWORK", "POT_LAB_ACCOUNT", "POT_LAB_PASSWORD", "_POT_LAB_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    yield
    for net in Testnet.all():  # a command that should have refused has started one
        if net.folder.is_relative_to(tmp_path):
            net.down()
