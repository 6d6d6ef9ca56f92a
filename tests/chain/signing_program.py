"""A program that keeps keys and signs when it is asked, as a hardware wallet's bridge does; with eth-account."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eth_account import Account

from pot_lab.crypto.identity import Identity, format_address


@contextmanager
def signing_program(*keys: Identity) -> Iterator[tuple[str, list[str]]]:
    """Yields its address, and the methods that it was asked, in a row."""
    secrets = {format_address(each.address).lower(): each.secret for each in keys}
    asked: list[str] = []

    def answer(method: str, parameters: list[Any]) -> Any:
        asked.append(method)
        if method == "eth_accounts":
            return [format_address(each.address) for each in keys]
        if method == "eth_signTransaction":
            given = dict(parameters[0])
            secret = secrets[given.pop("from").lower()]
            given["type"] = 2
            return "0x" + bytes(Account.sign_transaction(given, secret).raw_transaction).hex()
        account, message = parameters
        return "0x" + bytes(Account.sign_typed_data(secrets[account.lower()], full_message=message).signature).hex()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = {"jsonrpc": "2.0", "id": request["id"]}
            try:
                body["result"] = answer(request["method"], request["params"])
            except KeyError as error:
                body["error"] = {"code": -32000, "message": f"no key of {error}"}
            raw = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
