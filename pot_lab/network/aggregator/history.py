"""The events of executed batches, for clients that subscribe later: an SQLite file.

It is a copy: everything in it follows from the replica's log, which is written first. So no batch waits for its disk,
and one that a power cut takes from here is put back when the log is replayed. Before batches leave the log, `sync`
waits for them here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pot_lab.network.errors import DiskFull, LogCorrupt

_PRUNE = "DELETE FROM batches WHERE sequence <= MIN(?, (SELECT MIN(sequence) FROM batches) + ? - 1)"
_PRUNED_AT_ONCE = 5_000


class HistoryRow(NamedTuple):
    """One executed batch."""

    sequence: int
    time_ms: int
    events: tuple[bytes, ...]


class History:
    """The history file of one aggregator.

    Args:
        path: the SQLite file; made when it is not there.
        durability: "fsync" waits for the disk when a checkpoint of the file requires it, "flush" never.
        keep: so many batches are kept, the newest; 0 keeps all. Older ones leave when the log is compacted, a few
            thousand at a time.
    Raises:
        LogCorrupt: the file is damaged (it can be removed: the log brings it back).
        DiskFull: no room to make it.
    """

    def __init__(self, path: str | os.PathLike[str], durability: str = "fsync", keep: int = 0) -> None:
        self._path, self._keep = path, keep
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(f"PRAGMA synchronous = {'NORMAL' if durability == 'fsync' else 'OFF'}")
            self._database.execute("PRAGMA cache_size = -512")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS batches (sequence INTEGER PRIMARY KEY, time_ms INTEGER, events BLOB)"
            )
            row = self._database.execute("SELECT MAX(sequence) FROM batches").fetchone()
        except sqlite3.Error as error:
            raise self._readable(error) from error
        self.height: int = row[0] or 0

    def append(self, rows: Sequence[HistoryRow]) -> None:
        """Add executed batches, in order; those that are here already (a replay) are skipped."""
        fresh = [row for row in rows if row.sequence > self.height]
        if not fresh:
            return
        packed = [(row.sequence, row.time_ms, msgspec.msgpack.encode(row.events)) for row in fresh]
        try:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO batches VALUES (?, ?, ?)", packed)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise self._readable(error) from error
        self.height = fresh[-1].sequence

    def sync(self) -> None:
        """Wait until the disk has every batch that was added, and let the oldest go; raises DiskFull."""
        try:
            if self._keep:
                self._database.execute(_PRUNE, (self.height - self._keep, _PRUNED_AT_ONCE))
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise self._readable(error) from error

    def read(self, first: int, count: int) -> list[HistoryRow]:
        """Up to `count` executed batches from sequence `first` on, up to the first gap: what a snapshot stepped over or
        the disk damaged is not here, and subscribers get it from the other aggregators.
        """
        first = max(first, 1)
        query = "SELECT sequence, time_ms, events FROM batches WHERE sequence >= ? ORDER BY sequence LIMIT ?"
        try:
            rows = self._database.execute(query, (first, count)).fetchall()
        except sqlite3.Error as error:
            raise self._readable(error) from error
        found: list[HistoryRow] = []
        for sequence, time_ms, events in rows:
            if sequence != first + len(found):
                break
            try:
                found.append(HistoryRow(sequence, time_ms, msgspec.msgpack.decode(events, type=tuple[bytes, ...])))
            except (msgspec.DecodeError, TypeError):
                break  # SQLite keeps no checksums
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _readable(self, error: sqlite3.Error) -> Exception:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return DiskFull(f"no room for {self._path}; free some and start again, nothing acknowledged is lost")
        return LogCorrupt(f"{self._path} cannot be used ({error}); remove it and the log brings it back")
