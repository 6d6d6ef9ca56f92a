"""Processes of a testnet: listed before anything may interrupt, found again by id and start time, stopped for sure."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from pot_lab.files import CannotWrite
from pot_lab.testnet import processes
from pot_lab.testnet.errors import TestnetFailed
from pot_lab.testnet.processes import RECORD_FILE, ProcessEntry, ProcessTable, TestnetRecord, uninterrupted
from tests.running import is_running

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    made = ProcessTable(tmp_path)
    made.begin()
    yield made
    made.stop_all()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A suite that runs in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def change(folder: Path, name: str, **changes: float) -> None:
    path = folder / RECORD_FILE
    record = msgspec.json.decode(path.read_bytes(), type=TestnetRecord)
    entry = msgspec.structs.replace(record.processes[name], **changes)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, processes={name: entry})))


def test_a_server_is_started_found_stopped_and_started_on_its_port(tmp_path: Path, table: ProcessTable) -> None:
    table.start_server("store", "pot_lab.store.server", ["--root", str(tmp_path / "blobs")])
    port = table.await_port("store")
    assert port < 32_000, "no port of outgoing connections, one of which may have it at a restart"
    other = ProcessTable(tmp_path)
    assert other.states() == {"store": True} and listens(port)
    assert os.getsid(other.pid("store")) == other.pid("store") != os.getsid(0)

    other.stop_all()
    assert other.states() == {"store": False} and not listens(port)
    other.begin()
    assert other.states() == {}
    other.start_server("store", "pot_lab.store.server", ["--root", str(tmp_path / "blobs")])
    assert other.await_port("store") == port and listens(port)


def test_the_list_holds_name_and_time_of_the_start(tmp_path: Path, table: ProcessTable) -> None:
    record = table.record()
    assert record.name == tmp_path.name and abs(record.started_ms / 1_000 - time.time()) < 60
    assert record.processes == {} and record.ports == {}


def test_a_process_that_ends_at_once_is_reported_with_its_last_words(table: ProcessTable) -> None:
    table.start("store", "pot_lab.store.server", [])
    with pytest.raises(TestnetFailed, match=r"the testnet's store ended at once \(seen: .*are required: --root"):
        table.await_port("store")


def test_a_process_that_ends_on_a_full_disk_is_told_as_such(
    table: ProcessTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.start("it", "this", ["-c", "pass"])
    left = shutil.disk_usage(tmp_path)._replace(free=4_096)
    monkeypatch.setattr(processes.shutil, "disk_usage", lambda path: left)
    with pytest.raises(CannotWrite, match="what the testnet's it keeps cannot be written: No space left") as told:
        while True:
            table.check("it", math.inf)
    assert told.value.seen == str(tmp_path)


def test_a_long_log_is_put_aside_at_the_next_start(table: ProcessTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 100)
    log = table._log("said")

    def says(text: str) -> None:
        table.start("said", "timeit", ["-n", "1", "-r", "1", f"import os; print('{text}', flush=True); os._exit(0)"])
        deadline = time.monotonic() + 60
        while table.last_log_line("said") != text:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    says("short")
    says("x" * 200)
    assert log.read_text().splitlines() == ["short", "x" * 200]
    says("new")
    says("newer")
    assert log.read_text().splitlines() == ["new", "newer"]
    assert log.with_name("said.log.1").read_text().splitlines() == ["short", "x" * 200]
    assert {path.name for path in log.parent.iterdir()} == {"said.log", "said.log.1"}


def test_after_the_deadline_a_process_has_not_answered(table: ProcessTable) -> None:
    table.start("sleeper", "timeit", ["-n", "1", "-r", "1", "import time; time.sleep(600)"])
    table.check("sleeper", time.monotonic() + 600)
    with pytest.raises(TestnetFailed, match=r"did not answer in 120 s \(seen: nothing\)"):
        table.check("sleeper", time.monotonic() - 1)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, table: ProcessTable) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)  # found: a process starts in the testnet's folder
    table.start("stubborn", "stubborn", [])
    while table.last_log_line("stubborn") != "deaf":
        table.check("stubborn", time.monotonic() + 600)
    process = psutil.Process(table.pid("stubborn"))
    table.stop_all(timeout_s=0.05)
    try:
        assert not is_running(process.pid)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_process_id_that_another_process_has_now_is_not_ours(tmp_path: Path, table: ProcessTable) -> None:
    table.start("sleeper", "timeit", ["-n", "1", "-r", "1", "import time; time.sleep(600)"])
    pid, created_s = table.pid("sleeper"), table.record().processes["sleeper"].created_s
    for other_s in (created_s - 0.1, created_s + 0.1):
        change(tmp_path, "sleeper", created_s=other_s)
        assert table.states() == {"sleeper": False}
        table.stop_all(timeout_s=0.05)
        assert psutil.Process(pid).is_running()
    change(tmp_path, "sleeper", created_s=created_s + 0.01)  # clocks of different resolution
    assert table.states() == {"sleeper": True}


def test_a_process_that_is_gone_is_not_alive(tmp_path: Path, table: ProcessTable) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    record = msgspec.structs.replace(table.record(), processes={"gone": ProcessEntry(pid=process.pid, created_s=0.0)})
    (tmp_path / RECORD_FILE).write_bytes(msgspec.json.encode(record))
    assert table.states() == {"gone": False}


def test_a_process_that_was_never_started_has_no_id(table: ProcessTable) -> None:
    with pytest.raises(TestnetFailed, match=r"no such process \(seen: chain, wanted: none yet\)"):
        table.pid("chain")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": 3, "started_ms": 1}', b"\xff", b"[1"])
def test_a_damaged_list_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD_FILE).write_bytes(content)
    table = ProcessTable(tmp_path)
    with pytest.raises(
        TestnetFailed, match=r"folder is damaged \(seen: .*testnet\.json.*wanted: `pot-lab testnet up --fresh`"
    ):
        table.record()
    table.stop_all()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_the_end_of_the_block(number: signal.Signals) -> None:
    steps = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            os.kill(os.getpid(), number)
            steps.append("inside")
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert steps == ["inside"]


def test_without_an_interrupt_nothing_happens_and_other_threads_may_use_it_too() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            done.append(True)

    with uninterrupted():
        done.append(True)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True, True]


def test_a_process_started_inside_can_still_be_told_to_stop() -> None:
    with uninterrupted():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.terminate()
    assert process.wait(240) == -signal.SIGTERM
