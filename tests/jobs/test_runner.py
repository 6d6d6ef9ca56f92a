"""Jobs end in exactly one true state, whoever starts, cancels, kills or looks; every kernel here is a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from pot_lab.jobs.errors import (
    BadJobParameters,
    JobDone,
    JobExists,
    JobRunning,
    NotebookUnusable,
    StillRunning,
    UnknownJob,
)
from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner
from tests.running import is_running

pytestmark = pytest.mark.slow
PATIENCE_S = 400
REPORTS = """
from pot_lab.jobs.progress import Progress
from tests.running import is_running
progress = Progress(steps)
for step in range(1, steps + 1):
    progress(step, loss=1 / step, note="so far", broken=float("nan"))
print("trained with", rate)
"""
WAITS = """
import pathlib, time
pathlib.Path("begun").touch()
while True:
    time.sleep(0.05)
"""
HEEDLESS = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path("begun").touch()
while True:
    time.sleep(0.05)
"""


def kernel_of(job: Job) -> psutil.Process:
    return psutil.Process(job.events("kernel_started")[-1]["pid"])


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or not is_running(process.pid)


def errors_in(path: Path) -> list[str]:
    notebook = nbformat.read(path, as_version=4)
    return [out.ename for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]


def test_a_job_runs_its_notebook_and_tells_of_it(runner: JobRunner, write_notebook) -> None:
    recipe = write_notebook(
        "md:# A recipe",
        REPORTS,
        "import json, os, pathlib\n"
        "pathlib.Path('where.json').write_text(json.dumps([os.getcwd(), os.environ['POT_LAB_JOB_DIR'],"
        " os.environ['POT_LAB_JOB_ID'], os.environ['EXTRA'], tags]))",
        parameters="rate = 0.5\nsteps = 1\ntags = []",
    )
    parameters: dict[str, Any] = {"rate": 0.25, "steps": 500, "tags": ["a", {"b": None}]}
    job = runner.start(recipe, parameters, kind="provider", env={"EXTRA": "more"})
    assert job.state == "running"
    assert job.wait(PATIENCE_S) == "done", job.log.read_text()
    assert job.error is None
    assert job.pid is None
    here = str(job.directory.resolve())
    assert json.loads((job.directory / "where.json").read_text()) == [here, here, job.id, "more", parameters["tags"]]
    assert "trained with 0.25" in job.log.read_text()
    assert errors_in(job.output) == []
    kinds = [event["kind"] for event in job.events()]
    assert kinds[:2] == ["started", "kernel_started"]
    assert kinds[-1] == "ended"
    assert kinds.count("cell_started") == 5  # the injected parameters are a cell too
    assert kinds.count("cell_done") == 4
    last = job.events("progress")[-1]["data"]
    assert last == {"step": 500, "total": 500, "loss": 1 / 500, "note": "so far", "broken": None}
    assert is_gone_or_absent(job)
    with pytest.raises(JobDone):
        runner.resume(job.id)


def is_gone_or_absent(job: Job) -> bool:
    try:
        return is_gone(kernel_of(job))
    except psutil.NoSuchProcess:
        return True


def test_an_error_in_a_cell_fails_the_job_and_names_the_cell(runner: JobRunner, write_notebook) -> None:
    job = runner.start(write_notebook("x = 1", "raise ValueError('no such data')", "y = 2"), {}, kind="provider")
    assert job.wait(PATIENCE_S) == "failed"
    assert job.error == {"name": "ValueError", "message": "no such data", "cell": 1}
    assert errors_in(job.output) == ["ValueError"]
    assert [event["cell"] for event in job.events("cell_started")] == [0, 1]
    assert [event["name"] for event in job.events("cell_failed")] == ["ValueError"]


def test_cancel_interrupts_the_kernel_and_saves_the_notebook(runner: JobRunner, write_notebook, until) -> None:
    job = runner.start(write_notebook("print('before')", WAITS, "print('after')"), {}, kind="provider")
    until((job.directory / "begun").exists, job)
    with pytest.raises(StillRunning):
        job.wait(0.0)
    kernel = kernel_of(job)
    job.cancel()
    assert job.wait(PATIENCE_S) == "cancelled"
    assert job.error is None
    assert errors_in(job.output) == ["KeyboardInterrupt"]
    saved = nbformat.read(job.output, as_version=4)
    assert saved.metadata.papermill.exception is True
    assert "after\n" not in [out.get("text") for cell in saved.cells for out in cell.get("outputs", [])]
    assert len(job.events("cancel_requested")) == 1
    until(lambda: is_gone(kernel), job)
    job.cancel()  # of a job that has ended: nothing happens
    assert job.state == "cancelled"


def test_cancel_right_after_the_start_is_not_lost(runner: JobRunner, write_notebook) -> None:
    job = runner.start(write_notebook(WAITS), {}, kind="provider")
    job.cancel()
    assert job.wait(PATIENCE_S) == "cancelled"


def test_a_kernel_that_does_not_heed_the_interrupt_is_killed(runner: JobRunner, write_notebook, until) -> None:
    runner = JobRunner(runner.home, cancel_grace_s=3.0)
    job = runner.start(write_notebook(HEEDLESS), {}, kind="provider")
    until((job.directory / "begun").exists, job)
    kernel = kernel_of(job)
    job.cancel()
    assert job.wait(PATIENCE_S) == "cancelled"
    assert errors_in(job.output) == ["Cancelled"]
    until(lambda: is_gone(kernel), job)


def test_a_notebook_that_catches_the_interrupt_goes_no_further(runner: JobRunner, write_notebook, until) -> None:
    catches = WAITS.replace(
        "while True:\n    time.sleep(0.05)", "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    pass"
    )
    job = runner.start(write_notebook(catches, "pathlib.Path('went on').touch()"), {}, kind="provider")
    until((job.directory / "begun").exists, job)
    job.cancel()
    assert job.wait(PATIENCE_S) == "cancelled"
    assert not (job.directory / "went on").exists()


def test_a_killed_kernel_fails_the_job(runner: JobRunner, write_notebook, until) -> None:
    job = runner.start(write_notebook(WAITS, "print('after')"), {}, kind="provider")
    until((job.directory / "begun").exists, job)
    kernel_of(job).kill()
    assert job.wait(PATIENCE_S) == "failed"
    assert job.error is not None
    assert job.error["name"] == "DeadKernelError"
    assert errors_in(job.output) == ["DeadKernelError"]


def test_a_killed_supervisor_leaves_a_lost_job_that_resumes_from_its_checkpoint(
    runner: JobRunner, write_notebook, until
) -> None:
    steps = """
import pathlib, time
checkpoint = pathlib.Path("checkpoint")
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
resumed_from = step
while step < wanted:
    step += 1
    checkpoint.write_text(str(step))
    while step == 3 and resumed_from == 0:
        pathlib.Path("begun").touch()
        time.sleep(0.05)
print("resumed from", resumed_from)
"""
    job = runner.start(write_notebook(steps, parameters="wanted = 1"), {"wanted": 5}, kind="provider", env={"A": "b"})
    until((job.directory / "begun").exists, job)
    kernel = kernel_of(job)
    with pytest.raises(JobRunning):
        runner.resume(job.id)
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    until(lambda: job.state == "lost", job)
    resumed = runner.resume(job.id)
    assert is_gone(kernel)  # two kernels never write one checkpoint
    assert resumed.wait(PATIENCE_S) == "done", job.log.read_text()
    assert (job.directory / "checkpoint").read_text() == "5"
    assert "resumed from 3" in job.log.read_text()
    assert (job.directory / "output-1.ipynb").exists()
    assert [event["attempt"] for event in job.events("started")] == [1, 2]


def test_another_process_finds_follows_and_cancels_a_job(runner: JobRunner, write_notebook, until) -> None:
    job = runner.start(write_notebook(WAITS), {"a": 1}, kind="validator", job_id="mine")
    until((job.directory / "begun").exists, job)
    stranger = f"""
from pot_lab.jobs.runner import JobRunner
(job,) = JobRunner({str(runner.home)!r}).jobs()
print(job.id, job.kind, job.parameters, job.state)
job.cancel()
print(job.wait({PATIENCE_S}))
"""
    said = subprocess.run(
        [sys.executable, "-c", stranger], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert said.stdout.splitlines() == ["mine validator {'a': 1} running", "cancelled"]
    assert job.state == "cancelled"


def test_a_job_outlives_the_process_that_started_it(runner: JobRunner, write_notebook, until) -> None:
    recipe = write_notebook(WAITS)
    starter = f"""
from pot_lab.jobs.runner import JobRunner
JobRunner({str(runner.home)!r}).start({str(recipe)!r}, {{}}, kind="provider", job_id="left")
"""
    subprocess.run([sys.executable, "-c", starter], timeout=PATIENCE_S, check=True)
    job = runner.get("left")
    until((job.directory / "begun").exists, job)
    assert job.state == "running"
    assert job.pid is not None
    assert os.getsid(job.pid) == job.pid


@pytest.mark.parametrize(
    "parameters",
    [
        {"x": float("nan")},
        {"x": b"raw"},
        {"x": {1: 2}},
        {"x": [object()]},
        {"not a name": 1},
        {"import os; x": 1},
        {"_hidden": 1},
    ],
)
def test_parameters_that_json_cannot_hold_are_refused(runner: JobRunner, write_notebook, parameters: dict) -> None:
    with pytest.raises(BadJobParameters):
        runner.start(write_notebook("x = 1"), parameters, kind="provider")
    assert runner.jobs() == []


def test_what_is_no_notebook_is_refused(runner: JobRunner, tmp_path: Path) -> None:
    (tmp_path / "pickle.ipynb").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "old.ipynb").write_text('{"nbformat": 3, "worksheets": []}')
    (tmp_path / "huge.ipynb").write_bytes(b" " * (33 << 20))
    for name in ("pickle.ipynb", "old.ipynb", "huge.ipynb", "absent.ipynb"):
        with pytest.raises(NotebookUnusable):
            runner.start(tmp_path / name, {}, kind="provider")
    assert runner.jobs() == []


def test_ids_are_plain_names_used_once(runner: JobRunner, write_notebook) -> None:
    recipe = write_notebook("x = 1")
    job = runner.start(recipe, {}, kind="provider", job_id="one")
    with pytest.raises(JobExists):
        runner.start(recipe, {}, kind="provider", job_id="one")
    for bad in ("../one", "a/b", "", ".hidden", "x" * 200):
        with pytest.raises(BadJobParameters):
            runner.start(recipe, {}, kind="provider", job_id=bad)
        with pytest.raises(UnknownJob):
            runner.get(bad)
    with pytest.raises(UnknownJob):
        runner.get("two")
    assert job.wait(PATIENCE_S) == "done"


def test_a_jobs_folder_is_for_its_owner_only(runner: JobRunner, write_notebook) -> None:
    job = runner.start(write_notebook("x = 1"), {}, kind="provider")
    assert job.directory.stat().st_mode & 0o077 == 0
    assert job.wait(PATIENCE_S) == "done"
