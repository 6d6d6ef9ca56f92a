"""A server of forks: whoever asks is told of the process and of its end, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab import forking
from pot_lab.forking import ForkAnswer, answer, ask, claim, connect, fork_folder, server_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are fork servers on Linux only")
SERVER = """
import json, os, sys, time
from pathlib import Path
from pot_lab.forking import ForkServer, claim, listen
folder = Path(sys.argv[1])
lock = claim(folder, "s")
listener, path = listen(folder, "s")
def parse(raw, descriptors):
    for one in descriptors:
        os.close(one)
    descriptors.clear()
    return json.loads(raw)["does"]
does = ForkServer(listener, path, parse, linger_s=0.5, tells_ends=True).serve()
os.close(lock)
if does == "end":
    os._exit(7)
if does == "wait":
    time.sleep(600)
if does == "look":
    print(os.listdir("/proc/self/fd"), flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SERVER, tmp_path], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def connection(server: subprocess.Popen[str], tmp_path: Path) -> Iterator[socket.socket]:
    found = None
    while found is None:
        assert server.poll() is None
        found = connect(tmp_path, "s")
    with found:
        found.settimeout(240)
        yield found


def test_whoever_asks_gets_a_handle_of_the_process_and_the_news_of_its_end(connection: socket.socket) -> None:
    for does, ends in (("end", 7), ("wait", -signal.SIGTERM)):
        ask(connection, {"does": does}, [])
        forked = answer(connection)
        assert forked.pid and forked.pidfd is not None
        if does == "wait":
            signal.pidfd_send_signal(forked.pidfd, signal.SIGKILL)
            ends = -signal.SIGKILL
        assert answer(connection) == ForkAnswer(status=ends)
        with pytest.raises(ProcessLookupError):  # it was reaped, and this handle is of no other process
            signal.pidfd_send_signal(forked.pidfd, 0)
        os.close(forked.pidfd)


def test_a_server_with_processes_ends_when_nobody_is_connected_and_they_go_on(
    server: subprocess.Popen[str], connection: socket.socket, tmp_path: Path
) -> None:
    ask(connection, {"does": "wait"}, [])
    forked = answer(connection)
    assert forked.pid and forked.pidfd is not None
    connection.close()
    assert server.wait(240) == 0
    lock = claim(tmp_path, "s")
    assert lock is not None
    os.close(lock)
    signal.pidfd_send_signal(forked.pidfd, signal.SIGKILL)  # it still runs
    os.close(forked.pidfd)


def test_a_fork_keeps_no_descriptor_of_the_server(server: subprocess.Popen[str], connection: socket.socket) -> None:
    with open(os.devnull) as one:
        ask(connection, {"does": "look"}, [one.fileno()])
    assert server.stdout is not None
    seen = server.stdout.readline()
    assert len(seen.split(",")) <= 4, seen  # standard streams, and the folder that it lists


def test_too_long_a_request_is_not_sent(connection: socket.socket) -> None:
    with pytest.raises(ValueError, match="at most"):
        ask(connection, {"does": "x" * forking.REQUEST_LIMIT_BYTES}, [])


def test_there_is_one_server_of_a_name(connection: socket.socket, tmp_path: Path) -> None:
    assert claim(tmp_path, "s") is None
    assert connect(tmp_path, "other") is None


def test_homes_share_a_folder_where_the_account_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(forking.FOLDER_VARIABLE)
    assert fork_folder(Path("/data/one")) == Path("/data/one/fork")
    monkeypatch.setenv(forking.FOLDER_VARIABLE, "/shared")
    assert fork_folder(Path("/data/one")) == Path("/shared")


def test_what_libraries_read_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    name = server_name({"OMP_NUM_THREADS": "1"})
    assert name == server_name({"OMP_NUM_THREADS": "1", "POT_LAB_JOB_ID": "any", "POT_LAB_HOME": "any"})
    assert name != server_name({"OMP_NUM_THREADS": "2"})
    monkeypatch.setattr(sys, "executable", "/another/python")
    assert name != server_name({"OMP_NUM_THREADS": "1"})
