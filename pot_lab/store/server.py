"""The testnet's blob server: content-addressed PUT, GET and HEAD over HTTP/1.1 on loopback, in one light process.

A blob's path is its SHA-256 in hex; a PUT whose bytes hash to anything else is refused, so whoever may write can only
add, never change. Sizes are checked before a body is read, room is taken as the bytes come, and whoever is slow or says
nothing keeps nobody out (`connections`). There is no listing of names, no deletion and no account: it
serves one host's testnet, and listens elsewhere only with `--allow-remote`. Uses the standard library alone, to stay
small.

    python -m pot_lab.store.server --root DIR [--port N] [--port-file FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import ipaddress
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from pot_lab.errors import PortTaken, PotLabError
from pot_lab.files import FileLocked, locked, replace_durably
from pot_lab.store.connections import IDLE_TIMEOUT_S, Connections, place_of
from pot_lab.store.errors import StoreBusy, UnusableAddress
from pot_lab.store.http_head import BoundedHead
from pot_lab.store.room import Beginning, Room

BLOB_LIMIT_BYTES = 1 << 30
TOTAL_LIMIT_BYTES = 16 << 30
CHUNK_BYTES = 1 << 18
LINGER_BYTES = 64 << 20
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"/([0-9a-f]{64})\Z")
_REST = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})\Z")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})\Z")


class BlobServer(ThreadingHTTPServer):
    """Serves one folder of blobs.

    Args:
        root: the folder; made if missing. One server at a time, by a lock file.
        host, port: where to listen; port 0 chooses a free one.
        blob_limit_bytes, total_limit_bytes: caps on one blob and on all.
        address_limit_bytes: what one address, other than this host, may store as long as the server runs; by default a
            quarter of all.
        allow_remote: listen on an address that is not loopback.
        clock_s: a clock for the connections' deadlines, in seconds.

    Raises:
        PortTaken, StoreBusy, UnusableAddress.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        blob_limit_bytes: int = BLOB_LIMIT_BYTES,
        total_limit_bytes: int = TOTAL_LIMIT_BYTES,
        address_limit_bytes: int | None = None,
        allow_remote: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not allow_remote and not ipaddress.ip_address(host).is_loopback:
            raise UnusableAddress(
                "the blob server listens on loopback only", seen=host, wanted="127.0.0.1, or --allow-remote"
            )
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.blob_limit_bytes = blob_limit_bytes
        self.connections = Connections(clock_s=clock_s)
        self._held = contextlib.ExitStack()
        try:
            self._held.enter_context(locked(self.root / ".lock"))  # as long as the server lives
        except FileLocked as error:
            raise StoreBusy("another server serves this folder", seen=str(self.root)) from error
        self.room = Room(
            self.root,
            total_limit_bytes=total_limit_bytes,
            address_limit_bytes=total_limit_bytes // 4 if address_limit_bytes is None else address_limit_bytes,
            clock_s=clock_s,
        )
        if ipaddress.ip_address(host).version == 6:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), self.handler())
        except OSError as error:
            self._held.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken("the blob server's port is taken", seen=f"{host}:{port}") from error
            raise

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers a connection's requests."""
        return BlobHandler

    def state(self) -> dict[str, int]:
        """What is stored, and how much may be: `used_bytes`, `total_limit_bytes`, `blob_limit_bytes`, and `blobs`."""
        return {
            "blobs": self.room.blobs,
            "used_bytes": self.room.used_bytes,
            "total_limit_bytes": self.room.total_limit_bytes,
            "blob_limit_bytes": self.blob_limit_bytes,
        }

    def health(self) -> tuple[int, str]:
        """An HTTP status and a line: 200 where a blob of the largest size can be stored, else 503 with the reason."""
        state = self.state()
        free_bytes = min(state["total_limit_bytes"] - state["used_bytes"], shutil.disk_usage(self.root).free)
        if free_bytes < self.blob_limit_bytes:
            return 503, f"only {free_bytes} bytes are free, fewer than a blob may have ({self.blob_limit_bytes})"
        return (200, "healthy") if os.access(self.root, os.W_OK) else (503, "the folder cannot be written")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, or answer 503 when all places are taken by who uses them."""
        if not self.connections.admit(request, client_address[0]):
            try:
                request.settimeout(1.0)
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except OSError:
                pass
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave(request)

    def service_actions(self) -> None:
        """End connections that are too slow, and beginnings that are too old; the server calls it at every turn."""
        self.connections.reap()
        self.room.expire()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print errors, but not clients that hung up or fell silent."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Close the socket and release the folder."""
        super().server_close()
        self._held.close()


class BlobHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection. Anybody may put a blob; `store` decides what becomes of it."""

    server: BlobServer
    protocol_version = "HTTP/1.1"
    server_version = "pot-lab-store"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    _place = ""
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: blobs' names show who trains what."""

    # ------------------------------------------------------------------------------------------ answers

    def answer(
        self, status: int, text: str, *, content_type: str = "text/plain; charset=utf-8", **headers: str
    ) -> None:
        """Answer with a line of text; `headers` have underscores for hyphens."""
        body = text.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse_body(self, status: int, text: str) -> None:
        """Answer before the body is read, then read a bounded rest of it: a reset would destroy the answer."""
        self.close_connection = True
        self.answer(status, text)
        self.wfile.flush()
        self.connection.settimeout(2.0)
        discarded_bytes = 0
        deadline = time.monotonic() + 10.0
        try:
            while discarded_bytes < LINGER_BYTES and time.monotonic() < deadline:
                data = self.rfile.read1(CHUNK_BYTES)
                if not data:
                    break
                discarded_bytes += len(data)
        except OSError:
            pass

    # ------------------------------------------------------------------------------------------ methods

    def setup(self) -> None:
        """Prepare a connection."""
        super().setup()
        self.rfile = self._head = BoundedHead(self.rfile)  # type: ignore[assignment]
        self._place = place_of(self.client_address[0])

    def handle_one_request(self) -> None:
        """Take one request."""
        self._head.begin()
        super().handle_one_request()

    def do_HEAD(self) -> None:
        """The head of a blob, or how much of it is kept from an upload that broke off."""
        self._as_request(self._get)

    def do_GET(self) -> None:
        """A blob, or a range of it."""
        self._as_request(self._get)

    def do_PUT(self) -> None:
        """A blob to keep."""
        self._as_request(self._put)

    def _as_request(self, method: Callable[[], None]) -> None:
        self.server.connections.begin(self.request)
        try:
            method()
        finally:
            self.server.connections.end(self.request)

    def _get(self) -> None:
        if self.path == "/":
            return self.answer(200, json.dumps(self.server.state()), content_type="application/json")
        if self.path == "/metrics":
            facts = {**self.server.state(), "connections": len(self.server.connections)}
            lines = [f"# TYPE pot_lab_store_{name} gauge\npot_lab_store_{name} {facts[name]}" for name in sorted(facts)]
            return self.answer(200, "\n".join(lines), content_type=_METRICS_TYPE)
        if self.path == "/healthz":
            return self.answer(*self.server.health())
        name = _NAME.match(self.path)
        if name is None:
            return self.answer(404, "a blob's path is its SHA-256 in hex")
        try:
            file = open(self.server.root / name[1], "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            begun_bytes = self.server.room.begun_bytes(name[1], self._place)
            kept = {"Upload_Offset": str(begun_bytes)} if begun_bytes else {}
            return self.answer(404, "no such blob", **kept)
        with file:
            self._send(name[1], file)
        return None

    def _send(self, name: str, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        first, end, status = 0, size, 200
        wanted = self.headers.get("Range")
        asked = _RANGE.match(wanted) if wanted else None
        if asked is not None and (asked[1] or asked[2]):
            if asked[1]:
                first = int(asked[1])
                end = min(size, int(asked[2]) + 1) if asked[2] else size
            else:
                first = max(0, size - int(asked[2]))
            if first >= end:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status = 206
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{name}"')
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        file.seek(first)
        rest = end - first
        while rest > 0:
            data = file.read(min(CHUNK_BYTES, rest))
            if not data:
                self.close_connection = True  # the file shrank below us: the reader sees a short body
                return
            self.wfile.write(data)
            self.server.connections.moved(self.request, len(data))
            rest -= len(data)

    def _put(self) -> None:
        name = _NAME.match(self.path)
        length = self.headers.get("Content-Length", "")
        if name is None:
            return self.refuse_body(404, "a blob's path is its SHA-256 in hex")
        if (
            not re.fullmatch(r"[0-9]{1,15}", length)
            or self.headers.get("Transfer-Encoding")
            or len(self.headers.get_all("Content-Length", [])) != 1
        ):
            return self.refuse_body(411, "a body needs its Content-Length, once")
        first, size = 0, int(length)
        if "Content-Range" in self.headers:
            parts = _REST.match(self.headers["Content-Range"])
            if parts is None or int(parts[2]) + 1 != int(parts[3]) or int(parts[3]) - int(parts[1]) != size:
                return self.refuse_body(400, "a rest's Content-Range is bytes FIRST-LAST/TOTAL, to the end")
            first, size = int(parts[1]), int(parts[3])
        if size > self.server.blob_limit_bytes:
            return self.refuse_body(413, f"a blob has at most {self.server.blob_limit_bytes} bytes")
        return self.store(name[1], size, first)

    def store(self, name: str, size: int, first: int) -> None:
        """Take a body and answer: that of the blob whose SHA-256 is `name`, in hex, and which has `size` bytes, from
        its byte `first` on.
        """
        path, room = self.server.root / name, self.server.room
        if path.exists():
            os.utime(path)  # whoever removes old blobs sees that it is wanted
            return self.refuse_body(200, "already here") if size else self.answer(200, "already here")
        if size - first > room.free_bytes(self._place):
            return self.refuse_body(507, self._full())
        begun = room.resume(name, self._place, first, size) if first else None
        if first and begun is None:
            return self.refuse_body(409, "no upload of this blob stopped there")
        try:
            outcome = self._receive(path, name, size, begun)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            return self.refuse_body(507, "the store's disk is full")
        if outcome is None:
            self.close_connection = True
        elif outcome[0] == 507:
            self.refuse_body(*outcome)
        else:
            self.answer(*outcome)
        return None

    def ask_for_body(self) -> None:
        """Tell a sender that waits for it to go on."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()

    def _full(self) -> str:
        return (
            f"the store is full at {self.server.room.total_limit_bytes} bytes, "
            f"or at {self.server.room.address_limit_bytes} bytes of one address"
        )

    def _receive(self, path: Path, name: str, size: int, begun: Beginning | None) -> tuple[int, str] | None:
        """Read the body into the folder; returns the answer to give, or None when the sender hung up, whose bytes are
        kept for a while then.
        """
        self.ask_for_body()
        room, place = self.server.room, self._place
        temporary = path.with_name(f".{name[:16]}.{secrets.token_hex(8)}.tmp") if begun is None else begun.path
        taken = begun.size_bytes if begun is not None else 0
        kept = False
        try:
            with open(temporary, "xb" if begun is None else "r+b") as file:
                total = hashlib.sha256()
                while begun is not None and (data := file.read(CHUNK_BYTES)):
                    total.update(data)
                try:
                    while taken < size:
                        data = self.rfile.read1(min(CHUNK_BYTES, size - taken))
                        if not data:
                            break
                        self.server.connections.moved(self.request, len(data))
                        if not room.take(place, len(data)):
                            return 507, self._full()
                        taken += len(data)
                        total.update(data)
                        file.write(data)
                except (ConnectionError, TimeoutError):
                    pass
                file.flush()
                if taken < size:
                    kept = room.keep(name, place, temporary, taken, size)
                    return None
                if total.hexdigest() != name:
                    return 422, f"the bytes hash to {total.hexdigest()}"
                os.fsync(file.fileno())
            kept = room.store(temporary, path, size)
            room.forget(name, place)
            return (201, "kept") if kept else (200, "already here")
        finally:
            if not kept:
                temporary.unlink(missing_ok=True)
                room.give_back(place, taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="pot_lab.store.server", description="Serve a folder of content-addressed blobs."
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="where to write the port, once listening")
    parser.add_argument("--blob-limit-bytes", type=int, default=BLOB_LIMIT_BYTES)
    parser.add_argument("--total-limit-bytes", type=int, default=TOTAL_LIMIT_BYTES)
    parser.add_argument("--address-limit-bytes", type=int, help="of one address but this host (default: a quarter)")
    parser.add_argument("--allow-remote", action="store_true")
    options = parser.parse_args(arguments)
    try:
        server = BlobServer(
            options.root,
            host=options.host,
            port=options.port,
            blob_limit_bytes=options.blob_limit_bytes,
            total_limit_bytes=options.total_limit_bytes,
            address_limit_bytes=options.address_limit_bytes,
            allow_remote=options.allow_remote,
        )
    except (PotLabError, OSError, ValueError) as error:
        print(f"pot-lab store: {error}", file=sys.stderr)
        return 1

    return serve(server, options.port_file)


def serve(server: BlobServer, port_file: Path | None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Args:
        port_file: where the port is written as long as the server listens.
    """

    def stop(signum: int, frame: object) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()  # shutdown waits for the loop that we interrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if port_file is not None:
        replace_durably(port_file, f"{server.port}\n".encode())
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
        if port_file is not None:
            port_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
