"""A job's whole process tree ends with it: workers in its group, in sessions of their own, and after a kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.jobs.leftovers import end_leftovers
from pot_lab.jobs.runner import JobRunner
from tests.running import is_running

WORKER = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session={session})
open("worker", "w").write(str(worker.pid))
{after}
"""


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("after", ["", "raise ValueError('bug')", "import os; os.kill(os.getpid(), 9)"])
def test_workers_end_with_their_job_however_it_ends(
    session: bool, after: str, runner: JobRunner, write_notebook: Callable[..., Path]
) -> None:
    job = runner.start(write_notebook(WORKER.format(session=session, after=after)), {}, kind="t")
    assert job.wait(400) == ("failed" if after else "done")
    assert not is_running(int((job.directory / "worker").read_text()))


def test_a_cancelled_jobs_workers_end(
    runner: JobRunner, write_notebook: Callable[..., Path], until: Callable[..., None]
) -> None:
    waiting = "import time; time.sleep(600)"
    job = runner.start(write_notebook(WORKER.format(session=True, after=waiting)), {}, kind="t")
    until(lambda: (job.directory / "worker").exists() and (job.directory / "worker").read_text(), job)
    job.cancel()
    assert job.wait(400) == "cancelled"
    assert not is_running(int((job.directory / "worker").read_text()))


def test_a_resumed_job_ends_what_its_killed_predecessor_left(
    runner: JobRunner, write_notebook: Callable[..., Path], until: Callable[..., None]
) -> None:
    waiting = "import os, time; time.sleep(0 if os.path.exists('once') else 600)"
    job = runner.start(write_notebook("import os", WORKER.format(session=True, after=waiting)), {}, kind="t")
    until(lambda: (job.directory / "worker").exists() and (job.directory / "worker").read_text(), job)
    first, pid = int((job.directory / "worker").read_text()), job.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: job.state == "lost", job)
    (job.directory / "once").touch()
    assert runner.resume(job.id).wait(400) == "done"
    assert not is_running(first)


def test_other_jobs_processes_are_left_alone(
    runner: JobRunner, write_notebook: Callable[..., Path], tmp_path: Path
) -> None:
    import subprocess
    import sys

    environment = {**os.environ, "POT_LAB_JOB_DIR": str(tmp_path / "other")}
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    try:
        assert runner.start(write_notebook("1"), {}, kind="t").wait(400) == "done"
        assert end_leftovers(tmp_path / "none") == 0 and other.poll() is None
    finally:
        assert end_leftovers(tmp_path / "other") == 1
        other.wait(60)
