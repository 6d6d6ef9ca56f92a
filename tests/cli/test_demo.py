"""`pot-lab demo`: what it refuses before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.cli.main import main


def test_a_demo_does_not_write_into_somebody_elses_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    assert main(["demo", "--run-dir", str(folder)]) == 1
    assert "DemoFailed" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
