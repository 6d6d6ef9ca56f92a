"""The room of a blob server: who has taken how much, and what of interrupted uploads is kept for their senders.

Room is taken as bytes come. The beginning of an upload that broke off waits a while for the rest, from the same place:
nobody else can add to it. Whoever needs the room gets it before any beginning does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pot_lab.store.connections import is_loopback

LEAST_BEGINNING_BYTES = 1 << 20
"""A shorter one is as quickly sent again."""
MOST_BEGINNINGS = 256
BEGINNING_AGE_S = 900.0
RECOUNT_S = 60.0
"""So often the folder is counted again, since its owner may remove blobs beside a running server."""
_BEGINNINGS_PART = 8
"""All beginnings together have at most this part of the room."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The first bytes of a blob of `total_bytes`, in a file."""

    path: Path
    size_bytes: int
    total_bytes: int
    since_s: float


class Room:
    """The room of one folder of blobs; may be used from any thread.

    Args:
        root: the folder. Leftovers of an earlier process are removed.
        total_limit_bytes: for all blobs.
        address_limit_bytes: for what one place, other than this host, stores as long as this lives.
        clock_s: a clock, in seconds.
    Attributes:
        blobs, used_bytes: what is there now; beginnings count as used.
    """

    def __init__(
        self,
        root: Path,
        *,
        total_limit_bytes: int,
        address_limit_bytes: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._clock_s = root, clock_s
        self.total_limit_bytes, self.address_limit_bytes = total_limit_bytes, address_limit_bytes
        self._lock = threading.Lock()
        self._stored: Counter[str] = Counter()
        self._begun: dict[tuple[str, str], Beginning] = {}
        for stale in root.glob(".*.tmp"):
            stale.unlink(missing_ok=True)
        self.blobs = self.used_bytes = self._blob_bytes = 0
        self._recount_at_s = 0.0
        self.recount()

    def recount(self) -> None:
        """Count what is in the folder, where something may have been removed or added by others."""
        with self._lock:
            arriving_bytes = self.used_bytes - self._blob_bytes
            self.blobs = self._blob_bytes = 0
            with os.scandir(self._root) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        with contextlib.suppress(FileNotFoundError):
                            self._blob_bytes += entry.stat().st_size
                            self.blobs += 1
            self.used_bytes = self._blob_bytes + arriving_bytes
            self._recount_at_s = self._clock_s() + RECOUNT_S

    def free_bytes(self, place: str) -> int:
        """The room that is left for whoever writes from this place, beginnings left out."""
        with self._lock:
            begun_bytes = sum(each.size_bytes for each in self._begun.values())
            free_bytes = self.total_limit_bytes - self.used_bytes + begun_bytes
            if is_loopback(place):
                return free_bytes
            own_bytes = sum(each.size_bytes for (_, whose), each in self._begun.items() if whose == place)
            return min(free_bytes, self.address_limit_bytes - self._stored[place] + own_bytes)

    def take(self, place: str, size_bytes: int) -> bool:
        """Take room for bytes that have come, if need be that of beginnings; False when there is none."""
        with self._lock:
            while not self._fits(place, size_bytes):
                if not self._drop_oldest(place):
                    return False
            self.used_bytes += size_bytes
            if not is_loopback(place):
                self._stored[place] += size_bytes
            return True

    def give_back(self, place: str, size_bytes: int) -> None:
        """Free the room of a blob that was not stored."""
        with self._lock:
            self._give_back(place, size_bytes)

    def store(self, temporary: Path, path: Path, size_bytes: int) -> bool:
        """Give a whole blob, in room that was taken, its name; False where it is here already."""
        with self._lock:
            try:
                os.link(temporary, path)  # unlike a rename it never replaces, so two writers count once
            except FileExistsError:
                return False
            self.blobs += 1
            self._blob_bytes += size_bytes
        temporary.unlink()
        return True

    # ---------------------------------------------------------------------------------------------- beginnings

    def keep(self, name: str, place: str, path: Path, size_bytes: int, total_bytes: int) -> bool:
        """Keep a beginning, whose room is taken, for its sender; False where it is not worth it, or has no place."""
        if size_bytes < LEAST_BEGINNING_BYTES or size_bytes >= total_bytes:
            return False
        with self._lock:
            known = self._begun.get((name, place))
            if known is not None and known.size_bytes >= size_bytes:
                return False
            if known is not None:
                self._drop(name, place)
            begun_bytes = sum(each.size_bytes for each in self._begun.values())
            limit_bytes = self.total_limit_bytes // _BEGINNINGS_PART
            if len(self._begun) >= MOST_BEGINNINGS or begun_bytes + size_bytes > limit_bytes:
                return False
            self._begun[name, place] = Beginning(
                path=path, size_bytes=size_bytes, total_bytes=total_bytes, since_s=self._clock_s()
            )
            return True

    def begun_bytes(self, name: str, place: str) -> int:
        """How much of this blob is kept for this place."""
        with self._lock:
            known = self._begun.get((name, place))
            return known.size_bytes if known is not None else 0

    def resume(self, name: str, place: str, first: int, total_bytes: int) -> Beginning | None:
        """Hand out the beginning that ends before byte `first`, with its room; None where there is none such."""
        with self._lock:
            known = self._begun.get((name, place))
            if known is None or (known.size_bytes, known.total_bytes) != (first, total_bytes):
                return None
            return self._begun.pop((name, place))

    def forget(self, name: str, place: str) -> None:
        """The blob is here: its beginning is of no use."""
        with self._lock:
            if (name, place) in self._begun:
                self._drop(name, place)

    def expire(self) -> None:
        """Drop beginnings that wait for too long, and see what others changed in the folder."""
        oldest_s = self._clock_s() - BEGINNING_AGE_S
        with self._lock:
            for name, place in [key for key, each in self._begun.items() if each.since_s < oldest_s]:
                self._drop(name, place)
        if self._clock_s() >= self._recount_at_s:
            self.recount()

    def _fits(self, place: str, size_bytes: int) -> bool:
        if self.used_bytes + size_bytes > self.total_limit_bytes:
            return False
        return is_loopback(place) or self._stored[place] + size_bytes <= self.address_limit_bytes

    def _drop_oldest(self, place: str) -> bool:
        """Drop a beginning whose room this place can use; False without one."""
        everybodys = self.used_bytes >= self.total_limit_bytes or is_loopback(place)
        keys = [key for key in self._begun if everybodys or key[1] == place] or list(self._begun)
        if not keys:
            return False
        self._drop(*min(keys, key=lambda key: self._begun[key].since_s))
        return True

    def _drop(self, name: str, place: str) -> None:
        dropped = self._begun.pop((name, place))
        dropped.path.unlink(missing_ok=True)
        self._give_back(place, dropped.size_bytes)

    def _give_back(self, place: str, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        if not is_loopback(place):
            self._stored[place] -= size_bytes
