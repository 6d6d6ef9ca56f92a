"""`pot-lab jobs`: what ran, why it failed, and an end for it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from pot_lab.cli.main import cli
from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner


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


# --- one job, as a user handles it ---------------------------------------------------------------------------------
WORKS = """
import pathlib, time
from pot_lab.jobs.progress import Progress
print("begun with", rate)
Progress(10)(3, loss=0.5)
pathlib.Path("begun").touch()
while not pathlib.Path("end").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A job that runs until a file `end` lies in its folder."""
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    parameters = nbformat.v4.new_code_cell("rate = 1", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(WORKS)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "recipe.ipynb")
    runner = JobRunner(tmp_path)
    yield await_begun(runner.start(tmp_path / "recipe.ipynb", {"rate": 2}, kind="provider", job_id="provider-1"))
    for each in runner.jobs():
        each.cancel()
        each.wait(120)


def await_begun(job: Job) -> Job:
    deadline_s = time.monotonic() + 240
    while not (job.directory / "begun").exists() or not job.events("progress"):
        assert time.monotonic() < deadline_s and job.state == "running", job.log.read_text()
        time.sleep(0.05)
    return job


@pytest.mark.slow
def test_a_job_is_shown_stopped_resumed_and_run_again(job: Job) -> None:
    facts = json.loads(run("show", "prov", "--json"))
    assert (facts["state"], facts["attempt"], facts["cell"]) == ("running", 1, 2)
    assert facts["progress"]["step"] == 3 and facts["parameters"] == {"rate": 2} and facts["error"] is None
    assert "begun with 2" in run("log", job.id) and run("log", job.id, "--lines", "0") == ""
    assert "begun with 2" in json.loads(run("log", job.id, "--json"))["lines"]
    (job.directory / "begun").unlink()

    assert run("stop", "provider-1") == "provider-1: stopping\nprovider-1: cancelled\n"
    assert job.is_stopped and not job.is_stopping
    assert run("stop", "provider-1") == "provider-1: cancelled\n"

    assert json.loads(run("resume", job.id, "--json")) == {"id": "provider-1", "state": "running"}
    await_begun(job)
    assert not job.is_stopped
    assert "JobRunning" in refused("rerun", job.id)
    os.kill(int(job.pid or 0), signal.SIGTERM)  # nobody announced it
    assert job.wait(120) == "cancelled" and not job.is_stopped

    run("resume", job.id)
    (job.directory / "end").touch()
    assert "begun with 2" in run("log", "--follow", job.id)
    assert "state      done" in run("show", job.id) and "attempt    3" in run("show", job.id)
    assert "JobDone" in refused("resume", job.id)

    again = json.loads(run("rerun", job.id, "--json"))
    assert again["id"] != job.id and again["state"] == "running"
    second = await_begun(JobRunner(job.directory.parents[1]).get(again["id"]))
    assert second.parameters == job.parameters and second.kind == "provider"
    assert "UnknownJob" in refused("show", "provider-") and "one of" in refused("show", "provider-")
    assert json.loads(run("stop", second.id, "--no-wait", "--json").splitlines()[-1])["id"] == second.id
    assert second.wait(120) == "cancelled"


@pytest.mark.parametrize("command", ["show", "log", "stop", "resume", "rerun"])
@pytest.mark.parametrize("name", ["none", "../none", "", "old/../new"])
def test_a_job_that_is_none_is_refused(home: Path, command: str, name: str) -> None:
    assert "UnknownJob" in refused(command, name)


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["jobs", *arguments])
    assert result.exit_code == 1
    return f"{type(result.exception).__name__} {result.exception}"
