"""How bytes come from an address: what a source is, and the one that reads through fsspec; see also `http_transport`.

Both kinds stream, so the other end can exhaust neither the memory (reading stops one byte after the size that the link
promised) nor the time (the caller closes the source from its own thread when the time is up). HTTP does not go through
fsspec's own HTTP filesystem, because that one reads a whole answer at once, whatever its length.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, BinaryIO, Protocol

from pot_lab.store.addresses import CLOUDS, local_path, scheme_of
from pot_lab.store.errors import LinkDead, MissingExtra, StoreFull

CHUNK_BYTES = 1 << 18
_RETRY_S = 30.0


class Interrupted(Exception):
    """The transfer broke off but may be tried again."""


class BlobSource(Protocol):
    """An address to read: once opened, `size_bytes` of the whole blob if known, the offset that reading starts from."""

    size_bytes: int | None
    offset: int

    def open(self) -> None:
        """Connect, and learn size and offset."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from `offset` on, at most CHUNK_BYTES at a time; raises Interrupted."""

    def close(self) -> None:
        """End a read that waits; may be called from any thread, at any time."""


def filesystem(scheme: str, *, signed: bool = True) -> Any:
    """The fsspec filesystem of a scheme.

    Args:
        signed: whether an object storage is asked with the user's own credentials, which the environment names
            (`AWS_ACCESS_KEY_ID` and so on, as obstore reads it); a stranger's link is followed without them.
    Raises:
        MissingExtra: the package for it is not installed.
    """
    if scheme not in CLOUDS:
        import fsspec

        return fsspec.filesystem(scheme)
    try:
        from obstore.fsspec import FsspecStore
    except ImportError as error:
        raise MissingExtra(
            f"{scheme}:// addresses need an optional package: pip install 'pot-lab[cloud]'", seen=str(error)
        ) from error
    make: Any = FsspecStore  # its types want the scheme as a literal
    bounded = {"max_retries": 2, "retry_timeout": timedelta(seconds=_RETRY_S)}
    return make(scheme, config={} if signed else {"skip_signature": True}, retry_config=bounded)


class FileSource:
    """A blob of any fsspec filesystem, read from an offset."""

    def __init__(self, uri: str, offset: int, *, signed: bool = True) -> None:
        self._signed = signed
        self._file: BinaryIO | None = None
        self._uri = uri
        self.size_bytes: int | None = None
        self.offset = offset

    def open(self) -> None:
        """Open the file and learn its size.

        Raises:
            LinkDead: there is no such file, it is no file, or it may not be read.
            UnusableAddress: the address cannot be a file's.
            Interrupted: the filesystem failed.
            MissingExtra: the filesystem's package is not installed.
        """
        scheme = scheme_of(self._uri)
        path = local_path(self._uri) if scheme == "file" else self._uri
        fs = filesystem(scheme, signed=self._signed)
        try:
            info = fs.info(path)
            if info["type"] != "file" or (scheme == "file" and not os.path.isfile(path)):
                raise LinkDead("the link does not name a file", seen=self._uri)
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
        """The file's bytes from `offset` on.

        Raises:
            Interrupted: the filesystem failed, or the source is not open or was closed.
        """
        if self._file is None:
            raise Interrupted("the source is not open")
        try:
            while data := self._file.read(CHUNK_BYTES):
                yield data
        except (OSError, ValueError) as error:  # ValueError: closed from the caller's thread
            raise Interrupted(str(error)) from error

    def close(self) -> None:
        """Close the file; may be called from any thread, at any time."""
        if self._file is not None:
            self._file.close()


def raise_if_full(error: OSError, where: object) -> None:
    """Raise StoreFull where the operating system's error means that there is no room; leave other errors alone."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise StoreFull("there is no room on the disk", seen=str(where)) from error
