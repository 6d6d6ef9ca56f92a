"""Put a blob into a store and get a link; fetch a link and get exactly the bytes that it names.

Every download has a size cap, checked before the first byte is requested, a time cap on the whole of it, and a hash.
With a cache folder an interrupted download continues where it stopped. Nothing here looks into the bytes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.files import move_durably, replace_durably
from pot_lab.home import expanded
from pot_lab.store.addresses import (
    HTTP_SCHEMES,
    NODE_SCHEMES,
    is_private_place,
    local_path,
    scheme_of,
    store_address,
)
from pot_lab.store.cache import Transfer, in_cache
from pot_lab.store.copies import Copies
from pot_lab.store.download import BlobTransfer
from pot_lab.store.errors import LinkDead, StoreFull, TooBig, TooSlow, UnusableAddress, WrongHash
from pot_lab.store.transport import filesystem, raise_if_full

PUT_TIMEOUT_S = 120.0


Result = TypeVar("Result")


class Store:
    """A place for blobs, named by their SHA-256.

    Args:
        url: a folder (`/some/dir`, `file:///some/dir`), an HTTP server that takes PUT (`http://127.0.0.1:PORT`,
            `https://user:password@host/prefix`), `s3://bucket/prefix` (`gs`, `az`) with the extra `cloud`, or one's own
            IPFS node by its HTTP API (`ipfs+http://127.0.0.1:5001`).

        private_links: whether links to other places may lead to this host or into a private network; None if the store
            itself is at such a place.
        copies: addresses of places that are asked for each blob before the store and the link are, such as the custody
            of the network's aggregators.

    Attributes:
        url: the address without user info, as links begin.

    Raises:
        UnusableAddress: a kind of address that stores do not have.

    Example:
        >>> store = Store("/var/blobs")
        >>> link = store.put(b"weights")
        >>> store.fetch(link, limit_bytes=1 << 20, timeout_s=60)
        b'weights'
    """

    def __init__(
        self,
        url: str | Path,
        *,
        private_links: bool | None = None,
        copies: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._copies = Copies(copies)
        self.url, self._credentials = store_address(url)
        is_node = self.url.startswith(NODE_SCHEMES) and not isinstance(url, Path)
        self._scheme = "ipfs" if is_node else "file" if isinstance(url, Path) else scheme_of(self.url)
        if private_links is None:
            private_links = self._scheme == "file" or is_private_place(self.url.removeprefix("ipfs+"))
        self.private_links = private_links
        if self._scheme == "file":
            self._root = expanded(local_path(self.url)).resolve()

    def uri(self, digest: bytes) -> str:
        """Where this store has, or would have, the blob with this SHA-256; raises UnusableAddress on IPFS, which names
        blobs by other hashes.
        """
        if self._scheme == "ipfs":
            raise UnusableAddress("a store on IPFS names blobs in its own way", seen=self.url)
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
        if self._scheme == "ipfs":
            return Link(digest=digest, size_bytes=len(data), uri=self._add(data, timeout_s))
        uri = self.uri(digest)
        if self._scheme == "file":
            self._put_file(digest, data)
        elif self._scheme in HTTP_SCHEMES:
            from pot_lab.store.http_upload import http_put

            http_put(uri, data, timeout_s, self._credentials)
        else:
            fs = filesystem(self._scheme)
            try:
                fs.pipe_file(uri, data)
            except Exception as error:
                raise _refusal_of(error, uri) from error
        return Link(digest=digest, size_bytes=len(data), uri=uri)

    @property
    def has_copies(self) -> bool:
        """Whether there are places, such as aggregators' custody, that take a file where the store does not."""
        return self._copies.any

    def put_file(self, path: Path, *, timeout_s: float = PUT_TIMEOUT_S) -> Link:
        """As `put`, but a file's content, which never lies in memory as a whole. Raises OSError too.

        Where the store does not take it, a place for copies may: custody does, once the ledger names the file.
        """
        link = self.link_of(path)
        try:
            self._put_path(link, path, timeout_s)
        except (LinkDead, StoreFull, TooBig):
            if not self._put_copy(link, path, timeout_s):
                raise
        return link

    def _put_copy(self, link: Link, path: Path, timeout_s: float) -> bool:
        from pot_lab.store.http_upload import http_put

        for copy in self._copies.of(link):
            try:
                http_put(copy.uri, path, timeout_s)
            except PotLabError:
                continue
            return True
        return False

    def _add(self, data: bytes | Path, timeout_s: float, *, keep: bool = True) -> str:
        from pot_lab.store.ipfs import IpfsNode

        return IpfsNode(self.url.removeprefix("ipfs+"), self._credentials).add(data, timeout_s, keep=keep)

    def _put_path(self, link: Link, path: Path, timeout_s: float) -> None:
        if self._scheme == "ipfs":
            self._add(path, timeout_s)
        elif self._scheme == "file":
            self._copy_file(link.digest, path)
        elif self._scheme in HTTP_SCHEMES:
            from pot_lab.store.http_upload import http_put

            http_put(link.uri, path, timeout_s, self._credentials)
        else:
            fs = filesystem(self._scheme)
            try:
                fs.put_file(str(path), link.uri)
            except Exception as error:
                raise _refusal_of(error, link.uri) from error

    def link_of(self, path: Path) -> Link:
        """The link that `put_file` would return; nothing is put. Raises OSError."""
        with path.open("rb") as file:
            digest, size_bytes = hashlib.file_digest(file, "sha256").digest(), os.fstat(file.fileno()).st_size
        uri = self._add(path, PUT_TIMEOUT_S, keep=False) if self._scheme == "ipfs" else self.uri(digest)
        return Link(digest=digest, size_bytes=size_bytes, uri=uri)

    def _copy_file(self, digest: bytes, source: Path) -> None:
        path = self._root / digest.hex()
        temporary = path.with_name(f".{digest.hex()[:16]}.{secrets.token_hex(8)}.tmp")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size == source.stat().st_size and _sha256_of(path) == digest:
                return os.utime(path)  # whoever removes old blobs sees that it is wanted
            shutil.copyfile(source, temporary)
            move_durably(temporary, path)
        except OSError as error:
            raise_if_full(error, self._root)
            raise LinkDead("the store's folder cannot be written", seen=f"{error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _put_file(self, digest: bytes, data: bytes) -> None:
        path = self._root / digest.hex()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size == len(data) and _sha256_of(path) == digest:
                return os.utime(path)
            replace_durably(path, data)
        except OSError as error:
            raise_if_full(error, self._root)
            raise LinkDead("the store's folder cannot be written", seen=f"{error}") from error

    def fetch(self, link: Link, *, limit_bytes: int, timeout_s: float, cache_dir: Path | None = None) -> bytes:
        """`fetch`, first from copies, then from this store, then from where the link points: a blob has one name in
        every place.
        """
        if cache_dir is not None:
            return self.fetch_file(link, limit_bytes=limit_bytes, timeout_s=timeout_s, cache_dir=cache_dir).read_bytes()
        with tempfile.SpooledTemporaryFile(max_size=link.size_bytes + 1) as memory:
            self._from_places(link, limit_bytes, timeout_s, lambda place, transfer: transfer(place, memory))
            memory.seek(0)
            return memory.read()

    def fetch_file(self, link: Link, *, limit_bytes: int, timeout_s: float, cache_dir: Path) -> Path:
        """As `fetch`, but the blob is streamed into `cache_dir` and its path is returned; it never lies in memory.

        The file may be hard-linked to, but must not be changed.
        """
        return self._from_places(
            link, limit_bytes, timeout_s, lambda place, transfer: in_cache(place, cache_dir, transfer)
        )

    def _from_places(
        self, link: Link, limit_bytes: int, timeout_s: float, download: Callable[[Link, Transfer], Result]
    ) -> Result:
        """Download from one place after the other, until one has the blob; all share one time.

        Whatever a copy does that is not right, the next place is asked, and goes on from where it stopped: no
        aggregator can keep a blob from anybody that another has. Each copy gets an equal part of the time that is left;
        where one was too slow for it and the link is dead, more time may help.
        """
        deadline = time.monotonic() + timeout_s
        check(link, limit_bytes)
        copies, slow = self._copies.of(link), False
        for number, copy in enumerate(copies):
            places_left = len(copies) - number + 1
            now = time.monotonic()
            transfer = BlobTransfer(now + (deadline - now) / places_left, None, private=self.private_links, attempts=1)
            try:
                return download(copy, transfer)
            except (LinkDead, WrongHash, TooBig, TooSlow, UnusableAddress) as error:
                slow = slow or isinstance(error, TooSlow)
                if isinstance(error, TooSlow) or transfer.interrupted:
                    self._copies.rest(copy)
        try:
            return self._from_origin(link, deadline, download)
        except LinkDead as error:
            if not slow:
                raise
            raise TooSlow("a copy did not answer in its part of the time", seen=str(error)) from error

    def _from_origin(self, link: Link, deadline: float, download: Callable[[Link, Transfer], Result]) -> Result:
        """Download from this store, or else from where the link points."""
        if self._scheme == "ipfs":
            return download(link, BlobTransfer(deadline, None, private=self.private_links))
        here = Link(digest=link.digest, size_bytes=link.size_bytes, uri=self.uri(link.digest))
        if here != link:
            try:
                return download(here, BlobTransfer(deadline, self._credentials, private=True, signed=True))
            except (LinkDead, WrongHash):
                return download(link, BlobTransfer(deadline, None, private=self.private_links))
        return download(link, BlobTransfer(deadline, self._credentials, private=True, signed=True))


def fetch(
    link: Link,
    *,
    limit_bytes: int,
    timeout_s: float,
    cache_dir: Path | str | None = None,
    private_links: bool = True,
) -> bytes:
    """Download what a link names, and nothing else.

    Args:
        link: address, exact size and SHA-256 of the blob.
        limit_bytes: the most that the caller accepts; checked before anything is opened.
        timeout_s: for the whole call, however slowly the other end sends.
        cache_dir: a folder for finished blobs and for the beginnings of interrupted downloads, so that the next call
            continues where this one stopped.
        private_links: whether the link may lead to this host or into a private network.

    Raises:
        TooBig: the link, or the server, names more bytes than `limit_bytes` or than the link promised.
        TooSlow: the time is up; what arrived is kept in `cache_dir`.
        WrongHash: other bytes than the link names.
        LinkDead: nothing there, after a few attempts.
        StoreFull: no room in `cache_dir`.
        UnusableAddress, MissingExtra: an address that cannot be opened here.
        Malformed: the link itself is impossible.
    """
    check(link, limit_bytes)
    transfer = BlobTransfer(time.monotonic() + timeout_s, None, private=private_links)
    if cache_dir is None:
        return _in_memory(link, transfer)
    return in_cache(link, Path(cache_dir), transfer).read_bytes()


def fetch_file(link: Link, *, limit_bytes: int, timeout_s: float, cache_dir: Path, private_links: bool = True) -> Path:
    """As `fetch` with a cache, but the blob stays in its file there, whose path is returned."""
    check(link, limit_bytes)
    return in_cache(link, cache_dir, BlobTransfer(time.monotonic() + timeout_s, None, private=private_links))


def check(link: Link, limit_bytes: int) -> None:
    """Whether a link may be followed at all, by itself and by the size that it names.

    Raises:
        Malformed, UnusableAddress: the link is impossible.
        TooBig: it names more than `limit_bytes`.
    """
    link.check()
    scheme_of(link.uri)
    if link.size_bytes > limit_bytes:
        raise TooBig(
            "the blob is above the limit for it", seen=f"{link.size_bytes} bytes", wanted=f"{limit_bytes} bytes"
        )


def _in_memory(link: Link, transfer: Transfer) -> bytes:
    with tempfile.SpooledTemporaryFile(max_size=link.size_bytes + 1) as memory:
        transfer(link, memory)
        memory.seek(0)
        return memory.read()


def _refusal_of(error: Exception, uri: str) -> PotLabError:
    """What a filesystem's error means: they have kinds of their own (botocore's), which are no OSError."""
    if isinstance(error, PotLabError):
        return error
    if isinstance(error, OSError):
        raise_if_full(error, uri)
    return LinkDead("the store refused the blob", seen=f"{type(error).__name__}: {error}")


def _sha256_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
