"""Every program of `benchmarks/` has the same command line and leaves the same kind of report."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAMS = sorted(path for path in FOLDER.glob("*.py") if path.name != "report.py")


def run(name: str, *given: str) -> str:
    command = [sys.executable, str(FOLDER / name), *given]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_measures_through_the_common_command_line(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "report"]
    assert "main" in [alias.name for node in imported for alias in node.names]
    last = tree.body[-1]
    assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"
    assert [ast.unparse(statement).startswith("main(__doc__, ") for statement in last.body] == [True]


def test_a_report_has_settings_figures_and_a_calibration(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    report = json.loads(run("calibration.py", "--json", "--output", str(output)))
    assert report == json.loads(output.read_text())
    assert set(report) == {"benchmark", "settings", "figures", "calibration"}
    assert report["benchmark"] == "calibration"
    assert report["calibration"]["recover_per_s"] > 0


@pytest.mark.parametrize(("name", "option"), [("failover.py", "--kills"), ("gas.py", "--signers")])
def test_help_names_the_common_options_and_the_programs_own(name: str, option: str) -> None:
    text = run(name, "--help")
    assert "--json" in text and "--output FILE" in text and option in text
