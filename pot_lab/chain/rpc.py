"""JSON-RPC to one EVM node over HTTP, with the standard library alone.

web3.py would cost every aggregator about 40 MB of memory for the few calls made here (chain.md), so it serves as
the tests' second opinion instead. A node is not trusted: answers are bounded in size, checked in shape and waited for
only so long. The caller decides on retries; the one exception is a kept-alive connection that the node had closed
meanwhile.
"""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any, Final
from urllib.parse import urlsplit

from pot_lab.chain.contract import read_revert
from pot_lab.chain.errors import ChainRefused, ChainUnreachable
from pot_lab.errors import Malformed

MAX_ANSWER_BYTES: Final = 16 << 20
DEFAULT_TIMEOUT_S: Final = 10.0
_REVERT_CODES: Final = (3, -32000, -32015)


class JsonRpc:
    """One node. Safe to share between threads: calls go one after the other.

    Args:
        url: http:// or https:// address of the node.
        timeout_s: how long one answer may take.
    Raises:
        Malformed: it is not an http or https address.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Malformed("a chain's address is http://host:port or https://host", seen=url)
        try:
            port = parts.port
        except ValueError as error:
            raise Malformed("a chain's address has a bad port", seen=url) from error
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()
        self._id = 0
        # Paths of hosted nodes often hold a key: messages name the host only.
        self.name = f"{self._host}:{port}" if port else self._host

    def call(self, method: str, *parameters: Any) -> Any:
        """Call one method and return its result.

        Raises:
            ChainUnreachable: no answer, or not in time.
            ChainReverted: a contract refused, with its named error.
            ChainRefused: the node refused, or its answer is malformed.
        """
        with self._lock:
            self._id += 1
            request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(parameters)}
            body = self._exchange(json.dumps(request, separators=(",", ":")).encode())
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ChainRefused("the chain's node answered something else than JSON", seen=body) from error
        if not isinstance(answer, dict):
            raise ChainRefused("the chain's node answered out of shape", seen=body)
        error_ = answer.get("error")
        if error_ is not None:
            raise _refusal(method, error_)
        if "result" not in answer:
            raise ChainRefused("the chain's node answered out of shape", seen=body)
        return answer["result"]

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            self._drop()

    def _exchange(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        for attempt in (0, 1):
            kept_alive = self._connection is not None
            try:
                connection = self._connection = self._connection or self._connect()
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                data = response.read(MAX_ANSWER_BYTES + 1)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                self._drop()
                if attempt == 0 and kept_alive:
                    continue
                raise ChainUnreachable(f"the chain's node closed the connection: {error}", seen=self.name) from error
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                reason = str(error) or type(error).__name__
                raise ChainUnreachable(f"the chain's node does not answer: {reason}", seen=self.name) from error
            if len(data) > MAX_ANSWER_BYTES:
                self._drop()
                raise ChainRefused("the chain's node answered too much", wanted=f"at most {MAX_ANSWER_BYTES} bytes")
            if response.status in (429, 502, 503, 504):
                raise ChainUnreachable(f"the chain's node is overloaded: HTTP {response.status}", seen=self.name)
            if response.status != 200 and not data.startswith(b"{"):
                raise ChainRefused(f"the chain's node answered HTTP {response.status}", seen=self.name)
            return data
        raise AssertionError("unreachable")

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def hex_quantity(value: int) -> str:
    """JSON-RPC's form of an integer."""
    return hex(value)


def hex_data(data: bytes) -> str:
    """JSON-RPC's form of bytes."""
    return "0x" + data.hex()


def read_quantity(text: Any) -> int:
    """An integer from a node.

    Raises:
        ChainRefused: it is not a hexadecimal quantity.
    """
    try:
        if text[:2] == "0x" and len(text) <= 66:
            return int(text, 16)
    except (TypeError, ValueError):
        pass
    raise ChainRefused("the chain's node gave no quantity", seen=text)


def read_data(text: Any, size: int | None = None) -> bytes:
    """Bytes from a node; with `size`, exactly so many.

    Raises:
        ChainRefused: they are not hexadecimal data, or of another length.
    """
    try:
        data = bytes.fromhex(text[2:]) if text[:2] == "0x" else None
    except (TypeError, ValueError):
        data = None
    if data is None or (size is not None and len(data) != size):
        raise ChainRefused("the chain's node gave no data", seen=text, wanted=f"{size} bytes" if size else None)
    return data


def _refusal(method: str, error: Any) -> Exception:
    """One decoder for every kind of node: revert data is `data`, or `data.data`, perhaps behind the word "Reverted"."""
    if not isinstance(error, dict):
        return ChainRefused(f"the chain's node refused {method}", seen=error)
    message, data = str(error.get("message", "")), error.get("data")
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    reverted = error.get("code") == 3 or "revert" in message.lower()
    if isinstance(data, str) and reverted:
        text = data.removeprefix("Reverted ")
        if text.startswith("0x"):
            try:
                return read_revert(bytes.fromhex(text[2:]))
            except ValueError:
                pass
    if reverted and error.get("code") in _REVERT_CODES:
        return read_revert(b"")
    return ChainRefused(f"the chain's node refused {method}: {message}", seen=error.get("code"))
