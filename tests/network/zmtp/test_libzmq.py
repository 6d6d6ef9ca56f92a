"""Why strangers reach no socket of libzmq: two ways in which one connection ends the process behind it.

Where a connection fills its pipe (RCVHWM), libzmq stops reading it. If it hangs up then, the engine notes `_io_error`
and waits for the reader; whatever makes it write meanwhile fails `zmq_assert(!_io_error)`, which is abort(). Its own
heartbeat's timer writes (libzmq#4364), and so does the answer to a PING that stands behind the messages. Without
heartbeats only the second remains, so leaving them out closes nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from pot_lab.network.zmtp.connection import Connection
from pot_lab.network.zmtp.framing import encode_frame
from tests.network.toy import ROOT
from tests.network.zmtp.raw import PATIENCE_S, hang_up, opened, push

HEARTBEAT_MS = 200
KEYS = CurveKeyPair.generate()


class Router:
    def __init__(self, heartbeat_ms: int) -> None:
        [self.port] = free_ports(1)
        command = [sys.executable, "-m", "tests.network.zmtp.libzmq_router", str(self.port), KEYS.secret]
        self.process = subprocess.Popen(
            [*command, str(heartbeat_ms)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "bound\n"

    def end(self, *, drain: bool) -> str:
        """Wait for it, draining first if asked; its stderr."""
        if drain:
            _, told = self.process.communicate("drain\n", timeout=PATIENCE_S)
        else:
            assert self.process.wait(PATIENCE_S) is not None
            told = self.process.communicate()[1]
        return told


@pytest.fixture
def routers() -> Iterator[list[Router]]:
    started: list[Router] = []
    yield started
    for router in started:
        router.process.kill()
        router.process.communicate()


def fill_and_hang_up(connection: Connection, last: bytes = b"") -> None:
    """More small messages than the pipe takes, with pings between them if `last` is one; then a reset."""
    channel = connection._handshake.channel
    assert channel is not None
    frames = []
    for _ in range(400):
        frames.append(encode_frame(channel.seal(b"x")))
        if last:
            frames.append(encode_frame(channel.seal(last, is_command=True)))
    push(connection, b"".join(frames), 0.5)
    hang_up(connection)


def test_its_own_heartbeat_aborts_a_process_whose_full_connection_hangs_up(routers: list[Router]) -> None:
    routers.append(Router(HEARTBEAT_MS))
    fill_and_hang_up(opened("127.0.0.1", routers[0].port, KEYS.public))
    assert "_io_error" in routers[0].end(drain=False)
    assert routers[0].process.returncode == -signal.SIGABRT


def test_a_strangers_ping_does_the_same_without_any_heartbeat(routers: list[Router]) -> None:
    routers.append(Router(0))
    fill_and_hang_up(opened("127.0.0.1", routers[0].port, KEYS.public), b"\x04PING\0\0")
    assert "_io_error" in routers[0].end(drain=True)
    assert routers[0].process.returncode == -signal.SIGABRT


def test_without_either_it_ends_by_itself(routers: list[Router]) -> None:
    """So it is these that abort it, and not the connection's end."""
    routers.append(Router(0))
    fill_and_hang_up(opened("127.0.0.1", routers[0].port, KEYS.public))
    assert routers[0].end(drain=True) == "" and routers[0].process.returncode == 0
