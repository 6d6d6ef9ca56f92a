"""An append-only file of records that survives its process, a power cut and a full disk.

A record is its length, a CRC over its place and bytes, and the bytes. Appends gather in memory until `sync`, which
writes them at once and waits for the disk (group commit). A process that acknowledges only after `sync` never takes
anything back: a torn record at the end was never acknowledged, so opening cuts it. Damage before the end is another
thing: it means that acknowledged records are gone, and opening refuses (`LogCorrupt`). A full disk leaves the file as
it was after the last `sync`.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pot_lab.files import sync_directory
from pot_lab.network.errors import DiskFull, LogCorrupt

MAX_RECORD_BYTES = 64 * 1024 * 1024
_MAGIC = b"PoTLog1\n"
_HEADER_BYTES = len(_MAGIC) + 32
_FRAME = struct.Struct(">II")
_READ_BYTES = 1024 * 1024
_SCAN_BYTES = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DurableLog:
    """One log file.

    Args:
        path: the file; made when it is not there.
        owner: 32 bytes that identify network and replica.
        durability: "fsync" waits for the disk, "flush" leaves that to the operating system.
    Attributes:
        size_bytes: where the next record will stand.
        cut_bytes: how much of a torn record was cut when the log was opened.
    Raises:
        LogCorrupt: damaged before its end, or another's log.
        DiskFull: no room for the header of a new log.
    """

    def __init__(self, path: str | os.PathLike[str], owner: bytes, durability: str = "fsync") -> None:
        self.path = Path(path)
        self.cut_bytes = 0
        self._syncs = durability == "fsync"
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._written_bytes = self._open(_MAGIC + owner)
        except BaseException:
            os.close(self._file)
            raise

    @property
    def size_bytes(self) -> int:
        """Where the next record will stand."""
        return self._written_bytes + self._waiting_bytes

    def append(self, record: bytes) -> int:
        """Queue a record for the next `write` or `sync`; returns its place."""
        offset = self.size_bytes
        frame = _FRAME.pack(len(record), _checksum(offset, record)) + record
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        return offset

    def write(self) -> None:
        """Hand queued records to the operating system; raises DiskFull, with none of them written."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        try:
            self._write_at(self._written_bytes, data)
        except OSError as error:
            self._undo()
            raise full_or(error, self.path) from error
        self._written_bytes += len(data)
        self._waiting, self._waiting_bytes = [], 0

    def sync(self) -> None:
        """Write queued records and wait until the disk has them; raises DiskFull."""
        self.write()
        if self._syncs:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                raise full_or(error, self.path) from error

    def read(self, offset: int) -> bytes:
        """The record at a place that `append` or `records` gave; raises LogCorrupt."""
        self.write()
        record = self._record_at(offset, self._written_bytes)
        if record is None:
            raise LogCorrupt(f"{self.path} is damaged at byte {offset}")
        return record

    def records(self) -> Iterator[tuple[int, bytes]]:
        """All records with their places, in order."""
        self.write()
        end = self._written_bytes
        for offset, record in self._scan(end):
            if record is None:
                raise LogCorrupt(f"{self.path} is damaged at byte {offset}")
            yield offset, record

    def replace(self, records: Iterable[bytes]) -> list[int]:
        """Put these records in the place of all others, all or nothing; returns their places.

        They are written to a second file, which takes this one's name once the disk has it; raises DiskFull, and leaves
        everything as it was.
        """
        self.write()
        header = os.pread(self._file, _HEADER_BYTES, 0)
        path = self.path.with_name(self.path.name + ".new")
        # Opened before the rename: were it lacking after it, this log would go on in a file without a name.
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        places: list[int] = []
        file = -1
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            end = _write_all(file, 0, header)
            for record in records:
                places.append(end)
                end = _write_all(file, end, _FRAME.pack(len(record), _checksum(end, record)) + record)
            os.fsync(file)
            os.rename(path, self.path)
            os.fsync(directory)
        except OSError as error:
            if file >= 0:
                os.close(file)
                path.unlink(missing_ok=True)
            raise full_or(error, self.path) from error
        finally:
            os.close(directory)
        os.close(self._file)
        self._file, self._written_bytes = file, end
        return places

    def close(self) -> None:
        """Sync what is queued, if the disk takes it, and close."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def _open(self, header: bytes) -> int:
        size_bytes = os.fstat(self._file).st_size
        found = os.pread(self._file, _HEADER_BYTES, 0)
        if len(found) < _HEADER_BYTES and header.startswith(found):
            try:
                self._write_at(0, header)
                os.fsync(self._file)
                sync_directory(self.path.parent)
            except OSError as error:
                raise full_or(error, self.path) from error
            return _HEADER_BYTES
        if found != header:
            raise LogCorrupt(f"{self.path} is another replica's log, or not a log", seen=found[:8], wanted=header[:8])
        end = _HEADER_BYTES
        for offset, record in self._scan(size_bytes):
            if record is None:
                self._cut(offset, size_bytes)
                return offset
            end = offset + _FRAME.size + len(record)
        return end

    def _scan(self, end: int) -> Iterator[tuple[int, bytes | None]]:
        """Records up to `end`; the last one is None where a whole record should stand and does not."""
        offset, start, window = _HEADER_BYTES, _HEADER_BYTES, b""
        while offset < end:
            need = offset + _FRAME.size - start
            if len(window) < need:
                window = os.pread(self._file, _READ_BYTES, offset)
                start = offset
            if len(window) - (offset - start) < _FRAME.size:
                yield offset, None
                return
            length, checksum = _FRAME.unpack_from(window, offset - start)
            size_bytes = _FRAME.size + length
            if length > MAX_RECORD_BYTES or offset + size_bytes > end:
                yield offset, None
                return
            if len(window) - (offset - start) < size_bytes:
                window = os.pread(self._file, max(_READ_BYTES, size_bytes), offset)
                start = offset
            at = offset - start + _FRAME.size
            record = window[at : at + length]
            if len(record) != length or _checksum(offset, record) != checksum:
                yield offset, None
                return
            yield offset, record
            offset += size_bytes

    def _record_at(self, offset: int, end: int) -> bytes | None:
        head = os.pread(self._file, _FRAME.size, offset)
        if len(head) < _FRAME.size:
            return None
        length, checksum = _FRAME.unpack(head)
        if length > MAX_RECORD_BYTES or offset + _FRAME.size + length > end:
            return None
        record = os.pread(self._file, length, offset + _FRAME.size)
        return record if len(record) == length and _checksum(offset, record) == checksum else None

    def _cut(self, offset: int, end: int) -> None:
        """Cut a torn tail, but never a record behind which another whole one stands."""
        head = os.pread(self._file, _FRAME.size, offset)
        candidates = list(range(offset + 1, min(end, offset + _SCAN_BYTES)))
        if len(head) == _FRAME.size:
            candidates.insert(0, offset + _FRAME.size + _FRAME.unpack(head)[0])
        for candidate in candidates:
            record = self._record_at(candidate, end) if candidate < end else None
            if record:
                raise LogCorrupt(
                    f"{self.path} is damaged at byte {offset}, before records that are whole; "
                    "its votes cannot be trusted: move the data directory away and let the aggregator catch up"
                )
        self.cut_bytes = end - offset
        os.ftruncate(self._file, offset)
        os.fsync(self._file)

    def _write_at(self, offset: int, data: bytes) -> None:
        _write_all(self._file, offset, data)

    def _undo(self) -> None:
        """Leave nothing of a write that failed."""
        self._waiting, self._waiting_bytes = [], 0
        os.ftruncate(self._file, self._written_bytes)


def _write_all(file: int, offset: int, data: bytes) -> int:
    """Write all of it: a disk that is nearly full takes a part before it refuses. Returns where it ends."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(file, rest, offset)
        offset, rest = offset + done, rest[done:]
    return offset


def _checksum(offset: int, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(offset.to_bytes(8, "big")))


def full_or(error: OSError, path: Path) -> Exception:
    """DiskFull for the errors of a full disk, else the error itself."""
    if error.errno in _FULL:
        return DiskFull(
            f"no room for {path}: {error.strerror}; free some and start again, nothing acknowledged is lost"
        )
    return error
