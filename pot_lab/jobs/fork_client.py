"""The miner's side of the fork server: start one, hold a connection to it, ask it for a job's process.

Whatever goes wrong here, the job is started by its command, as on systems that have no fork server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil

import pot_lab
from pot_lab.files import is_locked, make_private_folder
from pot_lab.jobs.fork_server import LINGER_S, REQUEST_LIMIT_BYTES, short_path
from pot_lab.jobs.leftovers import MEMBERS_FILE

log = logging.getLogger(__name__)

LEAST_AVAILABLE_BYTES = 1 << 30
"""A host with less memory to spare imports what it needs when it needs it."""
ANSWER_TIMEOUT_S = 10.0
UNKNOWN = 0
"""In place of a process's id: the job's process writes its own down when it runs."""
_EACH_JOBS_OWN = frozenset({"POT_LAB_JOB_DIR", "POT_LAB_JOB_ID"})


class ForkClient:
    """A connection to the fork server of this home and environment.

    Args:
        home: `$POT_LAB_HOME`; the sockets are in `home/fork`.
        name: of the server; by default that of the environment that is prepared for first.
        linger_s: how long a server that is started here serves without a connection, in seconds.
    """

    def __init__(self, home: Path, name: str = "", *, linger_s: float = LINGER_S) -> None:
        self._folder = home / "fork"
        self._name = name
        self._linger_s = linger_s
        self._connection: socket.socket | None = None
        self._started: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection to a server."""
        return self._connection is not None

    def prepare(self, environment: Mapping[str, str]) -> None:
        """See that a server runs, or will; returns at once. Where it cannot, nothing is raised.

        Args:
            environment: of the jobs that will be started; a server's imports depend on it.
        """
        with self._lock, contextlib.suppress(OSError):
            if self._connection is None and not self._connect(environment):
                self._start(environment)

    def start(self, directory: Path, environment: Mapping[str, str], cancel_grace_s: float, lock: int) -> int | None:
        """Fork a job's process.

        Args:
            directory: the job's folder.
            environment: its environment variables, all of them.
            cancel_grace_s: how long its kernel may take to end, in seconds.
            lock: the job's lock, held; the process keeps it.

        Returns: the process's id; `UNKNOWN` when the server has the request and did not answer in time, so that the job
            must not be started again (if it does not run, its lock is free and it is lost); None when there is no
            server that can, and nothing was started.
        """
        with self._lock:
            try:
                if self._connection is None:
                    self._connect(environment)
                if self._connection is None:
                    return None
                self._ask(self._connection, directory, environment, cancel_grace_s, lock)
            except (OSError, ValueError) as error:
                log.debug("event=fork_failed reason=%r", str(error))
                self._close()
                return None
            try:
                pid = json.loads(self._connection.recv(REQUEST_LIMIT_BYTES))["pid"]
            except (OSError, ValueError) as error:
                log.warning("event=fork_unanswered job=%s reason=%r", directory.name, str(error))
                self._close()
                return UNKNOWN
            if not pid:
                self._close()
                return None
            return int(pid)

    def close(self) -> None:
        """End the connection; a server without connections ends."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @staticmethod
    def _ask(
        connection: socket.socket, directory: Path, environment: Mapping[str, str], cancel_grace_s: float, lock: int
    ) -> None:
        message = json.dumps(
            {
                "directory": str(directory.resolve()),
                "cancel_grace_s": cancel_grace_s,
                "environment": dict(environment),
                "cwd": os.getcwd(),
            }
        ).encode()
        if len(message) > REQUEST_LIMIT_BYTES:
            raise ValueError("the environment is too large")
        with contextlib.ExitStack() as stack:
            descriptors = [lock]
            for name in ("log.txt", MEMBERS_FILE):
                descriptor = os.open(directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
            socket.send_fds(connection, [message], descriptors)

    def _connect(self, environment: Mapping[str, str]) -> bool:
        self._name = self._name or server_name(environment)
        name = self._name + ".sock"
        if not (self._folder / name).exists():
            return False
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            with short_path(self._folder, name) as address:
                connection.connect(address)
        except OSError:  # of a server that was killed
            connection.close()
            return False
        self._connection = connection
        return True

    def _start(self, environment: Mapping[str, str]) -> None:
        if self._started is not None and self._started.poll() is None:
            return  # it is still importing
        if psutil.virtual_memory().available < LEAST_AVAILABLE_BYTES:
            return
        make_private_folder(self._folder)
        if is_locked(self._folder / f"{self._name}.lock"):
            return  # another miner's is still importing
        self._started = subprocess.Popen(
            [
                sys.executable,
                "-P",  # a file in the working folder must not stand for a module
                "-m",
                "pot_lab.jobs.fork_server",
                str(self._folder.resolve()),
                self._name,
                str(self._linger_s),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in environment.items() if name not in _EACH_JOBS_OWN},
            start_new_session=True,
            umask=0o077,
        )


def server_name(environment: Mapping[str, str]) -> str:
    """The name of the server that jobs of this environment need: other variables, another interpreter or other code of
    this package make another one.
    """
    digest = hashlib.sha256(sys.executable.encode())
    for name, value in sorted(environment.items()):
        if name not in _EACH_JOBS_OWN:
            digest.update(f"\0{name}={value}".encode("utf-8", "surrogateescape"))
    for path in sorted(Path(pot_lab.__file__).parent.rglob("*.py")):
        digest.update(f"\0{path}\0{path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
