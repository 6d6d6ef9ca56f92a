"""`pot-lab jobs`: what ran, why it failed, and an end for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pot_lab.cli.main import cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    for number, (name, state) in enumerate((("old", "done"), ("new", "failed"))):
        folder = tmp_path / "jobs" / name
        folder.mkdir(parents=True)
        spec = {"kind": "provider", "parameters": {}, "created_ms": 1000 + number}
        error = {"name": "ValueError", "message": "out of memory", "cell": 2} if state == "failed" else None
        (folder / "job.json").write_text(json.dumps(spec))
        (folder / "state.json").write_text(json.dumps({"state": state, "ended_ms": 2000, "error": error}))
        (folder / "lock").touch()
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["jobs", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_jobs_are_listed_newest_first_with_why_they_failed(home: Path) -> None:
    first, second = run().splitlines()
    assert first.startswith("new ") and "ValueError: out of memory (cell 2," in first
    assert second.startswith("old ") and "done" in second
    rows = json.loads(run("--json"))
    assert [row["id"] for row in rows] == ["new", "old"] and rows[0]["error"]["name"] == "ValueError"
    assert len(run("list", "--last", "1").splitlines()) == 1


def test_a_host_without_jobs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "none"))
    assert "no job has run" in run() and json.loads(run("--json")) == []


def test_jobs_are_pruned_by_age(home: Path) -> None:
    assert run("prune", "--dry-run").startswith("would remove 2 jobs and 0 orders")
    assert (home / "jobs" / "old").exists()
    assert json.loads(run("prune", "--days", "30", "--json"))["jobs"] == 2
    assert not (home / "jobs" / "old").exists()
    assert run("prune").startswith("removed 0 jobs")
