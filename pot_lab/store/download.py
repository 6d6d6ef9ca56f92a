"""One download: an address is read by a thread of its own into a file, within a time, a size and a hash."""

from __future__ import annotations

import enum
import hashlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import IO

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.store.addresses import scheme_of
from pot_lab.store.errors import LinkDead, TooBig, TooSlow, UnusableAddress, WrongHash
from pot_lab.store.sources import source_of
from pot_lab.store.transport import CHUNK_BYTES, BlobSource, Interrupted

ATTEMPTS = 3
BACK_OFF_S = 0.2


class _Mark(enum.Enum):
    """In the inbox: the source is open, and its size known."""

    OPENED = enum.auto()


OPENED = _Mark.OPENED
_Item = bytes | BaseException | _Mark | None  # a chunk, an error, the mark, or the end


class BlobTransfer:
    """Completes a file, which may hold a blob's beginning, until `deadline` (of `time.monotonic`).

    Args:
        deadline: for the whole of it.
        credentials: `user:password` for an HTTP address.
        private: whether the address may be of this host or of a private network.
        attempts: so many that bring nothing.
        signed: whether an object storage is asked with the user's own credentials.
    """

    def __init__(
        self,
        deadline: float,
        credentials: str | None,
        *,
        private: bool,
        attempts: int = ATTEMPTS,
        signed: bool = False,
    ) -> None:
        self.deadline, self.attempts, self._signed = deadline, attempts, signed
        self.interrupted = False  # whether it ended because the other end did not answer
        self._credentials = credentials
        self._private = private

    def __call__(self, link: Link, file: IO[bytes]) -> None:
        if not self._private and scheme_of(link.uri) == "file":
            raise UnusableAddress("this network's links may not name files of a host", seen=link.uri)
        _download(link, file, self)

    def source(self, link: Link, offset: int) -> BlobSource:
        """A reader of the link's address from `offset`."""
        timeout_s = max(0.001, self.deadline - time.monotonic())
        return source_of(link.uri, offset, timeout_s, self._credentials, private=self._private, signed=self._signed)


def _download(link: Link, file: IO[bytes], transfer: BlobTransfer) -> None:
    """Complete `file`, which may hold the blob's beginning, within the time, and check it."""
    file.seek(0, os.SEEK_END)
    resumed = file.tell() > 0
    if file.tell() > link.size_bytes:
        file.truncate(0)
        file.seek(0)
    failures = 0
    last = "no answer"
    while True:
        before = file.tell()
        try:
            if file.tell() < link.size_bytes or link.size_bytes == 0:
                _receive(link, file, transfer)
        except Interrupted as error:
            last = str(error)
            failures = failures + 1 if file.tell() <= before else 0
            if failures >= transfer.attempts:
                transfer.interrupted = True
                raise LinkDead("the blob cannot be fetched from the link", seen=f"{link.uri}: {last}") from error
            _pause(BACK_OFF_S * (1 << failures), transfer.deadline, link)
            continue
        digest = _digest_of(file)
        if digest == link.digest and file.tell() == link.size_bytes:
            return
        file.seek(0)
        file.truncate(0)
        if not resumed:
            raise WrongHash(
                "the bytes at the link do not have its hash",
                seen=digest,
                wanted=link.digest,
            )
        resumed = False  # perhaps the beginning in the cache was wrong: once more from the start


def _pause(seconds: float, deadline: float, link: Link) -> None:
    if time.monotonic() + seconds >= deadline:
        raise TooSlow("the download did not end in time", seen=link.uri)
    time.sleep(seconds)


def _receive(link: Link, file: IO[bytes], transfer: BlobTransfer) -> None:
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

    source = transfer.source(link, offset)

    def read() -> None:
        try:
            source.open()
            if put(OPENED):
                for chunk in source.chunks():
                    if not put(chunk):
                        return
                put(None)
        except (PotLabError, Interrupted) as error:  # raised again in the caller's thread
            put(error)
        except Exception as error:  # of a filesystem's own kind: a stranger's link must not end the caller
            put(Interrupted(f"{type(error).__name__}: {error}"))
        finally:
            source.close()

    thread = threading.Thread(target=read, name="pot-lab-fetch", daemon=True)
    thread.start()
    try:
        for item in _until(transfer.deadline, inbox, link):
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, bytes):
                file.write(item)
                if file.tell() > link.size_bytes:
                    file.truncate(0)
                    file.seek(0)
                    raise WrongHash(
                        "the source sends more bytes than the link names", wanted=f"{link.size_bytes} bytes"
                    )
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
            raise TooSlow("the download did not end in time", seen=link.uri) from None


def _compare_sizes(link: Link, source: BlobSource) -> None:
    if source.size_bytes is None or source.size_bytes == link.size_bytes:
        return
    seen, wanted = f"{source.size_bytes} bytes", f"{link.size_bytes} bytes"
    if source.size_bytes > link.size_bytes:
        raise TooBig("the source has a larger blob than the link names", seen=seen, wanted=wanted)
    raise WrongHash("the source has a shorter blob than the link names", seen=seen, wanted=wanted)


def _digest_of(file: IO[bytes]) -> bytes:
    """The SHA-256 of all that a file has, read in parts; the file's position is at its end then."""
    file.seek(0)
    total = hashlib.sha256()
    while data := file.read(CHUNK_BYTES):
        total.update(data)
    return total.digest()
