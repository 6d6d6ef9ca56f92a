"""Processes that are forked from one that has done their imports, and how to ask for them (Linux only).

Torch alone takes two seconds of processor time to import. A server process does it once for all that need it on a
host, serves a Unix socket in a folder that only its account may enter, and forks on request; what was imported is
shared in memory too. A server without connections ends after a while. What a server imports and what its forks become
is the business of `jobs.fork_server` and of `judging.helper.fork_server`.

A server must have one thread when it forks, must hold no secret, and opens no file of others itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import psutil

import pot_lab
from pot_lab.files import FileLocked, acquire_lock, is_locked, make_private_folder

T = TypeVar("T")

REQUEST_LIMIT_BYTES = 1 << 17
"""A request may carry an environment; the kernel's default limit of a message of this kind is 208 KiB."""
FOLDER_VARIABLE = "POT_LAB_FORK_FOLDER"
MOST_DESCRIPTORS = 8
LINGER_S = 30.0
POLL_S = 5.0
LEAST_AVAILABLE_BYTES = 1 << 30
"""A host with less memory to spare imports what it needs when it needs it."""
ANSWER_TIMEOUT_S = 10.0
_CREDENTIALS = struct.Struct("3i")
_LIBRARY_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV", "SHELL", "TMPDIR")
_LIBRARY_PREFIXES = (
    *("PYTHON", "LD_", "LC_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "NPY_"),
    *("TORCH", "PYTORCH_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "ROCM_", "ROCR_", "ATEN_", "DNNL_", "ONEDNN_"),
    *("IPYTHON", "JUPYTER", "MPL", "XDG_", "COVERAGE_"),
)


class ForkAnswer(NamedTuple):
    """What a server sent.

    Attributes:
        pid: of the process that was forked; None when none was, and none will be for that request.
        pidfd: a descriptor of the process, owned by whoever asked: signals through it never reach another process. None
            where `pid` is.
        status: how the process ended, negative for a signal; None when this is no message of its end.
    """

    pid: int | None = None
    pidfd: int | None = None
    status: int | None = None


# --- the server -------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """A path of FOLDER/NAME that fits a socket's address, whose limit is 108 bytes, however deep the folder lies."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


class ForkServer(Generic[T]):
    """Accepts connections and forks.

    Args:
        listener: the socket, bound and listening.
        path: its place, which must stay the same file; when it is removed, the server ends.
        parse: a request from a message and its descriptors, which it closes if it fails; raises ValueError, TypeError
            or KeyError for one that is none.
        linger_s: how long to serve without a connection, in seconds.
        tells_ends: a connection is told when a process ended that it asked for.
    """

    def __init__(
        self,
        listener: socket.socket,
        path: Path,
        parse: Callable[[bytes, list[int]], T],
        *,
        linger_s: float = LINGER_S,
        tells_ends: bool = False,
    ) -> None:
        self._listener, self._path, self._parse, self._linger_s = listener, path, parse, linger_s
        self._inode = path.stat().st_ino
        self._connections: set[socket.socket] = set()
        self._tells_ends = tells_ends
        self._asked: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._ended, self._woken = socket.socketpair()
        for end in (self._ended, self._woken):
            end.setblocking(False)
        self._selector.register(self._ended, selectors.EVENT_READ)

    def serve(self) -> T | None:
        """Serve until nobody is connected any more; returns None then, and the request in each forked process."""
        alone_since_s = time.monotonic()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal without a handler wakes nobody
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        while self._is_there():
            for key, _ in self._selector.select(min(POLL_S, self._linger_s)):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._ended:
                    self._reap()
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
        """Say that nothing was forked: whoever asked starts a process by a command. No answer would not tell that."""
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            connection.send(json.dumps({"pid": None}).encode())
        self._hang_up(connection)

    def _answer(self, connection: socket.socket) -> T | None:
        """Serve one message of a connection; returns the request in the forked process, else None."""
        descriptors: list[int] = []
        try:
            raw, descriptors, flags, _ = socket.recv_fds(connection, REQUEST_LIMIT_BYTES, MOST_DESCRIPTORS)
            if not raw:
                self._hang_up(connection)
                return None
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("the message was cut off")
            request = self._parse(raw, descriptors)
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
        # Until it is reaped here, no other process has this id, also if it ended.
        pidfd = os.pidfd_open(pid)
        try:
            socket.send_fds(connection, [json.dumps({"pid": pid}).encode()], [pidfd])
            if self._tells_ends:
                self._asked[pid] = connection
        except OSError:
            pass  # whoever asked is gone
        finally:
            os.close(pidfd)
        return None

    def _reap(self) -> None:
        """Take note of the processes that ended."""
        with contextlib.suppress(BlockingIOError):
            self._ended.recv(4096)
        with contextlib.suppress(ChildProcessError):  # there is none
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self._asked.pop(ended[0], None)
                if connection in self._connections and connection is not None:
                    with contextlib.suppress(OSError):
                        connection.send(json.dumps({"status": os.waitstatus_to_exitcode(ended[1])}).encode())

    def _forget(self) -> None:
        """In a forked process: close what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for end in (self._listener, self._ended, self._woken, *self._connections):
            end.close()


def claim(folder: Path, name: str) -> int | None:
    """The lock of the one server of this name, or None when another process has it."""
    try:
        return acquire_lock(folder / f"{name}.lock")
    except FileLocked:
        return None


def listen(folder: Path, name: str) -> tuple[socket.socket, Path]:
    """The socket that the holder of the lock serves, and its place."""
    path = folder / f"{name}.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with short_path(folder, path.name) as address:
        listener.bind(address)
    listener.listen()
    return listener, path


# --- who asks ---------------------------------------------------------------------------------------------------
def fork_folder(home: Path) -> Path:
    """Where the servers of a home are found: `home/fork`, or `$POT_LAB_FORK_FOLDER`, by which several homes of one
    account share them.
    """
    return Path(os.environ.get(FOLDER_VARIABLE) or home / "fork").expanduser()


def connect(folder: Path, name: str) -> socket.socket | None:
    """A connection to the server of this name; None when none listens."""
    if not (folder / f"{name}.sock").exists():
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    connection.settimeout(ANSWER_TIMEOUT_S)
    try:
        with short_path(folder, f"{name}.sock") as address:
            connection.connect(address)
    except OSError:  # of a server that was killed
        connection.close()
        return None
    return connection


def ask(connection: socket.socket, message: Mapping[str, object], descriptors: Sequence[int]) -> None:
    """Send a request. Raises OSError, and ValueError for one that is too long."""
    data = json.dumps(message).encode()
    if len(data) > REQUEST_LIMIT_BYTES:
        raise ValueError(f"a request of {len(data)} bytes, at most {REQUEST_LIMIT_BYTES}")
    socket.send_fds(connection, [data], list(descriptors))


def answer(connection: socket.socket) -> ForkAnswer:
    """The next answer. Raises OSError (TimeoutError among them) and ValueError; EOFError when the server is gone."""
    raw, descriptors, _, _ = socket.recv_fds(connection, REQUEST_LIMIT_BYTES, 1)
    if not raw:
        raise EOFError("the fork server ended")
    message = json.loads(raw)
    return ForkAnswer(message.get("pid"), descriptors[0] if descriptors else None, message.get("status"))


def start_server(
    module: str, folder: Path, name: str, linger_s: float, environment: Mapping[str, str]
) -> subprocess.Popen[bytes] | None:
    """Start the process that serves this name, unless one runs already; returns at once.

    Args:
        module: run as `python -P -m MODULE FOLDER NAME LINGER_S`.
        folder: created, for this account alone.
        environment: its variables, without a secret.
    Returns: the process; None when another one holds the lock, or this host has too little memory to spare.
    Raises:
        OSError: the folder or the process cannot be made.
    """
    if psutil.virtual_memory().available < LEAST_AVAILABLE_BYTES:
        return None
    make_private_folder(folder)
    if is_locked(folder / f"{name}.lock"):
        return None
    return subprocess.Popen(
        # -P: a file in the working folder must not stand for a module
        [sys.executable, "-P", "-m", module, str(folder.resolve()), name, str(linger_s)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        start_new_session=True,
        umask=0o077,
    )


def server_name(environment: Mapping[str, str]) -> str:
    """The name of the server that processes of this environment need: other variables that libraries read while they
    are loaded, another interpreter or other code of this package make another one.

    >>> server_name({"OMP_NUM_THREADS": "1"}) == server_name({"OMP_NUM_THREADS": "2"})
    False
    >>> server_name({"OMP_NUM_THREADS": "1"}) == server_name({"OMP_NUM_THREADS": "1", "POT_LAB_JOB_ID": "7"})
    True
    """
    digest = hashlib.sha256(sys.executable.encode())
    for name, value in sorted(environment.items()):
        if name in _LIBRARY_VARIABLES or name.startswith(_LIBRARY_PREFIXES):
            digest.update(f"\0{name}={value}".encode("utf-8", "surrogateescape"))
    for path in sorted(Path(pot_lab.__file__).parent.rglob("*.py")):
        digest.update(f"\0{path}\0{path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
