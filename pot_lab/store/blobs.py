"""Put a blob into a store and get a link; fetch a link and get exactly the bytes that it names.

Every download has a size cap, checked before the first byte is asked for, a time cap on the whole of it, and a hash
(jupyter.md, "Untrusted input"). With a cache folder a download that broke off goes on where it stopped. Nothing here
looks into the bytes.
"""

from __future__ import annotations

import enum
import hashlib
import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from pot_lab.crypto.link import Link
from pot_lab.files import move_durably, replace_durably, try_lock
from pot_lab.store.errors import LinkDead, TooBig, TooSlow, UnusableAddress, WrongHash
from pot_lab.store.transport import (
    HTTP_SCHEMES,
    BlobSource,
    Interrupted,
    filesystem,
    http_put,
    local_path,
    raise_if_full,
    scheme_of,
    source_of,
)

ATTEMPTS = 3
BACK_OFF_S = 0.2
PUT_TIMEOUT_S = 120.0


class _Mark(enum.Enum):
    """Says in the inbox that the source is open, and its size known."""

    OPENED = enum.auto()


OPENED = _Mark.OPENED
_Item = bytes | BaseException | _Mark | None  # a chunk, what went wrong, the mark, or the end


class Store:
    """A place for blobs, named by their SHA-256.

    Args:
        url: a folder (`/some/dir`, `file:///some/dir`), the testnet's blob server (`http://127.0.0.1:PORT`), or any of
            `s3://bucket/prefix` with the extra for it.

    Raises:
        UnusableAddress: a kind of address that stores do not have.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url).rstrip("/") or "/"
        self._scheme = scheme_of(self.url)
        if self._scheme == "ipfs":
            raise UnusableAddress("IPFS names blobs by its own ids: it can be fetched from, not put to", seen=self.url)
        if self._scheme == "file":
            self._root = Path(local_path(self.url)).expanduser().resolve()

    def uri(self, digest: bytes) -> str:
        """Where this store has, or would have, the blob with this SHA-256."""
        if self._scheme == "file":
            return f"file://{quote(str(self._root / digest.hex()))}"
        return f"{self.url}/{digest.hex()}"

    def put(self, data: bytes, *, timeout_s: float = PUT_TIMEOUT_S) -> Link:
        """Store a blob and return its link; the same bytes twice are stored once.

        Raises:
            TooBig: above the store's cap for one blob.
            StoreFull: no room in the store or on its disk; nothing was kept.
            LinkDead: the store does not answer.
            MissingExtra: the address needs an optional package.
        """
        digest = hashlib.sha256(data).digest()
        uri = self.uri(digest)
        if self._scheme == "file":
            self._put_file(digest, data)
        elif self._scheme in HTTP_SCHEMES:
            http_put(uri, data, timeout_s)
        else:
            try:
                filesystem(self._scheme).pipe_file(uri, data)
            except OSError as error:
                raise_if_full(error, uri)
                raise LinkDead("the store does not take the blob", seen=f"{type(error).__name__}: {error}") from error
        return Link(digest=digest, size_bytes=len(data), uri=uri)

    def _put_file(self, digest: bytes, data: bytes) -> None:
        path = self._root / digest.hex()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size == len(data) and _sha256_of(path) == digest:
                return
            replace_durably(path, data)
        except OSError as error:
            raise_if_full(error, self._root)
            raise LinkDead("the store's folder cannot be written", seen=f"{error}") from error

    def fetch(self, link: Link, *, limit_bytes: int, timeout_s: float, cache_dir: Path | None = None) -> bytes:
        """`fetch`, first from this store, then from where the link points: a blob has one name in every place."""
        uri = self.uri(link.digest)
        if uri == link.uri:
            return fetch(link, limit_bytes=limit_bytes, timeout_s=timeout_s, cache_dir=cache_dir)
        deadline = time.monotonic() + timeout_s
        here = Link(digest=link.digest, size_bytes=link.size_bytes, uri=uri)
        try:
            return fetch(here, limit_bytes=limit_bytes, timeout_s=timeout_s, cache_dir=cache_dir)
        except (LinkDead, WrongHash):
            rest_s = deadline - time.monotonic()
            return fetch(link, limit_bytes=limit_bytes, timeout_s=max(0.0, rest_s), cache_dir=cache_dir)


def fetch(link: Link, *, limit_bytes: int, timeout_s: float, cache_dir: Path | str | None = None) -> bytes:
    """Download what a link names, and nothing else.

    Args:
        link: address, exact size and SHA-256 of the blob.
        limit_bytes: the most that the caller takes; checked before anything is opened.
        timeout_s: for the whole call, however slowly the other end drips.
        cache_dir: a folder for finished blobs and for the beginnings of broken downloads, so that the next call goes on
            where this one stopped.

    Raises:
        TooBig: the link, or the server, names more bytes than `limit_bytes` or than the link promised.
        TooSlow: the time is up; what came is kept in `cache_dir`.
        WrongHash: other bytes than the link names.
        LinkDead: nothing there, after a few attempts.
        StoreFull: no room in `cache_dir`.
        UnusableAddress, MissingExtra: an address that cannot be opened here.
        Malformed: the link itself is impossible.
    """
    link.check()
    scheme_of(link.uri)
    if link.size_bytes > limit_bytes:
        raise TooBig(
            "the blob is above the limit for it", seen=f"{link.size_bytes} bytes", wanted=f"{limit_bytes} bytes"
        )
    deadline = time.monotonic() + timeout_s
    if cache_dir is None:
        with tempfile.SpooledTemporaryFile(max_size=link.size_bytes + 1) as memory:
            return _download(link, memory, deadline)
    folder = Path(cache_dir)
    try:
        return _fetch_cached(link, folder, deadline)
    except OSError as error:
        raise_if_full(error, folder)
        raise


def _fetch_cached(link: Link, folder: Path, deadline: float) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    final, part = folder / link.digest.hex(), folder / f".{link.digest.hex()}.part"
    while True:
        if final.is_file() and final.stat().st_size == link.size_bytes:
            data = final.read_bytes()
            if hashlib.sha256(data).digest() == link.digest:
                return data
        with open(part, "a+b") as file:
            if not try_lock(file.fileno()):  # another process downloads this very blob: do not mix the two
                with tempfile.SpooledTemporaryFile(max_size=link.size_bytes + 1) as memory:
                    return _download(link, memory, deadline)
            if not _is_at(file, part):
                continue  # between our open and our lock another process finished the blob and moved it away
            try:
                data = _download(link, file, deadline)
            except WrongHash:
                part.unlink(missing_ok=True)
                raise
            file.flush()
            move_durably(part, final)
            return data


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _download(link: Link, file: IO[bytes], deadline: float) -> bytes:
    """Complete `file`, which may hold the blob's beginning, within the time, and return its checked bytes."""
    file.seek(0, os.SEEK_END)
    resumed = file.tell() > 0
    if file.tell() > link.size_bytes:
        file.truncate(0)
        file.seek(0)
    failures = 0
    last = "nothing came"
    while True:
        before = file.tell()
        try:
            if file.tell() < link.size_bytes or link.size_bytes == 0:
                _transfer(link, file, deadline)
        except Interrupted as error:
            last = str(error)
            failures = failures + 1 if file.tell() <= before else 0
            if failures >= ATTEMPTS:
                raise LinkDead("the link does not answer", seen=f"{link.uri}: {last}") from error
            _pause(BACK_OFF_S * (1 << failures), deadline, link)
            continue
        file.seek(0)
        data = file.read()
        if hashlib.sha256(data).digest() == link.digest and len(data) == link.size_bytes:
            return data
        file.seek(0)
        file.truncate(0)
        if not resumed:
            raise WrongHash(
                "the bytes at the link are not those that it names",
                seen=hashlib.sha256(data).digest(),
                wanted=link.digest,
            )
        resumed = False  # perhaps it was our own beginning that was wrong: once more from the start


def _pause(seconds: float, deadline: float, link: Link) -> None:
    if time.monotonic() + seconds >= deadline:
        raise TooSlow("the blob did not come in time", seen=link.uri)
    time.sleep(seconds)


def _transfer(link: Link, file: IO[bytes], deadline: float) -> None:
    """Append what is missing to `file`. An own thread reads the source, so that no read can outlast the deadline."""
    offset = file.tell()
    inbox: queue.Queue[_Item] = queue.Queue(maxsize=8)
    stop = threading.Event()

    def put(item: _Item) -> bool:
        while not stop.is_set():
            try:
                inbox.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    source = source_of(link.uri, offset, max(0.001, deadline - time.monotonic()))

    def read() -> None:
        try:
            source.open()
            if put(OPENED):
                for chunk in source.chunks():
                    if not put(chunk):
                        return
                put(None)
        except BaseException as error:  # handed to the caller's thread
            put(error)
        finally:
            source.close()

    thread = threading.Thread(target=read, name="pot-lab-fetch", daemon=True)
    thread.start()
    try:
        for item in _until(deadline, inbox, link):
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, bytes):
                file.write(item)
                if file.tell() > link.size_bytes:
                    file.truncate(0)
                    file.seek(0)
                    raise WrongHash("more bytes come than the link names", wanted=f"{link.size_bytes} bytes")
            elif item is None:
                if file.tell() < link.size_bytes and source.size_bytes is None:
                    raise Interrupted(f"{link.size_bytes - file.tell()} bytes short")
                return
            else:
                _compare_sizes(link, source)
                if source.offset != file.tell():  # the server ignores ranges
                    file.truncate(0)
                    file.seek(0)
    finally:
        stop.set()
        source.close()


def _until(deadline: float, inbox: queue.Queue[_Item], link: Link) -> Iterator[_Item]:
    while True:
        rest_s = deadline - time.monotonic()
        try:
            if rest_s <= 0:
                raise queue.Empty
            yield inbox.get(timeout=rest_s)
        except queue.Empty:
            raise TooSlow("the blob did not come in time", seen=link.uri) from None


def _compare_sizes(link: Link, source: BlobSource) -> None:
    if source.size_bytes is None or source.size_bytes == link.size_bytes:
        return
    seen, wanted = f"{source.size_bytes} bytes", f"{link.size_bytes} bytes"
    if source.size_bytes > link.size_bytes:
        raise TooBig("the blob there is larger than the link says", seen=seen, wanted=wanted)
    raise WrongHash("the blob there is shorter than the link says", seen=seen, wanted=wanted)


def _sha256_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
