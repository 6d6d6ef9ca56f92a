"""Serves custody over HTTP: whatever is held may be read by all, and only what is expected may be put.

A process beside an aggregator, which shares the folder with it: the aggregator expects, attests and prunes there, this
one takes the bytes that a named blob's owner, or anybody, brings. It knows no accounts: what a blob costs whom is in
the index already.

    python -m pot_lab.store.custody_server --root DIR [--port N] [--port-file FILE] [--end-with-stdin]
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from pot_lab.errors import PotLabError
from pot_lab.store.custody import Custody, CustodyLimits
from pot_lab.store.errors import NotExpected, StoreFull, TooBig, WrongHash
from pot_lab.store.server import CHUNK_BYTES, BlobHandler, BlobServer, serve

_REFUSALS: dict[type[PotLabError], int] = {NotExpected: 403, TooBig: 413, WrongHash: 422, StoreFull: 507}


class CustodyServer(BlobServer):
    """Serves the folder of a `Custody`.

    Args:
        custody: what takes blobs; closed with the server.
        host, port, allow_remote: as of `BlobServer`.

    Raises:
        PortTaken, StoreBusy, UnusableAddress.
    """

    def __init__(self, custody: Custody, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False) -> None:
        self.custody = custody
        super().__init__(
            custody.root,
            host=host,
            port=port,
            blob_limit_bytes=custody.limits.blob_bytes,
            total_limit_bytes=custody.limits.total_bytes,
            allow_remote=allow_remote,
        )

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers a connection's requests."""
        return CustodyHandler

    def state(self) -> dict[str, int]:
        """What room there is, and how many blobs are expected and have not come (`missing`)."""
        return {
            "used_bytes": self.custody.used_bytes(),
            "total_limit_bytes": self.custody.limits.total_bytes,
            "blob_limit_bytes": self.custody.limits.blob_bytes,
            "missing": len(self.custody.missing()),
        }

    def server_close(self) -> None:
        """Close the socket, the folder and the index."""
        super().server_close()
        self.custody.close()


class CustodyHandler(BlobHandler):
    """Answers the requests of one connection to custody."""

    server: CustodyServer

    def store(self, name: str, size: int, first: int) -> None:
        """Take an expected body, and answer; whole ones only."""
        if first:
            return self.refuse_body(409, "custody takes whole blobs")
        custody, digest = self.server.custody, bytes.fromhex(name)
        if custody.has(digest, size):
            return self.refuse_body(200, "already here") if size else self.answer(200, "already here")
        if not custody.is_expected(digest, size):
            return self.refuse_body(403, "nobody pays for custody of a blob of this hash and length")
        self.ask_for_body()
        rest = size
        try:
            with custody.receive(digest, size) as writer:
                while rest > 0:
                    data = self.rfile.read1(min(CHUNK_BYTES, rest))
                    if not data:
                        raise ConnectionAbortedError
                    self.server.connections.moved(self.request, len(data))
                    writer.write(data)
                    rest -= len(data)
        except ConnectionAbortedError:
            self.close_connection = True
            return None
        except PotLabError as error:
            status = _REFUSALS.get(type(error), 500)
            return self.refuse_body(status, str(error)) if rest else self.answer(status, str(error))
        return self.answer(201, "kept")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    usual = CustodyLimits()
    parser = argparse.ArgumentParser(prog="pot_lab.store.custody_server", description="Serve an aggregator's custody.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="where to write the port, once listening")
    parser.add_argument("--blob-limit-bytes", type=int, default=usual.blob_bytes)
    parser.add_argument("--total-limit-bytes", type=int, default=usual.total_bytes)
    parser.add_argument("--allow-remote", action="store_true")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    limits = usual._replace(total_bytes=options.total_limit_bytes, blob_bytes=options.blob_limit_bytes)
    try:
        server = CustodyServer(
            Custody(options.root, limits), host=options.host, port=options.port, allow_remote=options.allow_remote
        )
    except (PotLabError, OSError, ValueError) as error:
        print(f"pot-lab custody: {error}", file=sys.stderr)
        return 1
    if options.end_with_stdin:
        threading.Thread(target=_await_parent, args=(server,), daemon=True).start()
    return serve(server, options.port_file)


def _await_parent(server: CustodyServer) -> None:
    """End serving when whoever holds the other end of standard input has ended."""
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
