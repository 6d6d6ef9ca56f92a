"""The files of a loop's orders: fetched beside the loop within the room and the time that there is, or set aside.

An order whose files cannot be had keeps no other waiting: it is tried again after a pause that doubles, and put away
when another try cannot help.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pot_lab.crypto.cipher import CannotDecrypt
from pot_lab.crypto.link import Link
from pot_lab.errors import Malformed, Oversize, PotLabError
from pot_lab.jobs.downloads import THREADS, Build, Downloads, Wanted
from pot_lab.jobs.errors import OrderUnusable
from pot_lab.jobs.prune import KEEP_BYTES, KEEP_S, prune_quietly
from pot_lab.jobs.scorer import BadTestData
from pot_lab.jobs.uploads import THREADS as UPLOADS
from pot_lab.jobs.uploads import Uploads
from pot_lab.store import MissingExtra, Store, StoreFull, TooBig, UnusableAddress, WrongHash

log = logging.getLogger(__name__)

DISK_RESERVE_BYTES = 256 << 20
"""What a miner leaves free of its disk."""
GATHER_S = 60.0
LEAST_BYTES_PER_S = 256 << 10
"""An order's files must come at this rate, beside the first minute, or it is set aside."""
PATIENCE_S = 0.3
"""How long a loop waits for downloads that it has begun: those of a near store are there at once."""
ASIDE_MS = 15_000
"""How long an order is set aside at first; each time twice as long."""
TRIES = 5
PRUNE_MS, FIRST_PRUNE_MS = 3_600_000, 600_000
"""How often it is looked for what is over and has grown old, and how long after the start at first."""
_FOR_GOOD = (WrongHash, TooBig, UnusableAddress, Malformed, Oversize, BadTestData, CannotDecrypt)
Failure = PotLabError | OSError | None
_OUR_TROUBLE = (StoreFull, MissingExtra, OSError)


class OrderFiles:
    """Downloads, and pauses, of one loop's orders.

    Args:
        store: looked at first for each file.
        cache: the folder for downloads.
        clock_ms: the host's clock in milliseconds.
        wake: called, on another thread, when an order's files are there or cannot be had.
        role: for the log.
        threads: how many files come at once; 0 fetches them within `prepare`.
    """

    def __init__(
        self,
        store: Store,
        cache: Path,
        clock_ms: Callable[[], int],
        wake: Callable[[], None],
        *,
        role: str,
        threads: int = THREADS,
    ) -> None:
        self.store, self._cache, self._clock_ms, self._role = store, cache, clock_ms, role
        self._downloads = Downloads(self._fetch, wake, threads=threads)
        self._uploads = Uploads(store.put_file, wake, threads=min(threads, UPLOADS))
        self._patience_s = PATIENCE_S if threads else 0.0
        self._promised: dict[bytes, int] = {}  # what downloads that run may still take of the disk, in bytes
        self._aside: dict[bytes, tuple[int, int, int]] = {}  # by order: tries, when it was set aside, for how long
        self._pruned_ms: int = clock_ms() - PRUNE_MS + FIRST_PRUNE_MS

    def prepare(self, order_id: bytes, wanted: Sequence[Wanted], *, window_s: float, build: Build) -> bool:
        """Bring an order's files and `build` its workspace of them, over several calls.

        Args:
            order_id: the order.
            wanted: its files.
            window_s: how long they may take at most, in seconds.
            build: makes the workspace; called on another thread.

        Returns: whether the workspace is there.
        Raises:
            OrderUnusable: they cannot be had, and another try would not help.
            StoreFull: there is no room for them on this host now.
        """
        state = self._downloads.state(order_id)
        if state is None:
            if self.is_aside(order_id):
                return False
            self._promised[order_id] = self._check(wanted)
            size_bytes = sum(one.link.size_bytes for one in wanted)
            timeout_s = max(0.0, min(window_s, GATHER_S + size_bytes / LEAST_BYTES_PER_S))
            self._downloads.begin(order_id, wanted, timeout_s=timeout_s, build=build)
            self._downloads.wait(order_id, self._patience_s)
            state = self._downloads.state(order_id)
        if state is None or not state.done:
            return False
        self._promised.pop(order_id, None)
        if state.error is None:
            return True
        self._downloads.forget(order_id)
        self.set_aside(order_id, state.error)
        return False

    def upload(self, paths: Sequence[Path], *, late: bool = False) -> tuple[dict[Path, Link], Failure]:
        """Bring files into the store, over several calls.

        Args:
            paths: the files.
            late: whether there is no time to wait: files that are not there yet get the link that they will have. So
                do files that the store does not take, where custody will: it takes what the ledger names.

        Returns: the links of those that are there, and why one could not be put, which the next call tries again.
        """
        links: dict[Path, Link] = {}
        failure: Failure = None
        fresh = bool(self._patience_s) and not all(map(self._uploads.has, paths))
        for _ in range(1 + fresh):
            for path in (path for path in paths if path not in links):
                try:
                    link = self._uploads.link_of(path)
                except (PotLabError, OSError) as error:
                    failure = error
                    continue
                if link is not None:
                    links[path] = link
            if len(links) == len(paths) or failure is not None:
                break
            self._uploads.wait(self._patience_s)
        if late or (failure is not None and self.store.has_copies):
            links |= {path: self.store.link_of(path) for path in paths if path not in links}
        return links, failure

    def _check(self, wanted: Sequence[Wanted]) -> int:
        """Refuse files by the sizes that their links name, before the first byte is asked for; returns how much of the
        disk they need, in bytes.
        """
        for one in wanted:
            if one.required and one.link.size_bytes > one.limit_bytes:
                raise OrderUnusable(
                    f"the order's {one.name} is larger than such a file may be",
                    seen=f"{one.link.size_bytes} bytes",
                    wanted=f"at most {one.limit_bytes} bytes",
                )
        needed_bytes = 2 * sum(one.link.size_bytes for one in wanted)  # opened, and the notebook's own
        free_bytes = shutil.disk_usage(self._existing()).free - DISK_RESERVE_BYTES - sum(self._promised.values())
        if needed_bytes > free_bytes:
            raise StoreFull(
                "the disk has no room for the order's files",
                seen=f"{max(0, free_bytes)} bytes to spare",
                wanted=f"{needed_bytes} bytes",
            )
        return needed_bytes

    def _existing(self) -> Path:
        return next(path for path in (self._cache, *self._cache.parents) if path.exists())

    def set_aside(self, order_id: bytes, error: Exception) -> None:
        """Let an order rest before it is tried again.

        Raises:
            OrderUnusable: another try would not help.
        """
        tries = self._aside.get(order_id, (0, 0, 0))[0] + 1
        if isinstance(error, _FOR_GOOD) or (tries >= TRIES and not isinstance(error, _OUR_TROUBLE)):
            self.forget(order_id)
            raise OrderUnusable(str(error)) from error
        pause_ms = ASIDE_MS << min(tries - 1, TRIES)
        self._aside[order_id] = tries, self._clock_ms(), pause_ms
        log.warning(
            "event=order_set_aside role=%s order=%s pause_s=%d reason=%r",
            self._role,
            order_id.hex()[:12],
            pause_ms // 1000,
            str(error),
        )

    def is_aside(self, order_id: bytes) -> bool:
        """Whether an order rests."""
        _, since_ms, pause_ms = self._aside.get(order_id, (0, 0, 0))
        return 0 <= self._clock_ms() - since_ms < pause_ms

    def forget(self, order_id: bytes) -> None:
        """Nothing more is to be fetched for this order."""
        self._promised.pop(order_id, None)
        self._downloads.forget(order_id)
        self._aside.pop(order_id, None)

    def uploaded(self, folder: Path) -> None:
        """Nothing more is to be put from this folder."""
        self._uploads.forget(folder)

    def close(self) -> None:
        """End all downloads."""
        self._downloads.close()

    def prune(self) -> None:
        """Remove what is over from this home, at most once in PRUNE_MS, on a thread of its own."""
        now_ms = self._clock_ms()
        if 0 <= now_ms - self._pruned_ms < PRUNE_MS:
            return
        self._pruned_ms = now_ms
        options = {"keep_s": KEEP_S, "keep_bytes": KEEP_BYTES}
        home = self._cache.parent.parent
        threading.Thread(target=prune_quietly, args=(home,), kwargs=options, name="pot-lab-prune", daemon=True).start()

    def _fetch(self, link: Link, limit_bytes: int, timeout_s: float) -> Path:
        return self.store.fetch_file(link, limit_bytes=limit_bytes, timeout_s=timeout_s, cache_dir=self._cache)
