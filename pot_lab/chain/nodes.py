"""One way to one EVM node: web3.py's providers, with bounds on what they read and this package's errors.

HTTP, WebSocket and IPC by the address. A node is not trusted: an answer has a largest size and a longest time, no
redirection is followed, and no message shows the address's path, user or password, which often are keys.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import logging
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import SplitResult, urlsplit

from pot_lab.chain.errors import ChainBusy, ChainRefused, ChainUnreachable
from pot_lab.crypto.nested_json import load_json
from pot_lab.errors import Malformed

if TYPE_CHECKING:
    from requests import Response
    from websockets.sync.client import ClientConnection

MAX_ANSWER_BYTES: Final = 16 << 20
_BUSY_STATUS: Final = frozenset((408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))
_SHOWN_CHARACTERS: Final = 80
_CHUNK_BYTES: Final = 1 << 16
_SILENT: Final = logging.Logger("pot_lab.chain.silent", logging.CRITICAL + 1)
"""For libraries whose debug messages hold whole addresses, and so keys."""
_WANTED: Final = "http://host:port, https://host, wss://host or ipc:///path"


class ChainNode(Protocol):
    """One node. `name` is what messages call it: host and port."""

    name: str

    def exchange(self, method: str, parameters: Sequence[Any]) -> object:
        """The node's whole answer to one request, parsed.

        Raises:
            ChainUnreachable, ChainBusy: no answer, or not now.
            ChainRefused: the answer is no JSON, is too long, or refuses the client.
        """
        ...

    def close(self) -> None:
        """Close the connection; a later request opens another."""
        ...


def open_node(url: str, timeout_s: float) -> ChainNode:
    """The node at an address; nothing is connected yet.

    Raises:
        Malformed: it is no http, https, ws, wss or ipc address.
    """
    parts = _parts_of(url)
    if parts.scheme in ("ws", "wss"):
        return _WebSocketNode(url.strip(), _name_of(parts), timeout_s)
    if parts.scheme == "ipc":
        return _IpcNode(parts.path, timeout_s)
    return _HttpNode(url.strip(), _name_of(parts), timeout_s)


def preview(body: bytes) -> str:
    """The beginning of an answer as a person can read it: a page's title, or its first printable characters."""
    text = body[:4_096].decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>([^<]*)", text, re.I)
    shown = " ".join((title.group(1) if title else text).split())
    return "".join(c if c.isprintable() else "?" for c in shown)[:_SHOWN_CHARACTERS] or "nothing"


class _HttpNode:
    def __init__(self, url: str, name: str, timeout_s: float) -> None:
        import requests
        from web3 import HTTPProvider

        self.name, self._timeout_s = name, timeout_s
        self._session = requests.Session()
        self._session.trust_env = not _is_loopback(urlsplit(url).hostname or "")  # proxies, but for this host's nodes
        self._session.hooks["response"] = [self._check]
        # Repeating is the caller's: only it knows whether what failed may be sent again, and how long to wait.
        self._provider = HTTPProvider(
            url,
            {
                "headers": {"Content-Type": "application/json", "Accept-Encoding": "identity"},
                "timeout": timeout_s,
                "allow_redirects": False,
            },
            session=self._session,
            exception_retry_configuration=None,
        )
        self._provider.logger = _SILENT
        logging.getLogger("urllib3.connectionpool").addFilter(_names_no_path)

    def exchange(self, method: str, parameters: Sequence[Any]) -> object:
        for attempt in (0, 1):
            try:
                return self._exchange(method, parameters)
            except _Dropped as error:  # kept alive here, closed by the node in the meantime
                if attempt:
                    raise ChainUnreachable(
                        f"the chain's node closed the connection: {error}", seen=self.name
                    ) from error
        raise AssertionError("unreachable")

    def _exchange(self, method: str, parameters: Sequence[Any]) -> object:
        import requests
        import urllib3
        from web3.types import RPCEndpoint

        try:
            return self._provider.make_request(RPCEndpoint(method), list(parameters))
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidProxyURL) as error:
            raise ChainRefused("the environment names a proxy of another kind", wanted="http://") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            reason = _innermost(error)
            if isinstance(reason, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
                raise _Dropped(str(reason)) from error
            said = str(reason) if isinstance(reason, OSError) else type(reason).__name__
            raise ChainUnreachable(f"the chain's node does not answer: {said}", seen=self.name) from error
        except (ValueError, RecursionError) as error:
            raise ChainRefused("the chain's node answered something else than JSON", seen=str(error)[:80]) from error

    def close(self) -> None:
        self._session.close()

    def _check(self, response: Response, **_: object) -> Response:
        """Read the body, within bounds, and say what a status means; runs before web3 sees the answer."""
        try:
            body = self._read(response)
        except BaseException:  # Ctrl-C too: half of an exchange must not meet the next call
            response.close()
            raise
        is_json, status = body.lstrip().startswith(b"{"), response.status_code
        if status in _BUSY_STATUS and not (status == 500 and is_json):
            raise ChainBusy(f"the chain's node is overloaded: HTTP {status}", seen=self.name)
        if status in (401, 403, 407) and not is_json:
            raise ChainRefused(
                f"the chain's node does not let this address in: HTTP {status}",
                seen=self.name,
                wanted="a valid key, or user and password, in rpc_url",
            )
        if status != 200 and not is_json:
            raise ChainRefused(f"the chain's node answered HTTP {status}", seen=self.name)
        if not is_json:
            raise ChainRefused("the chain's node answered something else than JSON", seen=preview(body))
        response.status_code = 200  # a status beside a JSON error says nothing that the error does not say better
        response.raw = io.BytesIO(body)
        return response

    def _read(self, response: Response) -> bytes:
        parts, size, deadline_s = [], 0, time.monotonic() + 3 * self._timeout_s
        while part := response.raw.read1(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                response.close()
                raise ChainRefused("the chain's node answered too much", wanted=f"at most {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline_s:  # each byte in time, and yet never the whole
                response.close()
                raise ChainUnreachable("the chain's node does not answer: timed out", seen=self.name)
        response.raw.release_conn()
        return b"".join(parts)


class _IpcNode:
    """A node of this host, by its socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        from web3 import IPCProvider

        self.name, self._provider = path, IPCProvider(path, timeout=max(1, round(timeout_s)))

    def exchange(self, method: str, parameters: Sequence[Any]) -> object:
        from web3._utils.threads import Timeout
        from web3.types import RPCEndpoint

        try:
            return self._provider.make_request(RPCEndpoint(method), list(parameters))
        except (OSError, Timeout) as error:
            said = str(error) or "timed out"
            raise ChainUnreachable(f"the chain's node does not answer: {said}", seen=self.name) from error
        except (ValueError, RecursionError) as error:
            raise ChainRefused("the chain's node answered something else than JSON", seen=str(error)[:80]) from error

    def close(self) -> None:
        """Nothing to do: the socket goes with the provider."""


class _WebSocketNode:
    """A node behind a WebSocket, by the client that web3 uses.

    Not by web3's own provider: it runs on asyncio only, and takes over the process's signals.
    """

    def __init__(self, url: str, name: str, timeout_s: float) -> None:
        self.name, self._url, self._timeout_s = name, url, timeout_s
        self._connection: ClientConnection | None = None
        self._id = 0

    def exchange(self, method: str, parameters: Sequence[Any]) -> object:
        from websockets.exceptions import InvalidStatus, WebSocketException

        for attempt in (0, 1):
            kept_alive = self._connection is not None
            try:
                return self._exchange(method, parameters)
            except InvalidStatus as error:
                self.close()
                status = error.response.status_code
                kind = ChainBusy if status in _BUSY_STATUS else ChainRefused
                raise kind(f"the chain's node answered HTTP {status}", seen=self.name) from error
            except (OSError, WebSocketException) as error:
                self.close()
                if attempt == 0 and kept_alive and not isinstance(error, TimeoutError):
                    continue
                said = str(error) or "timed out"
                raise ChainUnreachable(f"the chain's node does not answer: {said}", seen=self.name) from error
            except (ValueError, RecursionError) as error:
                self.close()
                raise ChainRefused(
                    "the chain's node answered something else than JSON", seen=str(error)[:80]
                ) from error
            except BaseException:  # Ctrl-C: half of an exchange must not meet the next call
                self.close()
                raise
        raise AssertionError("unreachable")

    def _exchange(self, method: str, parameters: Sequence[Any]) -> object:
        from websockets.sync.client import connect

        if self._connection is None:
            proxy: Literal[True] | None = None if _is_loopback(urlsplit(self._url).hostname or "") else True
            self._connection = connect(
                self._url,
                open_timeout=self._timeout_s,
                close_timeout=1,
                max_size=MAX_ANSWER_BYTES,
                compression=None,
                logger=_SILENT,
                proxy=proxy,
            )
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(parameters)}
        self._connection.send(json.dumps(request))
        deadline_s = time.monotonic() + self._timeout_s
        while True:  # what is not an answer to this request (a subscription's message, a late answer) is skipped
            answer = load_json(self._connection.recv(timeout=max(0.0, deadline_s - time.monotonic())))
            if not isinstance(answer, dict) or (answer.get("id") in (self._id, None) and "method" not in answer):
                return answer

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _names_no_path(record: logging.LogRecord) -> bool:
    """Drops the debug messages that hold each request's path; adding it again changes nothing."""
    return record.levelno > logging.DEBUG


class _Dropped(Exception):
    """The node closed the connection before it answered."""


def _innermost(error: BaseException) -> BaseException:
    """What made a request fail: the libraries wrap it, and their own words hold the whole address."""
    seen = [error]
    while len(seen) < 16:
        last = seen[-1]
        inner = (
            getattr(last, "reason", None)
            or last.__cause__
            or next((each for each in (*last.args, last.__context__) if isinstance(each, BaseException)), None)
        )
        if not isinstance(inner, BaseException) or inner in seen:
            break
        seen.append(inner)
    return seen[-1]


def _parts_of(url: str) -> SplitResult:
    """An address taken apart; Malformed if it is none."""
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise Malformed(f"a chain's address is {_WANTED}", seen=url) from error
    if parts.scheme == "ipc" and not parts.netloc and parts.path:
        return parts
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise Malformed(f"a chain's address is {_WANTED}", seen=url)
    _name_of(parts)
    return parts


def _name_of(parts: SplitResult) -> str:
    try:
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError as error:
        raise Malformed("a chain's address has a bad port", seen=parts.netloc.rpartition("@")[2]) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
