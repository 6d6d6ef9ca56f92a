"""Jobs forked from a process that has done their imports: the same as those started by a command, and sooner."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pot_lab.forking import short_path
from pot_lab.jobs.fork_client import ForkClient
from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner
from tests.jobs import test_leftovers, test_runner
from tests.jobs.test_runner import PATIENCE_S, WAITS, is_gone, kernel_of
from tests.running import is_running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only"),
]
LOOKS = """
import json, os, pathlib, random, sys
import numpy, torch
pathlib.Path("seen.json").write_text(json.dumps({
    "cwd": os.getcwd(), "environment": dict(os.environ), "empty": "" in sys.path, "parent": os.getppid(),
    "draws": [random.random(), float(numpy.random.rand()), float(torch.rand(1))],
    "descriptors": [os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{one}")],
}))
"""


class Serving:
    """A fork server of the tests, and how its jobs' processes are known."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.client = ForkClient(home / "fork", "shared")

    def start(self) -> None:
        while not self.client.is_ready:
            self.client.prepare(dict(os.environ))

    @property
    def process(self) -> psutil.Process:
        (found,) = [
            process
            for process in psutil.process_iter()
            if is_running(process.pid) and str((self.home / "fork").resolve()) in process.cmdline() and _leads(process)
        ]
        return found


def _leads(process: psutil.Process) -> bool:
    """Whether it is the server, not a job that was forked from it and has its command line."""
    parent = process.parent()
    return parent is None or parent.cmdline() != process.cmdline()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    one = Serving(tmp_path_factory.mktemp("forks"))
    one.start()
    yield one
    one.client.close()
    process = one.process
    process.terminate()
    process.wait(PATIENCE_S)


@pytest.fixture
def runner(serving: Serving, tmp_path: Path) -> Iterator[JobRunner]:
    """In place of the runner of the other tests: its jobs are forked."""
    one = JobRunner(tmp_path / "home", cancel_grace_s=PATIENCE_S, forks=serving.client)
    yield one
    for job in one.jobs():
        job.cancel()
    for job in one.jobs():
        job.wait(PATIENCE_S)


def was_forked(job: Job, serving: Serving) -> bool:
    """Whether the job's process has the server's command line."""
    return psutil.Process(job.events("started")[-1]["pid"]).cmdline() == serving.process.cmdline()


# Those tests again, with forked processes.
test_an_error_in_a_cell = test_runner.test_an_error_in_a_cell_fails_the_job_and_names_the_cell
test_cancel_interrupts = test_runner.test_cancel_interrupts_the_kernel_and_saves_the_notebook
test_cancel_right_after_the_start = test_runner.test_cancel_right_after_the_start_is_not_lost
test_a_killed_kernel = test_runner.test_a_killed_kernel_fails_the_job
test_workers_end_with_their_job = test_leftovers.test_workers_end_with_their_job_however_it_ends
test_a_resumed_job_ends_leftovers = test_leftovers.test_a_resumed_job_ends_what_its_killed_predecessor_left


def test_a_forked_job_has_its_own_environment_folder_and_randomness(
    runner: JobRunner, serving: Serving, write_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POT_LAB_ONLY_NOW", "after the server's start")
    monkeypatch.setenv("POT_LAB_PASSWORD", "never seen")
    recipe = write_notebook(LOOKS)
    seen = []
    for number in range(2):
        job = runner.start(recipe, {}, kind="t", job_id=f"job-{number}")
        assert job.wait(PATIENCE_S) == "done", job.log.read_text()
        seen.append(json.loads((job.directory / "seen.json").read_text()))
        here = str(job.directory.resolve())
        assert seen[-1]["cwd"] == here == seen[-1]["environment"]["POT_LAB_JOB_DIR"] and seen[-1]["empty"]
        assert seen[-1]["environment"]["POT_LAB_JOB_ID"] == job.id
        assert seen[-1]["environment"]["POT_LAB_ONLY_NOW"] == "after the server's start"
        assert "POT_LAB_PASSWORD" not in seen[-1]["environment"]
        assert seen[-1]["parent"] == job.events("started")[0]["pid"]
        assert not [path for path in seen[-1]["descriptors"] if path.endswith(("/lock", ".lock", ".sock"))]
    assert all(first != second for first, second in zip(seen[0]["draws"], seen[1]["draws"], strict=True))


def test_a_killed_job_process_takes_its_kernel_along_and_is_resumed(
    runner: JobRunner, serving: Serving, write_notebook: Callable[..., Path], until: Callable[..., None]
) -> None:
    job = runner.start(write_notebook("import os", "if os.path.exists('begun'): raise SystemExit", WAITS), {}, kind="t")
    until((job.directory / "begun").exists, job)
    assert was_forked(job, serving)
    kernel = kernel_of(job)
    assert job.pid is not None and os.getsid(job.pid) == job.pid and os.getsid(kernel.pid) == kernel.pid
    os.kill(job.pid, signal.SIGKILL)
    until(lambda: job.state == "lost", job)
    until(lambda: is_gone(kernel), job)
    runner.resume(job.id)
    until(lambda: len(job.events("kernel_started")) == 2, job)
    assert was_forked(job, serving)


def test_what_a_notebook_forks_ends_with_the_job(runner: JobRunner, write_notebook: Callable[..., Path]) -> None:
    forks = """
import os, time
pid = os.fork()
if pid == 0:
    os.setsid()
    time.sleep(600)
    os._exit(0)
open("worker", "w").write(str(pid))
"""
    job = runner.start(write_notebook(forks), {}, kind="t")
    assert job.wait(PATIENCE_S) == "done", job.log.read_text()
    assert not is_running(int((job.directory / "worker").read_text()))


def test_a_server_that_was_killed_is_done_without_and_started_anew(
    tmp_path: Path, write_notebook: Callable[..., Path]
) -> None:
    own = Serving(tmp_path / ("deep" * 20) / ("deeper" * 20))  # deeper than a socket's address
    runner = JobRunner(tmp_path / "home", forks=own.client)
    own.start()
    first = own.process
    first.kill()
    first.wait(PATIENCE_S)
    job = runner.start(write_notebook("1"), {}, kind="t")
    assert job.wait(PATIENCE_S) == "done"
    own.start()
    second = own.process
    assert second.pid != first.pid
    runner.release()
    second.terminate()
    second.wait(PATIENCE_S)


def test_a_job_that_the_server_took_and_did_not_answer_for_is_not_started_twice(
    serving: Serving, runner: JobRunner, write_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy host may answer late; two processes of one job would write over each other."""
    server = serving.process
    server.suspend()
    assert serving.client._connection is not None
    serving.client._connection.settimeout(0.1)
    try:
        job = runner.start(write_notebook("print('once')"), {}, kind="t")
    finally:
        server.resume()
    assert job.wait(PATIENCE_S) == "done" and len(job.events("started")) == 1
    assert not serving.client.is_ready
    serving.start()


def test_a_server_ends_when_nobody_is_connected_or_its_socket_is_gone(tmp_path: Path) -> None:
    for close in (lambda one: one.client.close(), lambda one: (one.home / "fork" / "shared.sock").unlink()):
        own = Serving(tmp_path)
        own.client = ForkClient(tmp_path / "fork", "shared", linger_s=0.1)
        own.start()
        process = own.process
        close(own)
        process.wait(PATIENCE_S)
        own.client.close()


def test_a_message_that_is_no_request_costs_its_sender_the_connection(serving: Serving) -> None:
    folder = serving.home / "fork"
    good = json.dumps({"directory": "/nowhere", "cancel_grace_s": 1, "environment": {}, "cwd": "/"}).encode()
    for message, descriptors in ((b"{", []), (b"[]", []), (b'{"directory": 1}', []), (good, []), (good, [0] * 9)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.settimeout(PATIENCE_S)
            with short_path(folder, "shared.sock") as address:
                stranger.connect(address)
            socket.send_fds(stranger, [message], descriptors)
            assert json.loads(stranger.recv(100)) == {"pid": None} and stranger.recv(100) == b""
    assert serving.process.is_running()


def test_a_host_with_little_memory_starts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pot_lab.forking.LEAST_AVAILABLE_BYTES", 1 << 60)
    client = ForkClient(tmp_path / "fork")
    client.prepare(dict(os.environ))
    assert not client.is_ready and not (tmp_path / "fork").exists()
