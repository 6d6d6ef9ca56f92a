"""The data directory of an aggregator: its lock, its log, its history."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.history import History
from pot_lab.network.aggregator.replica_log import ReplicaLog
from pot_lab.network.errors import BadDataDir, DataDirLocked

_LOCK_FILE, _LOG_FILE, _HISTORY_FILE = "lock", "replica.log", "history.sqlite"


class DataDir:
    """The folder with an aggregator's log and history.

    Args:
        path: the folder; made when it is not there.
        owner: 32 bytes that name network and replica; a log of another owner is refused.
        durability: "fsync" or "flush", see `DurableLog`.
        history_batches: how many executed batches the history keeps; 0 keeps all.
    """

    def __init__(self, path: Path, owner: bytes, durability: str, history_batches: int = 0) -> None:
        self.path, self._owner, self._durability = path, owner, durability
        self._history_batches = history_batches

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[ReplicaLog, History]]:
        """Hold the lock and both files open; what is queued in the log is written at the end.

        Raises:
            BadDataDir: the folder cannot be made or used.
            DataDirLocked: another process holds the lock.
            LogCorrupt: log or history is damaged.
            DiskFull: no room for them.
        """
        lock = self._lock()
        try:
            log = ReplicaLog(self.path / _LOG_FILE, self._owner, self._durability)
            try:
                with contextlib.closing(
                    History(self.path / _HISTORY_FILE, self._durability, self._history_batches)
                ) as history:
                    yield log, history
            except BaseException:
                with contextlib.suppress(PotLabError, OSError):  # the error on its way up has said why
                    log.close()
                raise
            log.close()
        finally:
            os.close(lock)

    def _lock(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadDataDir(f"cannot use the data directory {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DataDirLocked(f"another process works in {self.path}") from error
        return lock
