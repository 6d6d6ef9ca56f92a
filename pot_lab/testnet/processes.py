"""The processes of a network on this host: start them detached, find them again, stop them.

They are listed in the folder's `testnet.json` by process id and start time, so that any other process of this host
finds them; the file is replaced durably (pot_lab.files) before anything may interrupt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import msgspec

from pot_lab.files import make_private_folder, replace_durably, writing
from pot_lab.network.loopback import free_ports
from pot_lab.testnet.errors import TestnetFailed

RECORD_FILE = "testnet.json"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
LOG_BYTES = 16 << 20
"""A log of more is put aside when its process starts again."""
_LEAST_ROOM_BYTES = 1 << 20
"""Where a process ended and a disk has less, that is why."""
_KILLED_S = 10.0
_SAME_START_S = 0.05
_POLL_S = 0.02
_UMASKS = {"store": 0o022}
"""Blobs are public; what every other process writes is for this account alone."""


def _put_aside(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class ProcessEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One process; its id and the time of its start (seconds since 1970) name it together, since ids are reused."""

    pid: int
    created_s: float


class TestnetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `testnet.json` holds.

    Attributes:
        name: the testnet's name.
        started_ms: when it was started last, milliseconds since 1970.
        processes: by name: `chain`, `store`, `aggregator-<i>`.
        ports: where the chain and the store listen; they get the same ports when they are started again.
    """

    __test__ = False

    name: str
    started_ms: int
    processes: dict[str, ProcessEntry] = {}
    ports: dict[str, int] = {}


class ProcessTable:
    """The processes of the testnet in `folder`, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # --- what is known ------------------------------------------------------------------------------------------
    def record(self) -> TestnetRecord:
        """What was written down.

        Raises:
            TestnetFailed: the file is missing or damaged.
        """
        path = self._folder / RECORD_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=TestnetRecord)
        except (OSError, msgspec.MsgspecError) as error:
            raise TestnetFailed(
                "the testnet's folder is damaged", seen=f"{path}: {error}", wanted="`pot-lab testnet up --fresh`"
            ) from error

    def states(self) -> dict[str, bool]:
        """Each process's name, and whether it is alive."""
        return {name: _is_alive(entry) for name, entry in self.record().processes.items()}

    def pid(self, name: str) -> int:
        """The id under which a process was started last.

        Raises:
            TestnetFailed: no process of this name was ever started.
        """
        processes = self.record().processes
        if name not in processes:
            raise TestnetFailed("the testnet has no such process", seen=name, wanted=", ".join(processes) or "none yet")
        return processes[name].pid

    def last_log_line(self, name: str) -> str:
        """The last line of a process's log, or `nothing`."""
        path = self._log(name)
        lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
        return lines[-1] if lines else "nothing"

    # --- starting -----------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start a list without processes; ports of an earlier one are kept."""
        ports = self.record().ports if (self._folder / RECORD_FILE).is_file() else {}
        self._save(TestnetRecord(name=self._folder.name, started_ms=time.time_ns() // 1_000_000, ports=ports))

    def start(self, name: str, module: str, arguments: Sequence[str]) -> None:
        """Start `python -m module arguments` detached from this process; its output is appended to its log.

        A log above `LOG_BYTES` is put aside first, as the one earlier log that is kept.
        """
        make_private_folder(self._log(name).parent)
        _put_aside(self._log(name))
        with uninterrupted(), open(self._log(name), "ab", opener=_privately) as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._folder,
                umask=_UMASKS.get(name, 0o077),
            )
            _reap(process)
            entry = ProcessEntry(pid=process.pid, created_s=_created_s(process.pid))
            record = self.record()
            self._save(msgspec.structs.replace(record, processes={**record.processes, name: entry}))

    def start_server(self, name: str, module: str, arguments: Sequence[str]) -> None:
        """Start a process that takes `--port` and `--port-file`: on its earlier port, if it had one.

        Its first is none that the system gives to outgoing connections, since one of these may have it at a restart.

        Raises:
            NoFreePorts: there is no port for it on this machine.
        """
        self._port_file(name).unlink(missing_ok=True)
        port = self.record().ports.get(name) or free_ports(1)[0]
        self.start(name, module, [*arguments, "--port", str(port), "--port-file", str(self._port_file(name))])

    def await_port(self, name: str) -> int:
        """The TCP port on which a server listens, once it does.

        Raises:
            TestnetFailed: it ended, or does not listen after `START_TIMEOUT_S`.
        """
        path, deadline_s = self._port_file(name), time.monotonic() + START_TIMEOUT_S
        while not (path.is_file() and path.read_text().strip()):
            self.check(name, deadline_s)
            time.sleep(_POLL_S)
        port = int(path.read_text())
        record = self.record()
        self._save(msgspec.structs.replace(record, ports={**record.ports, name: port}))
        return port

    def check(self, name: str, deadline_s: float) -> None:
        """Raise TestnetFailed if a process has ended (CannotWrite where the disk is full), or `deadline_s` of the
        monotonic clock has passed.
        """
        if not self.states().get(name):
            if shutil.disk_usage(self._folder).free < _LEAST_ROOM_BYTES:
                with writing(f"what the testnet's {name} keeps", self._folder):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise TestnetFailed(f"the testnet's {name} ended at once", seen=self.last_log_line(name))
        if time.monotonic() > deadline_s:
            raise TestnetFailed(
                f"the testnet's {name} did not answer in {START_TIMEOUT_S:g} s", seen=self.last_log_line(name)
            )

    # --- stopping -----------------------------------------------------------------------------------------------
    def stop_all(self, timeout_s: float = STOP_TIMEOUT_S, *, only: Container[str] | None = None) -> None:
        """Stop every process, or `only` those of these names, with SIGTERM, and those that remain after `timeout_s`
        with SIGKILL. They have ended when it returns, but for one that the system cannot end.
        """
        try:
            processes = self.record().processes
            entries = [entry for name, entry in processes.items() if only is None or name in only]
        except TestnetFailed:
            return  # no process is known
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, _KILLED_S)):
            for entry in entries:
                _signal(entry, number)
            deadline_s = time.monotonic() + patience_s
            while any(_is_alive(entry) for entry in entries) and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)

    # --- parts --------------------------------------------------------------------------------------------------
    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _port_file(self, name: str) -> Path:
        return self._folder / f"{name}.port"

    def _save(self, record: TestnetRecord) -> None:
        replace_durably(self._folder / RECORD_FILE, msgspec.json.format(msgspec.json.encode(record), indent=1))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM to the end of the block: a process that was started must be listed before this one ends.

    Not by blocking the signals: the new process would inherit that and could not be stopped by them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    delayed: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: delayed.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in delayed[:1]:
            os.kill(os.getpid(), first)


def _created_s(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).create_time())


def _is_alive(entry: ProcessEntry) -> bool:
    import psutil

    try:
        process = psutil.Process(entry.pid)
        same = bool(abs(process.create_time() - entry.created_s) < _SAME_START_S)
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(entry: ProcessEntry, number: signal.Signals) -> None:
    if _is_alive(entry):
        with contextlib.suppress(ProcessLookupError):
            os.kill(entry.pid, number)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Collect the process when it ends, so that it does not stay a zombie of a long-lived kernel."""
    threading.Thread(target=process.wait, name="pot-lab-reaper", daemon=True).start()
