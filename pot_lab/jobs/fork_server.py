"""A process that has imported what every job imports, and forks a job's process on request (Linux only).

A job's process needs papermill and its kernel needs torch: ten seconds of processor time on a small machine, for each
job, while an order's window runs. A fork has them at once, and shares their memory with all others.

    python -P -m pot_lab.jobs.fork_server FOLDER NAME LINGER_S

serves the Unix socket FOLDER/NAME.sock, whose folder only this account may enter. A miner holds a connection for as
long as it may start jobs; a server without connections ends after LINGER_S seconds. No second thread of this process
runs Python code and CUDA is not initialised in it, so forking is safe: OpenBLAS, whose threads numpy starts, has fork
handlers of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pot_lab.files import FileLocked, acquire_lock

REQUEST_LIMIT_BYTES = 1 << 17
"""A request carries a job's environment; the kernel's default limit of a message of this kind is 208 KiB."""
DESCRIPTORS = 3
"""With a request come the job's lock, its log and its members file, in this order."""
LINGER_S = 30.0
POLL_S = 5.0
PRELOADED = (
    "papermill",
    "nbformat",
    "pot_lab.jobs.engine",
    "pot_lab.jobs.run_notebook",
    "IPython",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "torch",
    "pot_lab.training",
    "pot_lab.scoring",
    "pot_lab.jobs.scorer",
    "pot_lab.jobs.workspace",
    "pot_lab.jobs.progress",
)
"""What a job's process and the stock notebooks import. One that is missing is left to the job."""
_CREDENTIALS = struct.Struct("3i")


@dataclass
class ForkRequest:
    """What a forked process is to be.

    Args:
        directory: the job's folder.
        cancel_grace_s: how long its kernel may take to end, in seconds.
        environment: all of its environment variables.
        cwd: the working folder of whoever asked.
        lock: the job's lock, held.
        log: where it prints to.
        members: an open file of the job's folder, by which its processes are known (`leftovers`).
    """

    directory: str
    cancel_grace_s: float
    environment: dict[str, str]
    cwd: str
    lock: int
    log: int
    members: int


def preload() -> None:
    """Import what jobs import."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        import pot_lab

        for name in ("ScoringTask", "Progress", "TrainingTask"):
            getattr(pot_lab, name, None)  # public names load their rooms when they are read
    gc.collect()
    gc.freeze()  # a collection in a forked process touches none of it, so its memory stays shared


@contextlib.contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """A path of FOLDER/NAME that fits a socket's address, whose limit is 108 bytes, however deep the folder lies."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


class ForkServer:
    """Accepts connections and forks.

    Args:
        listener: the socket, bound and listening.
        path: its place, which must stay the same file; when it is removed, the server ends.
        linger_s: how long to serve without a connection, in seconds.
    """

    def __init__(self, listener: socket.socket, path: Path, *, linger_s: float = LINGER_S) -> None:
        self._listener, self._path, self._linger_s = listener, path, linger_s
        self._inode = path.stat().st_ino
        self._connections: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> ForkRequest | None:
        """Serve until nobody is connected any more; returns None then, and the request in each forked process."""
        alone_since_s = time.monotonic()
        while self._is_there():
            for key, _ in self._selector.select(min(POLL_S, self._linger_s)):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    request = self._answer(key.fileobj)
                    if request is not None:
                        return request
            if self._connections:
                alone_since_s = time.monotonic()
            elif time.monotonic() - alone_since_s >= self._linger_s:
                break
        return None

    def _is_there(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(raw)[1] != os.getuid():
            connection.close()
            return
        self._connections.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _hang_up(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._connections.discard(connection)
        connection.close()

    def _refuse(self, connection: socket.socket, descriptors: list[int]) -> None:
        """Say that nothing was forked: whoever asked starts its job by a command. No answer would not tell that."""
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            connection.send(json.dumps({"pid": None}).encode())
        self._hang_up(connection)

    def _answer(self, connection: socket.socket) -> ForkRequest | None:
        """Serve one message of a connection; returns the request in the forked process, else None."""
        descriptors: list[int] = []
        try:
            raw, descriptors, flags, _ = socket.recv_fds(connection, REQUEST_LIMIT_BYTES, DESCRIPTORS)
            if not raw:
                self._hang_up(connection)
                return None
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("the message was cut off")
            request = ForkRequest(*_fields(json.loads(raw)), *descriptors)
            if threading.active_count() > 1:  # started by an import: what it holds would be held for ever in a fork
                raise ValueError("this process has several threads")
        except (OSError, ValueError, TypeError, KeyError):
            self._refuse(connection, descriptors)
            return None
        # Signals stay blocked in the forked process until it is ready for them, so its start loses no cancel.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            pid = os.fork()
        except OSError:  # no memory, or too many processes
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._refuse(connection, descriptors)
            return None
        if pid == 0:
            self._forget()
            return request
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            connection.send(json.dumps({"pid": pid}).encode())
        return None

    def _forget(self) -> None:
        """In a forked process: close what is the server's."""
        self._selector.close()
        self._listener.close()
        for connection in self._connections:
            connection.close()


def _fields(message: dict[str, Any]) -> tuple[str, float, dict[str, str], str]:
    environment = {str(name): str(value) for name, value in message["environment"].items()}
    return str(message["directory"]), float(message["cancel_grace_s"]), environment, str(message["cwd"])


def become(request: ForkRequest) -> int:
    """In a forked process: run the job, or be its kernel; returns the exit status."""
    os.setsid()
    os.umask(0o077)
    os.set_inheritable(request.members, False)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (request.log, 1), (request.log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(request.log)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    try:
        os.chdir(request.cwd)
    except OSError:
        os.chdir(request.directory)
    for name in ("numpy", "torch"):  # their global generators were seeded before the fork
        if name in sys.modules:
            seeded = sys.modules[name]
            seeded.random.seed()

    from pot_lab.jobs import forked_kernel, run_notebook

    arguments = forked_kernel.reserve(request.lock)
    if arguments is not None:
        forked_kernel.run(arguments)
    return run_notebook.main([request.directory, str(request.lock), str(request.cancel_grace_s)])


def main(arguments: list[str]) -> int:
    """Serve, or be a forked process; returns the exit status."""
    folder, name, linger_s = Path(arguments[0]), arguments[1], float(arguments[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for the forked
    try:
        lock = acquire_lock(folder / f"{name}.lock")
    except FileLocked:
        return 0  # another one serves
    preload()
    path = folder / f"{name}.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with short_path(folder, path.name) as address:
        listener.bind(address)
    listener.listen()
    server = ForkServer(listener, path, linger_s=linger_s)
    request = server.serve()
    if request is None:
        path.unlink(missing_ok=True)
        os.close(lock)
        return 0
    os.close(lock)
    return become(request)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
