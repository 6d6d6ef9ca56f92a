"""What a test may do to a running aggregator from outside: a slow disk and a wrong clock.

A page of memory that test and process share, read at every wait for the disk and every look at the clock, so a change
takes force at once and a killed process leaves nothing behind.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_PAGE = struct.Struct("=qq")
_SYNCED = struct.Struct("=QQ")


class Weather:
    """The page of one aggregator; made when it is not there.

    Attributes:
        sync_delay_s: how much longer each wait for the disk takes.
        clock_offset_ms: how far its clock is ahead.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "a+b") as file:
            if file.seek(0, os.SEEK_END) < _PAGE.size:
                os.ftruncate(file.fileno(), _PAGE.size)
            self._page = mmap.mmap(file.fileno(), _PAGE.size)

    @property
    def sync_delay_s(self) -> float:
        return float(_PAGE.unpack_from(self._page)[0]) / 1e6

    @sync_delay_s.setter
    def sync_delay_s(self, value: float) -> None:
        _PAGE.pack_into(self._page, 0, int(value * 1e6), self.clock_offset_ms)

    @property
    def clock_offset_ms(self) -> int:
        return int(_PAGE.unpack_from(self._page)[1])

    @clock_offset_ms.setter
    def clock_offset_ms(self, value: int) -> None:
        _PAGE.pack_into(self._page, 0, int(self.sync_delay_s * 1e6), value)


def install(weather: Weather, log: Path) -> None:
    """Let this process live in that weather; called before anything else runs in it.

    Beside `log` the file `synced` says how much of it the disk has for certain: its inode and size at the last wait.
    """
    real_clock, real_fsync, real_fdatasync = time.time_ns, os.fsync, os.fdatasync
    note = os.open(log.with_name("synced"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def slow(sync: object, file: int) -> None:
        before = os.fstat(file)
        delay_s = weather.sync_delay_s
        if delay_s:
            time.sleep(delay_s)
        sync(file)  # type: ignore[operator]
        if os.readlink(f"/proc/self/fd/{file}").startswith(str(log)):
            os.pwrite(note, _SYNCED.pack(before.st_ino, before.st_size), 0)

    time.time_ns = lambda: real_clock() + weather.clock_offset_ms * 1_000_000
    os.fsync = lambda file: slow(real_fsync, file)
    os.fdatasync = lambda file: slow(real_fdatasync, file)


def synced_bytes(log: Path) -> int:
    """How much of a log the disk is certain to have; nothing, if the file that is there now was never waited for."""
    with open(log.with_name("synced"), "rb") as file:
        raw = file.read(_SYNCED.size)
    inode, size_bytes = _SYNCED.unpack(raw) if len(raw) == _SYNCED.size else (0, 0)
    found = log.stat()
    return min(int(size_bytes), found.st_size) if inode == found.st_ino else 0
