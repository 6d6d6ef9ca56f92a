"""Blobs over HTTP, on urllib3: streamed, with redirects counted, proxies from the environment and no encodings.

Reading stops when the caller closes the source from its own thread, so neither a server that drips nor one that never
ends its header can outlast the caller's deadline. Must not decode or hold more than it hands on.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, LocationValueError
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers

from pot_lab.store.addresses import HTTP_SCHEMES, is_private, is_private_place, same_origin, split_credentials
from pot_lab.store.errors import LinkDead, UnusableAddress
from pot_lab.store.transport import CHUNK_BYTES, Interrupted

REDIRECT_LIMIT = 5
CONNECT_TIMEOUT_S = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)
_SIZE = re.compile(r"[0-9]{1,18}\Z")


def proxy_of(uri: str) -> str | None:
    """The proxy that the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`) names for this address.

    Loopback addresses are never asked for through a proxy.

    Raises:
        UnusableAddress: the environment names a proxy of a kind that is not supported.
    """
    parts = urlsplit(uri)
    if _is_loopback(parts.hostname or "") or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in HTTP_SCHEMES:
        raise UnusableAddress(
            "the environment names a proxy that is not supported", seen=urlsplit(proxy).scheme, wanted="http or https"
        )
    return proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HttpExchange:
    """The requests of one transfer, each over a connection of its own that another thread can cut.

    Args:
        timeout_s: the most that one wait for the network takes, in seconds.
        credentials: `user:password`, for the origin of the first address only.
        private: whether addresses, redirects included, may be of this host or of a private network.
    """

    def __init__(self, timeout_s: float, credentials: str | None, *, private: bool = True) -> None:
        self._timeout_s = timeout_s
        self._private = private
        self._credentials = credentials
        self._sockets: list[socket.socket] = []
        self._response: BaseHTTPResponse | None = None
        self._cut = False

    def request(
        self, method: str, uri: str, headers: dict[str, str], body: bytes | Path | None = None, *, first: int = 0
    ) -> BaseHTTPResponse:
        """Send a request, follow redirects and read the answer's header; the body is still to be read.

        Args:
            body: what to send, from its byte `first` on.
        Raises:
            UnusableAddress: an address, or a redirect to one, that is not HTTP or has an impossible host.
            LinkDead: more redirects than REDIRECT_LIMIT.
            Interrupted: the network, or `cut`.
        """
        here, own = split_credentials(uri)
        credentials = own or self._credentials
        for _ in range(REDIRECT_LIMIT + 1):
            response = self._ask(method, here, headers, credentials, body, first)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location or (body is not None and response.status == 303):
                return response
            response.close()
            if not location.isascii() or not location.isprintable():  # it stands in messages and logs
                raise UnusableAddress("the address redirects to one that cannot be", seen=ascii(location[:80]))
            there, own = split_credentials(urljoin(here, location))
            credentials = own or (credentials if same_origin(here, there) else None)
            here = there
        raise LinkDead("the link redirects without end", seen=uri, wanted=f"at most {REDIRECT_LIMIT} redirects")

    def _ask(
        self,
        method: str,
        uri: str,
        headers: dict[str, str],
        credentials: str | None,
        body: bytes | Path | None,
        first: int,
    ) -> BaseHTTPResponse:
        if self._cut:
            raise Interrupted("closed by the caller")
        if not self._private and is_private_place(uri):
            raise private_address(urlsplit(uri).hostname or uri)
        headers = {**headers, "Accept-Encoding": "identity", "Connection": "close", "User-Agent": "pot-lab"}
        if credentials is not None:
            headers |= make_headers(basic_auth=credentials)
        file: BinaryIO | None = None
        if isinstance(body, Path):
            file = body.open("rb")
            headers["Content-Length"] = str(os.fstat(file.fileno()).st_size - file.seek(first))
        try:
            self._response = self._manager(uri).urlopen(
                method,
                uri,
                body=body[first:] if isinstance(body, bytes) else file,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(self._timeout_s, CONNECT_TIMEOUT_S), read=self._timeout_s),
            )
        except LocationValueError as error:
            raise UnusableAddress("the address has an impossible host", seen=uri) from error
        except (HTTPError, OSError) as error:
            raise Interrupted(f"{type(error).__name__}: {error}") from error
        finally:
            if file is not None:
                file.close()
        return self._response

    def _manager(self, uri: str) -> urllib3.PoolManager:
        proxy = proxy_of(uri)
        if proxy is None:
            manager = urllib3.PoolManager()
        else:
            bare, credentials = split_credentials(proxy)
            own = make_headers(proxy_basic_auth=credentials) if credentials else {}
            manager = urllib3.ProxyManager(bare, proxy_headers=own)
        # A proxy is the user's own and may be anywhere; where names lead behind it is the proxy's business.
        manager.pool_classes_by_scheme = _pools(self._opened, private=self._private or proxy is not None)
        return manager

    def _opened(self, connected: socket.socket) -> None:
        # urllib3 leaves the connect timeout in force while it sends, which would bound a whole upload.
        connected.settimeout(self._timeout_s)
        self._sockets.append(connected)
        if self._cut:
            raise Interrupted("closed by the caller")

    def cut(self) -> None:
        """End whatever another thread waits for, and free the connections; may be called from any thread, twice."""
        self._cut = True
        for connected in self._sockets:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self._response is not None:
            self._response.close()


def private_address(host: str) -> UnusableAddress:
    """What a link into a private network is refused with."""
    return UnusableAddress(
        "links of this network may not lead to private addresses",
        seen=host,
        wanted="a public address, or `private_links = true` in the [store] table of network.toml",
    )


class _Direct:
    """Connects to no private address, unless told: the very address that was looked at is connected to."""

    _dns_host: str
    host: str
    port: int
    may_be_private = True

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        if not self.may_be_private:
            try:
                found = socket.getaddrinfo(name.strip("[]"), self.port, type=socket.SOCK_STREAM)
            except UnicodeError as error:
                raise LocationValueError(f"{name!r} cannot be a host's name") from error
            except OSError as error:
                raise Interrupted(f"{type(error).__name__}: {error}") from error
            public = [str(one[4][0]) for one in found if not is_private(str(one[4][0]))]
            if not public:
                raise private_address(name)
            self._dns_host = public[0]
        try:
            return super()._new_conn()  # type: ignore[misc, no-any-return]
        finally:
            self._dns_host = name  # what certificates and the Host header name


def _pools(opened: Callable[[socket.socket], None], *, private: bool) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools that hand each new socket to `opened`, so that it can be shut down while urllib3 reads."""

    class _Connection(_Direct, HTTPConnection):
        may_be_private = private

        def connect(self) -> None:
            super().connect()
            opened(self.sock)

    class _SecureConnection(_Direct, HTTPSConnection):
        may_be_private = private

        def connect(self) -> None:
            super().connect()
            opened(self.sock)

    class _Pool(HTTPConnectionPool):
        ConnectionCls = _Connection

    class _SecurePool(HTTPSConnectionPool):
        ConnectionCls = _SecureConnection

    return {"http": _Pool, "https": _SecurePool}


class HttpSource:
    """A blob behind HTTP, read from an offset by a Range request; a server that ignores ranges starts at 0.

    Args:
        uri: the address; user info in it is sent as basic authentication.
        offset: the first byte to ask for.
        timeout_s: for each wait, not for the whole.
        credentials: `user:password` for an address that does not hold them.
        private: whether the address, or where it redirects, may be of this host or of a private network.
    """

    def __init__(
        self, uri: str, offset: int, timeout_s: float, credentials: str | None = None, *, private: bool = True
    ) -> None:
        self._exchange = HttpExchange(timeout_s, credentials, private=private)
        self._uri = uri
        self._wanted_offset = offset
        self._response: BaseHTTPResponse | None = None
        self.size_bytes: int | None = None
        self.offset = offset

    def open(self) -> None:
        """Ask, follow redirects, and read the answer's header.

        Raises:
            LinkDead: the server has no such blob, or redirects without end.
            UnusableAddress: the address or a redirect is not HTTP, or has an impossible host.
            Interrupted: anything that another attempt may mend.
        """
        headers = {"Range": f"bytes={self._wanted_offset}-"} if self._wanted_offset else {}
        response = self._exchange.request("GET", self._uri, headers)
        self._check(response)
        self._response = response

    def _check(self, response: BaseHTTPResponse) -> None:
        if response.status in (400, 401, 403, 404, 405, 410, 451):
            raise LinkDead(
                "the server has no such blob for this client",
                seen=f"HTTP {response.status} at {split_credentials(self._uri)[0]}",
            )
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise LinkDead("the server encodes the blob, which was not asked for", seen=encoding, wanted="identity")
        if response.status == 206:
            # Content-Range: bytes FIRST-LAST/TOTAL
            first, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            if not first.startswith(f"{self._wanted_offset}-"):
                raise Interrupted(f"asked from byte {self._wanted_offset}, got {first!r}")
            self.size_bytes = size_in(total)
            self.offset = self._wanted_offset
        elif response.status == 200:
            self.size_bytes = size_in(response.headers.get("Content-Length", ""))
            self.offset = 0
        elif response.status == 416:
            raise Interrupted("HTTP 416: the server has fewer bytes than are here already")
        else:
            raise Interrupted(f"HTTP {response.status}")

    def chunks(self) -> Iterator[bytes]:
        """The blob's bytes from `offset` on, as they come, at most CHUNK_BYTES at a time.

        Raises:
            Interrupted: the server closed early, the network failed, the source is not open or was closed.
        """
        if self._response is None:
            raise Interrupted("the source is not open")
        try:
            while data := self._response.read1(CHUNK_BYTES, decode_content=False):
                yield data
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            # ValueError and AttributeError: closed from the caller's thread while reading
            raise Interrupted(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """End a read that waits, and free the connection; may be called from any thread, at any time."""
        self._exchange.cut()


def size_in(text: str) -> int | None:
    """A number of bytes, as headers name it; None for anything else."""
    return int(text) if _SIZE.match(text) else None
