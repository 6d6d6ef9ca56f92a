"""JSON-RPC to one EVM node over HTTP, with the standard library alone.

web3.py would cost every aggregator about 40 MB of memory for the few calls made here (chain.md), so it serves as
the tests' second opinion instead. A node is not trusted: answers are bounded in size, checked in shape and waited for
only so long. The caller decides on retries; the one exception is a kept-alive connection that the node had closed
meanwhile. Public nodes differ in how they say "later"; here each of their ways is `ChainBusy`.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import re
import threading
import urllib.request
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pot_lab.chain.contract import read_revert
from pot_lab.chain.errors import ChainBusy, ChainRefused, ChainUnreachable
from pot_lab.errors import Malformed

MAX_ANSWER_BYTES: Final = 16 << 20
DEFAULT_TIMEOUT_S: Final = 10.0
_REVERT_CODES: Final = (3, -32000, -32015)
_BUSY_STATUS: Final = frozenset((408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))
_BUSY_CODES: Final = frozenset((429, -32005, -32007, -32029, -32090, -32097))
"""Codes with which public nodes refuse for now; some mean a span of blocks as well, which `_TOO_WIDE` tells apart."""
_BUSY: Final = re.compile(
    r"rate.?limit|rate (?:is )?exceeded|limit (?:was |is )?reached|too many requests|requests? (?:per|limit)|per second"
    r"|throttl|compute units|capacity|overload|too busy|is busy|try again|retry|timed? ?out|header not found"
    r"|temporar|unavailable at the moment|quota",
    re.I,
)
_TOO_WIDE: Final = re.compile(
    r"\b(?:block )?range\b|\bblocks\b|\bresults?\b|\blogs\b|response (?:size|is too)|returned more than", re.I
)
_SHOWN_CHARACTERS: Final = 80


class JsonRpc:
    """One node. Safe to share between threads: calls go one after the other.

    Args:
        url: http:// or https:// address of the node.
        timeout_s: how long one answer may take.
    Raises:
        Malformed: it is not an http or https address.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        parts, port = _parts_of(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", port
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        self._path = path + (f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"} | _credentials(
            parts, "Authorization"
        )
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
            ChainBusy: the node refuses for now, e.g. by a rate limit.
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
            raise ChainRefused("the chain's node answered something else than JSON", seen=_preview(body)) from error
        if not isinstance(answer, dict):
            raise ChainRefused("the chain's node answered out of shape", seen=_preview(body))
        error_ = answer.get("error")
        if error_ is not None:
            raise _refusal(method, error_)
        if "result" not in answer:
            raise ChainRefused("the chain's node answered out of shape", seen=_preview(body))
        return answer["result"]

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            self._drop()

    def _exchange(self, body: bytes) -> bytes:
        for attempt in (0, 1):
            kept_alive = self._connection is not None
            try:
                connection = self._connection = self._connection or self._connect()
                connection.request("POST", self._target(), body, self._headers)
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
            except BaseException:  # Ctrl-C: half of an exchange must not meet the next call
                self._drop()
                raise
            if len(data) > MAX_ANSWER_BYTES:
                self._drop()
                raise ChainRefused("the chain's node answered too much", wanted=f"at most {MAX_ANSWER_BYTES} bytes")
            is_json = data.lstrip().startswith(b"{")
            if response.status in _BUSY_STATUS and not (response.status == 500 and is_json):
                raise ChainBusy(f"the chain's node is overloaded: HTTP {response.status}", seen=self.name)
            if response.status in (401, 403, 407) and not is_json:
                raise ChainRefused(
                    f"the chain's node does not let this address in: HTTP {response.status}",
                    seen=self.name,
                    wanted="a valid key, or user and password, in rpc_url",
                )
            if response.status != 200 and not is_json:
                raise ChainRefused(f"the chain's node answered HTTP {response.status}", seen=self.name)
            return data
        raise AssertionError("unreachable")

    def _proxy(self) -> SplitResult | None:
        """The proxy that the environment names for this node; none for a loopback address."""
        if _is_loopback(self._host) or urllib.request.proxy_bypass(self.name):
            return None
        named = urllib.request.getproxies()
        proxy = named.get("https" if self._secure else "http") or named.get("all")
        if not proxy:
            return None
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme != "http" or not parts.hostname:
            raise ChainRefused("the environment names a proxy of another kind", seen=parts.scheme, wanted="http://")
        return parts

    def _target(self) -> str:
        """What the request line names: the path, or for a plain request through a proxy the whole address."""
        if self._secure or self._proxy() is None:
            return self._path
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port or 80}{self._path}"

    def _connect(self) -> http.client.HTTPConnection:
        proxy = self._proxy()
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        if proxy is None:
            return kind(self._host, self._port, timeout=self._timeout_s)
        connection = kind(proxy.hostname or "", proxy.port or 80, timeout=self._timeout_s)
        access = _credentials(proxy, "Proxy-Authorization")
        if self._secure:
            connection.set_tunnel(self._host, self._port or 443, headers=access)
        else:
            self._headers |= access
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _parts_of(url: str) -> tuple[SplitResult, int | None]:
    """An address taken apart, and its port; Malformed if it is none."""
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise Malformed("a chain's address is http://host:port or https://host", seen=url) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Malformed("a chain's address is http://host:port or https://host", seen=url)
    try:
        return parts, parts.port
    except ValueError as error:
        raise Malformed("a chain's address has a bad port", seen=parts.netloc.rpartition("@")[2]) from error


def _credentials(parts: SplitResult, header: str) -> dict[str, str]:
    """The header for the user and the password of an address, if it has any."""
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {header: "Basic " + base64.b64encode(pair.encode()).decode()}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _preview(body: bytes) -> str:
    """The beginning of an answer as a person can read it: a page's title, or its first printable characters."""
    text = body[:4_096].decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>([^<]*)", text, re.I)
    shown = " ".join((title.group(1) if title else text).split())
    return "".join(c if c.isprintable() else "?" for c in shown)[:_SHOWN_CHARACTERS] or "nothing"


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
    code = error.get("code")
    wide = method == "eth_getLogs" and _TOO_WIDE.search(message) and not _BUSY.search(message)
    if not reverted and not wide and (code in _BUSY_CODES or _BUSY.search(message)):
        return ChainBusy(f"the chain's node refuses {method} for now: {message}", seen=code)
    return ChainRefused(f"the chain's node refused {method}: {message}", seen=code)
