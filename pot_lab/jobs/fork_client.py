"""The miner's side of the fork server: start one, hold a connection to it, ask it for a job's process.

Whatever goes wrong here, the job is started by its command, as on systems that have no fork server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from pot_lab.forking import LINGER_S, answer, ask, connect, server_name, start_server
from pot_lab.jobs.leftovers import MEMBERS_FILE

log = logging.getLogger(__name__)

SERVER_MODULE = "pot_lab.jobs.fork_server"
"""Started by name."""
UNKNOWN = 0
"""In place of a process's id: the job's process writes its own down when it runs."""
_EACH_JOBS_OWN = frozenset({"POT_LAB_JOB_DIR", "POT_LAB_JOB_ID", "POT_LAB_HOME"})


class ForkClient:
    """A connection to the fork server of this environment.

    Args:
        folder: of the server's socket (`forking.fork_folder`).
        name: of the server; by default that of the environment that is prepared for first.
        linger_s: how long a server that is started here serves without a connection, in seconds.
    """

    def __init__(self, folder: Path, name: str = "", *, linger_s: float = LINGER_S) -> None:
        self._folder = folder
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
                found = answer(self._connection)
            except (OSError, ValueError, EOFError) as error:
                log.warning("event=fork_unanswered job=%s reason=%r", directory.name, str(error))
                self._close()
                return UNKNOWN
            if found.pidfd is not None:
                os.close(found.pidfd)
            if not found.pid:
                self._close()
            return found.pid or None

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
        message = {
            "directory": str(directory.resolve()),
            "cancel_grace_s": cancel_grace_s,
            "environment": dict(environment),
            "cwd": os.getcwd(),
        }
        with contextlib.ExitStack() as stack:
            descriptors = [lock]
            for name in ("log.txt", MEMBERS_FILE):
                descriptor = os.open(directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
            ask(connection, message, descriptors)

    def _connect(self, environment: Mapping[str, str]) -> bool:
        self._name = self._name or server_name(environment)
        self._connection = connect(self._folder, self._name)
        return self._connection is not None

    def _start(self, environment: Mapping[str, str]) -> None:
        if self._started is not None and self._started.poll() is None:
            return  # it is still importing
        kept = {name: value for name, value in environment.items() if name not in _EACH_JOBS_OWN}
        self._started = start_server(SERVER_MODULE, self._folder, self._name, self._linger_s, kept)
