"""What a test may do to a running aggregator from outside: a slow disk and a wrong clock.

A page of memory that test and process share, read at every wait for the disk and every look at the clock, so a change
takes force at once and a killed process leaves nothing behind.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

_PAGE = struct.Struct("=qq")
_SIZE = struct.Struct("=Q")
_NOTES = "synced"


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


def install(weather: Weather, data_dir: Path) -> None:
    """Let this process live in that weather; called before anything else runs in it.

    Under `synced/` in its data directory stands how much of each file the disk has for certain: its size when the last
    wait for it began, by inode.
    """
    real_clock, real_fsync, real_fdatasync = time.time_ns, os.fsync, os.fdatasync
    notes = data_dir / _NOTES
    notes.mkdir(parents=True, exist_ok=True)

    def slow(sync: Callable[[int], None], file: int) -> None:
        before = os.fstat(file)
        delay_s = weather.sync_delay_s
        if delay_s:
            time.sleep(delay_s)
        sync(file)
        if stat.S_ISREG(before.st_mode):
            note = os.open(notes / str(before.st_ino), os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(note, _SIZE.pack(before.st_size), 0)
            os.close(note)

    time.time_ns = lambda: real_clock() + weather.clock_offset_ms * 1_000_000
    os.fsync = lambda file: slow(real_fsync, file)
    os.fdatasync = lambda file: slow(real_fdatasync, file)


def lose_unsynced(data_dir: Path, random: Random) -> None:
    """What a power cut does to a dead process' files: each keeps what was waited for, and any part of the rest."""
    for path in [*data_dir.glob("replica.log*"), *data_dir.glob("snapshot-*"), *data_dir.glob("*-wal")]:
        found = path.stat()
        note = data_dir / _NOTES / str(found.st_ino)
        raw = note.read_bytes() if note.exists() else b""
        certain = min(_SIZE.unpack(raw)[0], found.st_size) if len(raw) == _SIZE.size else 0
        os.truncate(path, random.randint(certain, found.st_size))
    for path in data_dir.glob("*-shm"):
        path.unlink()
