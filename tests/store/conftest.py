"""A real blob server in its own process, and an HTTP server that follows a script."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pot_lab.store.server import BlobServer
from tests.begin import writing_at_most
from tests.clock import Clock

SERVER = "pot_lab.store.server"


class ServerProcess:
    """`python -m pot_lab.store.server`, or another module with the same options, with a folder of its own."""

    def __init__(self, root: Path, *arguments: str, file_bytes: int | None = None, module: str = SERVER) -> None:
        self.root = root
        self.port_file = root.with_name(root.name + ".port")
        command = [sys.executable, "-m", module, "--root", str(root)]
        command += ["--port-file", str(self.port_file), *arguments]
        if file_bytes is not None:
            command = writing_at_most(file_bytes, command)
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not self.port_file.exists():
            if self.process.poll() is not None:
                raise RuntimeError(self.process.stderr.read() if self.process.stderr else "")
            time.sleep(0.02)
        self.port = int(self.port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)
        try:
            connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        finally:
            connection.close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(240)
        if self.process.stderr:
            self.process.stderr.close()
        return code


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    running: list[ServerProcess] = []

    def start(*arguments: str, root: Path | None = None, file_bytes: int | None = None) -> ServerProcess:
        server = ServerProcess(root or tmp_path / f"blobs{len(running)}", *arguments, file_bytes=file_bytes)
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def total_limit_bytes() -> int:
    return 1 << 30


@pytest.fixture
def server(tmp_path: Path, clock: Clock, total_limit_bytes: int) -> Iterator[BlobServer]:
    """A blob server on a thread, whose deadlines go by a clock of the test's."""
    made = BlobServer(tmp_path / "blobs", total_limit_bytes=total_limit_bytes, clock_s=clock)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join(60)
    made.server_close()


class ScriptedServer:
    """A socket server that answers each connection with the next script: bytes to send, seconds to wait, or a hang-up.

    The last script serves all further connections. The requests' headers are in `requests`.
    """

    def __init__(self, *scripts: list[bytes | float]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/blob"
        self._stopped = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            threading.Thread(target=self._answer, args=(connection, script), daemon=True).start()

    def _answer(self, connection: socket.socket, script: list[bytes | float]) -> None:
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(4096)):
                    head += data
                self.requests.append(head)
                for step in script:
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    elif self._stopped.wait(step):
                        return
            except OSError:
                pass

    def close(self) -> None:
        self._stopped.set()
        self._socket.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    made: list[ScriptedServer] = []

    def start(*scripts: list[bytes | float]) -> ScriptedServer:
        made.append(ScriptedServer(*scripts))
        return made[-1]

    yield start
    for one in made:
        one.close()
