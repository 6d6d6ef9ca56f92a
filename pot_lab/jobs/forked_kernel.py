"""A job's kernel as a fork: it has imported torch before it is launched (see `fork_server`).

The job's process forks it first of all, while it has one thread, and it waits for its launch. `ForkedProvisioner` is
the door that jupyter_client has for kernels which are started in another way than by a command.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from typing import Any, NoReturn

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

LAUNCH_LIMIT_BYTES = 1 << 17
PROVISIONER = "pot-forked"
_MODULE = "ipykernel_launcher"


class ForkedProcess:
    """A child of this process with the methods of `subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, as a process's return code; None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while (code := self._wait(0 if deadline_s is None else os.WNOHANG)) is None:
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise subprocess.TimeoutExpired(_MODULE, timeout or 0.0)
            time.sleep(0.01)
        return code

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else waited for it
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Reserved:
    """The kernel that waits for its launch: its process, and this end of the pipe to it."""

    def __init__(self, pid: int, pipe: socket.socket) -> None:
        self.process, self.pipe = ForkedProcess(pid), pipe


_reserved: _Reserved | None = None


def reserve(lock: int) -> dict[str, Any] | None:
    """Fork the kernel of this job's process, which must have one thread yet.

    Args:
        lock: the job's lock, which no kernel may hold.

    Returns: None in this process; in the kernel's, once it is launched, the arguments of `run`. A kernel whose job's
        process ends before that ends too.
    """
    global _reserved
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        _reserved = _Reserved(pid, ours)
        factory = KernelProvisionerFactory.instance()
        factory.provisioners[PROVISIONER] = EntryPoint(
            PROVISIONER, f"{__name__}:ForkedProvisioner", KernelProvisionerFactory.GROUP_NAME
        )
        factory.default_provisioner_name = PROVISIONER
        return None
    ours.close()
    os.close(lock)
    os.setsid()
    raw = b""
    with contextlib.suppress(OSError):
        raw = theirs.recv(LAUNCH_LIMIT_BYTES)
    theirs.close()
    if not raw:
        os._exit(0)
    arguments: dict[str, Any] = json.loads(raw)
    return arguments


def run(arguments: dict[str, Any]) -> NoReturn:
    """Be the kernel, and exit. `arguments` are argv, environment and cwd of its launch."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.environ.clear()
    os.environ.update(arguments["environment"])
    time.tzset()
    os.chdir(arguments["cwd"])
    # The fork server runs without the working folder in its path (-P); a kernel has it, after Python's own modules.
    own = [index for index, place in enumerate(sys.path) if "site-packages" in place]
    sys.path.insert(min(own, default=len(sys.path)), "")
    # ipykernel reads its parent's id from the environment when it is imported, which was long ago; without it a kernel
    # would outlive its job.
    sys.argv = [_MODULE, *arguments["argv"], f"--IPKernelApp.parent_handle={os.getppid()}"]
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
    # Taking torch's modules apart would take two seconds, for which the job's process waits.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class ForkedProvisioner(LocalProvisioner):
    """Launches the kernel that was reserved; any other, and one that is started again, by its command."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Launch a kernel; arguments as of `LocalProvisioner.launch_kernel`."""
        global _reserved
        reserved, _reserved = _reserved, None
        start = _start_of(cmd)
        if reserved is None or start is None or reserved.process.poll() is not None:
            return await super().launch_kernel(cmd, **kwargs)
        environment = dict(kwargs.get("env") or os.environ) | {"JPY_PARENT_PID": str(os.getpid())}
        message = {"argv": cmd[start:], "environment": environment, "cwd": kwargs.get("cwd") or os.getcwd()}
        with reserved.pipe as pipe:
            try:
                pipe.send(json.dumps(message).encode())
            except OSError:
                return await super().launch_kernel(cmd, **kwargs)
        # it has the methods of Popen that are used
        self.process = reserved.process  # type: ignore[assignment]
        self.pid = reserved.process.pid
        self.pgid = self.pid  # it leads a session of its own
        return self.connection_info


def _start_of(cmd: list[str]) -> int | None:
    """Where the arguments of IPython's kernel begin in this command; None where it is another one."""
    if cmd[:1] != [sys.executable] or _MODULE not in cmd:
        return None
    index = cmd.index(_MODULE)
    return index + 1 if cmd[index - 1] == "-m" else None
