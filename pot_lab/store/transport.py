"""How bytes come from and go to an address: HTTP by the standard library, everything else through fsspec.

Both kinds stream, so a liar at the other end can neither fill the memory (reading stops one byte after the size that
the link promised) nor the time (the caller closes the source from its own thread when the time is up). HTTP does not go
through fsspec's own HTTP filesystem, because that one reads a whole answer at once, whatever its length.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from pot_lab.store.errors import LinkDead, MissingExtra, StoreFull, TooBig, UnusableAddress, WrongHash

CHUNK_BYTES = 1 << 18
REDIRECT_LIMIT = 5
CONNECT_TIMEOUT_S = 10.0
HTTP_SCHEMES = ("http", "https")
# Schemes that a stranger's link may have, and the extra of this package that brings their fsspec filesystem.
EXTRAS = {"s3": "s3", "ipfs": "ipfs"}
SCHEMES = ("file", *HTTP_SCHEMES, *EXTRAS)


class Interrupted(Exception):
    """The transfer broke off but may be tried again."""


class BlobSource(Protocol):
    """An address to read: once opened, `size_bytes` of the whole blob if told, the offset that reading starts from."""

    size_bytes: int | None
    offset: int

    def open(self) -> None: ...

    def chunks(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...  # from any thread, at any time: ends a read that waits


def scheme_of(uri: str) -> str:
    """The address's scheme; a plain path is a `file`.

    Raises:
        UnusableAddress: a scheme that links may not have, or one that chains several.
    """
    try:
        scheme = urlsplit(uri).scheme if "://" in uri else "file"
    except ValueError as error:
        raise UnusableAddress("the address cannot be read", seen=uri) from error
    if scheme not in SCHEMES or "::" in uri:
        raise UnusableAddress("this kind of address is not for links", seen=uri, wanted=" ".join(SCHEMES))
    return scheme


def filesystem(scheme: str) -> Any:
    """The fsspec filesystem of a scheme.

    Raises:
        MissingExtra: the package for it is not installed.
    """
    import fsspec

    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(scheme, scheme)
        raise MissingExtra(
            f"{scheme}:// links need an optional package: pip install 'pot-lab[{extra}]'", seen=str(error)
        ) from error


def local_path(uri: str) -> str:
    """The path that a `file` address names."""
    return unquote(urlsplit(uri).path) if "://" in uri else uri


# ---------------------------------------------------------------------------------------------------- fsspec


class FileSource:
    """A blob of any fsspec filesystem, read from an offset."""

    def __init__(self, uri: str, offset: int) -> None:
        self._uri = uri
        self._file: BinaryIO | None = None
        self.size_bytes: int | None = None
        self.offset = offset

    def open(self) -> None:
        """Open the file and learn its size.

        Raises:
            LinkDead: there is no such file, it is no file, or it may not be read.
            Interrupted: the filesystem failed.
            MissingExtra: the filesystem's package is not installed.
        """
        scheme = scheme_of(self._uri)
        fs = filesystem(scheme)
        path = local_path(self._uri) if scheme == "file" else self._uri
        try:
            info = fs.info(path)
            if info["type"] != "file" or (scheme == "file" and not os.path.isfile(path)):
                raise LinkDead("the link names something that is no file", seen=self._uri)
            self.size_bytes = info["size"]
            self._file = fs.open(path, "rb")
            if self.offset:
                self._file.seek(self.offset)
        except FileNotFoundError as error:
            raise LinkDead("there is no such blob", seen=self._uri) from error
        except PermissionError as error:
            raise LinkDead("the blob may not be read", seen=self._uri) from error
        except OSError as error:
            raise Interrupted(str(error)) from error

    def chunks(self) -> Iterator[bytes]:
        assert self._file is not None, "open it first"
        try:
            while data := self._file.read(CHUNK_BYTES):
                yield data
        except (OSError, ValueError) as error:  # ValueError: closed from the caller's thread
            raise Interrupted(str(error)) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# ---------------------------------------------------------------------------------------------------- HTTP


def _connect(uri: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(uri)
    if parts.scheme not in HTTP_SCHEMES or not parts.hostname:
        raise UnusableAddress("not an HTTP address", seen=uri)
    try:
        port = parts.port
    except ValueError as error:
        raise UnusableAddress("not an HTTP address", seen=uri) from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    timeout_s = min(timeout_s, CONNECT_TIMEOUT_S)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, port, timeout=timeout_s, context=context), target
    return http.client.HTTPConnection(parts.hostname, port, timeout=timeout_s), target


class HttpSource:
    """A blob behind HTTP, read from an offset by a Range request; a server that ignores ranges starts at 0."""

    def __init__(self, uri: str, offset: int, timeout_s: float) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._closed = False
        self._uri = uri
        self._want_offset = offset
        self._timeout_s = timeout_s
        self.size_bytes: int | None = None
        self.offset = offset

    def open(self) -> None:
        """Ask, follow redirects, and read the answer's head.

        Raises:
            LinkDead: the server says that there is no such blob.
            Interrupted: anything that another attempt may mend.
        """
        uri = self._uri
        for _ in range(REDIRECT_LIMIT + 1):
            response = self._ask(uri)
            if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
                uri = urljoin(uri, response.getheader("Location") or "")
                self._drop()
                continue
            self._judge(response)
            self._response = response
            return
        raise LinkDead("the link redirects without end", seen=self._uri, wanted=f"at most {REDIRECT_LIMIT} redirects")

    def _ask(self, uri: str) -> http.client.HTTPResponse:
        connection, target = _connect(uri, self._timeout_s)
        self._connection = connection
        if self._closed:
            raise Interrupted("given up")
        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        if self._want_offset:
            headers["Range"] = f"bytes={self._want_offset}-"
        try:
            connection.connect()
            self._socket = connection.sock
            connection.sock.settimeout(self._timeout_s)
            connection.request("GET", target, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"{type(error).__name__}: {error}") from error

    def _judge(self, response: http.client.HTTPResponse) -> None:
        if response.status in (400, 401, 403, 404, 405, 410, 451):
            raise LinkDead("the server has no such blob for us", seen=f"HTTP {response.status} at {self._uri}")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise LinkDead("the server encodes the blob unasked", seen=response.getheader("Content-Encoding"))
        if response.status == 206:
            # Content-Range: bytes FIRST-LAST/TOTAL
            first, _, total = (response.getheader("Content-Range") or "").removeprefix("bytes ").partition("/")
            if not first.startswith(f"{self._want_offset}-"):
                raise Interrupted(f"asked from byte {self._want_offset}, got {first!r}")
            self.size_bytes = int(total) if total.isdecimal() else None
            self.offset = self._want_offset
        elif response.status == 200:
            length = response.getheader("Content-Length") or ""
            self.size_bytes = int(length) if length.isdecimal() else None
            self.offset = 0
        elif response.status == 416:
            self.size_bytes = None
            raise Interrupted("HTTP 416: the server has fewer bytes than we")
        else:
            raise Interrupted(f"HTTP {response.status}")

    def chunks(self) -> Iterator[bytes]:
        try:
            while data := self._response.read1(CHUNK_BYTES):
                yield data
            if self._response.length:  # the server closed early
                raise Interrupted(f"{self._response.length} bytes short")
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # ValueError and AttributeError: closed from the caller's thread while reading
            raise Interrupted(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
            except OSError:
                pass
        if self._connection is not None:
            self._connection.close()


def source_of(uri: str, offset: int, timeout_s: float) -> BlobSource:
    """What reads this address from `offset`; not opened yet. `timeout_s` bounds each wait, not the whole."""
    if scheme_of(uri) in HTTP_SCHEMES:
        return HttpSource(uri, offset, timeout_s)
    return FileSource(uri, offset)


def http_put(uri: str, data: bytes, timeout_s: float) -> None:
    """Put a blob to our blob server.

    Raises:
        LinkDead: nothing answers there, or it takes no blobs.
        TooBig, StoreFull, WrongHash: the server's refusals.
    """
    connection, target = _connect(uri, timeout_s)
    try:
        connection.connect()
        connection.sock.settimeout(timeout_s)
        connection.request("HEAD", target)
        head = connection.getresponse()
        head.read()
        if head.status == 200 and head.getheader("Content-Length") == str(len(data)):
            return  # content-addressed: the same bytes are there already
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            connection.request("PUT", target, body=data, headers={"Content-Type": "application/octet-stream"})
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the body was through; the answer says why
        response = connection.getresponse()
        reason = response.read(4096).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise LinkDead("the store does not answer", seen=f"{type(error).__name__}: {error} at {uri}") from error
    finally:
        connection.close()
    if response.status in (200, 201):
        return
    refusals = {413: TooBig, 422: WrongHash, 507: StoreFull}
    kind = refusals.get(response.status, LinkDead)
    raise kind("the store refused the blob", seen=f"{len(data)} bytes", wanted=f"HTTP {response.status}: {reason}")


def raise_if_full(error: OSError, where: object) -> None:
    """Turn the operating system's ways of saying "no room" into `StoreFull`; leave other errors alone."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise StoreFull("there is no room on the disk", seen=str(where)) from error
