"""Downloads beside the loop: an order's files are fetched by threads, so that no link keeps other orders waiting.

Each order has a time for all its files. A file gets a short time first; one that does not come in it goes behind the
order's others and gets twice as long the next time, from where it stopped. So neither a link that drips nor many of
them keep the files that do come from coming. Must not know what the files are for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.store import TooSlow

log = logging.getLogger(__name__)

THREADS = 16
PER_ORDER = 8
FIRST_S = 2.0
"""What a file's first try may take, beside the time for its size; each further try may take twice as long."""
FIRST_BYTES_PER_S = 8 << 20
"""At what rate the first try must come; each further try at half of it."""
IDLE_S = 10.0
"""A thread without work ends after this long."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file that an order needs.

    Attributes:
        name: its path below the order's folder.
        link: where it is, with its size and hash.
        limit_bytes: the most that a file of this kind may have.
        required: whether the order cannot be worked on without it.
    """

    name: str
    link: Link
    limit_bytes: int
    required: bool = True


Fetch = Callable[[Link, int, float], Path]
"""Brings what a link names, of at most so many bytes, in at most so many seconds, and returns its path."""
Build = Callable[[Mapping[str, Path], Mapping[str, PotLabError]], None]
"""What is done, on a download's thread, with the files that are there and the failures of the others, by name."""


@dataclass(kw_only=True)
class Gathering:
    """An order's downloads.

    Attributes:
        files: those that are there, by name.
        failures: why the others cannot be had.
        error: why the order cannot be worked on; None while there is no reason.
        done: whether nothing more happens.
    """

    deadline_s: float
    build: Build
    waiting: deque[tuple[Wanted, int]]
    running: int = 0
    files: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, PotLabError] = field(default_factory=dict)
    error: Exception | None = None
    done: bool = False


class Downloads:
    """All downloads of one loop.

    Args:
        fetch: brings one file.
        on_done: called, on a download's thread, when an order's files are there or cannot be had.
        threads: how many files come at once; 0 fetches them before `begin` returns.
        clock_s: a clock, in seconds.
    """

    def __init__(
        self,
        fetch: Fetch,
        on_done: Callable[[], None],
        *,
        threads: int = THREADS,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch, self._on_done = fetch, on_done
        self._limit, self._clock_s = threads, clock_s
        self._changed = threading.Condition()
        self._orders: dict[bytes, Gathering] = {}
        self._threads = 0
        self._closed = False

    def begin(self, order_id: bytes, wanted: Sequence[Wanted], *, timeout_s: float, build: Build) -> None:
        """Fetch an order's files within `timeout_s` seconds, then call `build`."""
        tasks = deque((one, 0) for one in wanted)
        with self._changed:
            self._orders[order_id] = Gathering(deadline_s=self._clock_s() + timeout_s, build=build, waiting=tasks)
            for _ in range(min(max(1, len(tasks)), self._limit - self._threads)):
                self._threads += 1
                threading.Thread(target=self._work, name="pot-lab-download", daemon=True).start()
            self._changed.notify_all()
        if not self._limit:
            while self._turn():
                pass

    def state(self, order_id: bytes) -> Gathering | None:
        """How far an order's downloads are; None if none were begun."""
        return self._orders.get(order_id)

    def wait(self, order_id: bytes, timeout_s: float) -> None:
        """Return when an order's downloads are done, at the latest after `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: order_id not in self._orders or self._orders[order_id].done, timeout_s)

    def forget(self, order_id: bytes) -> None:
        """End an order's downloads, except for files that are on their way."""
        with self._changed:
            gathering = self._orders.pop(order_id, None)
            if gathering is not None:
                gathering.waiting.clear()
                gathering.done = True
            self._changed.notify_all()

    def close(self) -> None:
        """End all downloads."""
        with self._changed:
            self._closed = True
            for gathering in self._orders.values():
                gathering.waiting.clear()
                gathering.done = True
            self._orders.clear()
            self._changed.notify_all()

    # --- on the threads -----------------------------------------------------------------------------------------
    def _work(self) -> None:
        while True:
            if self._turn():
                continue
            with self._changed:
                if self._closed or (self._next() is None and not self._changed.wait(IDLE_S) and self._next() is None):
                    self._threads -= 1
                    return

    def _next(self) -> Gathering | None:
        """The order that has the fewest files on their way, of those that have any to fetch."""
        open_ = [one for one in self._orders.values() if one.waiting and one.running < PER_ORDER]
        return min(open_, key=lambda one: (one.running, one.deadline_s), default=None)

    def _turn(self) -> bool:
        """Fetch one file, or build what an order without files needs; returns whether there was anything to do."""
        with self._changed:
            gathering = self._next()
            if gathering is None:
                gathering = next((one for one in self._orders.values() if _is_complete(one)), None)
                if gathering is None:
                    return False
                task = None
            else:
                task = gathering.waiting.popleft()
            gathering.running += 1
        try:
            if task is not None:
                self._fetch_one(gathering, *task)
        finally:
            with self._changed:
                gathering.running -= 1
                complete = _is_complete(gathering)
                gathering.running += complete  # so that no other thread builds it too
        if complete:
            self._finish(gathering)
        return True

    def _fetch_one(self, gathering: Gathering, wanted: Wanted, tries: int) -> None:
        left_s = gathering.deadline_s - self._clock_s()
        time_s = FIRST_S * (1 << tries) + wanted.link.size_bytes * (1 << tries) / FIRST_BYTES_PER_S
        try:
            if left_s <= 0:
                raise TooSlow("the download did not end in time", seen=wanted.link.uri)
            path = self._fetch(wanted.link, wanted.limit_bytes, min(left_s, time_s))
        except TooSlow as error:
            if left_s > time_s:
                with self._changed:
                    if not gathering.done:
                        gathering.waiting.append((wanted, tries + 1))
                return
            failure: PotLabError = error
        except (PotLabError, OSError) as error:
            failure = error if isinstance(error, PotLabError) else PotLabError("a download failed", seen=str(error))
        except Exception as error:  # whatever a stranger's link brings up, the other files and orders go on
            log.exception("event=download_failed file=%s link=%s", wanted.name, wanted.link.uri)
            failure = PotLabError("a download failed", seen=f"{type(error).__name__}: {error}")
        else:
            with self._changed:
                gathering.files[wanted.name] = path
            return
        with self._changed:
            gathering.failures[wanted.name] = failure
            if wanted.required and gathering.error is None:
                gathering.error = failure
                gathering.waiting.clear()

    def _finish(self, gathering: Gathering) -> None:
        error = gathering.error
        if error is None:
            try:
                gathering.build(gathering.files, gathering.failures)
            except (PotLabError, OSError) as failure:
                error = failure
            except Exception as failure:
                log.exception("event=order_not_laid_out")
                error = PotLabError("the order's files cannot be used", seen=f"{type(failure).__name__}: {failure}")
        with self._changed:
            gathering.error, gathering.done = error, True
            gathering.running -= 1
            self._changed.notify_all()
        self._on_done()


def _is_complete(gathering: Gathering) -> bool:
    return not gathering.done and not gathering.waiting and not gathering.running
