"""`pot-lab store`: pins are kept, and nothing is removed where nobody says what orders name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pot_lab.cli.main import main
from pot_lab.store import Store

DIGEST = "ab" * 32


def test_a_pin_is_put_and_taken_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path)]
    assert main(["store", "pin", DIGEST, *root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"digest": DIGEST, "pinned": True}
    assert main(["store", "unpin", DIGEST, *root]) == 0
    assert capsys.readouterr().out == f"{DIGEST} is pinned no more\n"
    assert main(["store", "unpin", DIGEST, *root]) == 1
    assert "not pinned" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ab", "x" * 64, "ab" * 31 + " a"])
def test_a_name_that_is_no_digest_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "pin", name, "--root", str(tmp_path)]) == 1
    assert "64 hexadecimal digits" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_without_a_network_nothing_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = Store(tmp_path / "blobs").put(b"old")
    os.utime(tmp_path / "blobs" / link.digest.hex(), (0, 0))
    assert main(["store", "prune", "--root", str(tmp_path / "blobs")]) == 1
    assert "NoTestnet" in capsys.readouterr().err and (tmp_path / "blobs" / link.digest.hex()).exists()
