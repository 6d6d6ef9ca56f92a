"""The engine by itself, as `papermill --engine pot` runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow
PATIENCE_S = 400


def papermill(recipe: Path, events: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--engine",
        "pot",
        "--no-progress-bar",
        str(recipe),
        str(recipe) + ".out",
    ]
    environment = {**os.environ, "POT_LAB_EVENTS": str(events)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read(events: Path) -> list[dict]:
    return [json.loads(line) for line in events.read_text().splitlines()]


def test_papermill_finds_the_engine_and_progress_is_thinned(write_notebook, tmp_path: Path) -> None:
    recipe = write_notebook(
        "from pot_lab.jobs.progress import Progress\n"
        "progress = Progress(1000, every_s=0.0)\n"
        "for step in range(1, 1001):\n"
        "    progress(step)\n",
    )
    process = papermill(recipe, tmp_path / "events.jsonl")
    assert process.communicate(timeout=PATIENCE_S)[0] is not None
    assert process.returncode == 0
    events = read(tmp_path / "events.jsonl")
    steps = [event["data"]["step"] for event in events if event["kind"] == "progress"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 1000
    assert len(steps) < 500  # at one in 0.25 s, all of them would take four minutes
    saved = nbformat.read(str(recipe) + ".out", as_version=4)
    assert saved.cells[0].outputs[0].data["application/vnd.pot-lab.progress+json"]["step"] == 1000


def test_sigterm_leaves_a_notebook_that_says_so(write_notebook, tmp_path: Path, until) -> None:
    begun = tmp_path / "begun"
    recipe = write_notebook(f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)")
    process = papermill(recipe, tmp_path / "events.jsonl")
    until(begun.exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    kinds = [event["kind"] for event in read(tmp_path / "events.jsonl")]
    assert kinds[-2:] == ["cancel_requested", "cell_failed"]
    saved = nbformat.read(str(recipe) + ".out", as_version=4)
    assert saved.metadata.papermill.exception is True
