"""Forked helpers where the server is late, gone, stopped or impossible: there is always another way."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from pot_lab.forking import listen, server_name
from pot_lab.judging import Finding, HelperForks, HelperLimits, JudgeHelper, start_helper
from pot_lab.judging.forked import UNKNOWN_STATUS, ForkedHelper
from pot_lab.judging.frames import HelperChannel, read_frame
from pot_lab.judging.process import helper_environment
from tests.judging.cases import make_case
from tests.running import is_running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="helpers are forked on Linux only")
PATIENT = HelperLimits(wall_s=600.0, start_s=600.0)


class Ways:
    """Counts the helpers that were not forked."""

    def __init__(self) -> None:
        self.others = 0

    def __call__(self, limits: HelperLimits) -> HelperChannel:
        self.others += 1
        return start_helper(limits)


def name_of_server() -> str:
    return "judge-" + server_name(helper_environment(PATIENT.threads))


def server_of(folder: Path) -> psutil.Process:
    """The server, which has the command line of its forks and is the parent of them."""
    found = [
        process
        for process in psutil.process_iter()
        if is_running(process.pid)
        and str(folder) in process.cmdline()
        and (process.parent() is None or process.parent().cmdline() != process.cmdline())
    ]
    return found[0]


def test_aggregators_share_one_server_and_a_killed_one_is_started_anew(tmp_path: Path) -> None:
    case, other = make_case(tmp_path), Ways()
    first, second = (JudgeHelper(HelperForks(tmp_path / "fork", otherwise=other), PATIENT) for _ in range(2))
    assert first.judge(case.model()).finding is second.judge(case.model()).finding is Finding.RIGHT
    server = server_of(tmp_path / "fork")
    assert len(server.children()) == 2
    server.kill()
    server.wait(240)
    assert first.judge(case.model()).finding is Finding.RIGHT  # what was forked goes on
    first.rest()
    assert first.judge(case.model()).finding is Finding.RIGHT
    again = server_of(tmp_path / "fork")
    assert again.pid != server.pid and other.others == 0
    first.close()
    second.close()
    again.terminate()
    again.wait(240)


def test_a_server_that_refuses_is_done_without(tmp_path: Path) -> None:
    """As one does whose imports started a thread, or whose host has no room for another process."""
    listener, _ = listen(tmp_path, name_of_server())
    other = Ways()
    forks = HelperForks(tmp_path, otherwise=other)
    refused = forks(PATIENT)
    connection, _ = listener.accept()
    _, (stream,), _, _ = socket.recv_fds(connection, 1 << 16, 1)
    os.close(stream)
    connection.send(json.dumps({"pid": None}).encode())
    connection.close()
    assert refused.receive(1, 60.0) == b"" and refused.exit_status() == UNKNOWN_STATUS
    refused.kill()
    helper = forks(PATIENT)
    assert other.others == 1
    read_frame(lambda size: helper.receive(size, 600.0), PATIENT.reply_bytes)
    helper.kill()
    listener.close()


def test_a_helper_that_is_given_up_before_it_is_forked_ends(tmp_path: Path) -> None:
    HelperForks(tmp_path / "fork")(PATIENT).kill()  # the server still imports
    server = server_of(tmp_path / "fork")
    later = HelperForks(tmp_path / "fork")(PATIENT)
    assert isinstance(later, ForkedHelper)
    read_frame(lambda size: later.receive(size, 600.0), PATIENT.reply_bytes)
    deadline_s = time.monotonic() + 240
    while [child.pid for child in server.children()] != [later.pid] and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert [child.pid for child in server.children()] == [later.pid]
    later.kill()
    assert later.exit_status() == -signal.SIGKILL
    server.terminate()
    server.wait(240)


def test_a_folder_that_cannot_be_made_means_a_helper_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    other = Ways()
    forks = HelperForks(tmp_path / "file" / "fork", otherwise=other)
    forks(PATIENT).kill()
    assert other.others == 1
