"""One background thread that keeps a snapshot of network, orders and jobs, and sends every change to its listeners.

Reading a network may take seconds when aggregators are down, so it never happens on the server's own loop. The thread
starts with the first listener or reader (`_start_jupyter_server_extension` need not run) and pauses while it is not
watched. When the network cannot be read, the last snapshot stays, marked with what went wrong.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pot_lab import home
from pot_lab.errors import PotLabError
from pot_lab.jobs import registry
from pot_lab.server.source import FeedSource, find_source

INTERVAL_S = 1.0
LEAST_GAP_S = 0.2  # a busy ledger changes with every batch; eyes need fewer
SEARCH_INTERVAL_S = 2.0
READER_COUNTS_FOR_S = 30.0
QUEUE_LIMIT = 4
JOBS_LIMIT = 50
NO_NETWORK = "No network runs on this host. Start one with: pot-lab testnet up"

log = logging.getLogger(__name__)


class Listener:
    """One follower's bounded queue on its own event loop; a slow one loses the oldest snapshots, never the newest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(QUEUE_LIMIT)

    async def next(self) -> dict[str, Any] | None:
        """The next snapshot, or None when the feed has stopped."""
        return await self._queue.get()

    def offer(self, snapshot: dict[str, Any] | None) -> None:
        """Hand over a snapshot from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._put, snapshot)
        except RuntimeError:
            pass  # its loop is closed: the follower is gone

    def _put(self, snapshot: dict[str, Any] | None) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(snapshot)


class NetworkFeed:
    """Keeps the snapshot; see the module.

    Args:
        connect: finds the running network and connects, or returns None.
        home_folder: where jobs are looked for, by default `$POT_LAB_HOME`.
        interval_s: the longest time between two reads of a network that reports no change.
    """

    def __init__(
        self,
        connect: Callable[[], FeedSource | None] = find_source,
        *,
        home_folder: Path | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._connect = connect
        self._home = home_folder
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._first = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._listeners: set[Listener] = set()
        self._read_s = float("-inf")
        self._state: dict[str, Any] = {"network": None, "orders": [], "jobs": [], "problem": ""}

    # ------------------------------------------------------------------------------- for the server's event loop

    async def snapshot(self) -> dict[str, Any]:
        """The newest snapshot; the very first one is waited for."""
        self._read_s = time.monotonic()
        self._ensure_started()
        if not self._first.is_set():
            await asyncio.get_running_loop().run_in_executor(None, self._first.wait, 30.0)
        return self._stamped()

    def listen(self) -> Listener:
        """Follow from now on; the newest snapshot, if there is one, comes first."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners.add(listener)
            if self._first.is_set():
                listener.offer(self._stamped())
        self._ensure_started()
        self._wake.set()
        return listener

    def leave(self, listener: Listener) -> None:
        """Follow no longer."""
        with self._lock:
            self._listeners.discard(listener)

    def stop(self) -> None:
        """End the thread and the listeners' streams; returns at once."""
        self._stopping = True
        self._wake.set()
        with self._lock:
            for listener in self._listeners:
                listener.offer(None)
            self._listeners.clear()

    def _ensure_started(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="pot-lab-feed", daemon=True)
                self._thread.start()
        self._wake.set()

    def _stamped(self) -> dict[str, Any]:
        return {**self._state, "time_ms": time.time_ns() // 1_000_000}

    # ---------------------------------------------------------------------------------------------- on the thread

    def _run(self) -> None:
        source: FeedSource | None = None
        try:
            while not self._stopping:
                self._wake.clear()
                if not self._is_watched():
                    self._wake.wait(READER_COUNTS_FOR_S)
                    continue
                source = self._look(source)
                time.sleep(LEAST_GAP_S)
                self._wake.wait(self._interval_s if source is not None else SEARCH_INTERVAL_S)
        finally:
            if source is not None:
                source.close()

    def _is_watched(self) -> bool:
        with self._lock:
            return bool(self._listeners) or time.monotonic() - self._read_s < READER_COUNTS_FOR_S

    def _look(self, source: FeedSource | None) -> FeedSource | None:
        """Read everything once; returns the connection for the next time."""
        state = {**self._state, "problem": ""}
        try:
            state["jobs"] = jobs_of(self._home or home.home())
            if source is None:
                source = self._connect()
                if source is not None:
                    source.on_change(self._wake.set)
            if source is None:
                # the last snapshot of a network that is gone stays, marked as such, until there is another
                state["problem"] = NO_NETWORK
            else:
                state["network"] = source.network()
                state["orders"] = source.orders()
        except (PotLabError, OSError, TimeoutError) as error:
            state["problem"] = str(error) or type(error).__name__
            self._drop(source)
            source = None
        except Exception:
            log.exception("reading the network failed")
            state["problem"] = "Reading the network failed; see the server's log."
            self._drop(source)
            source = None
        with self._lock:
            changed = not self._first.is_set() or state != self._state
            self._state = state
            self._first.set()
            if changed:
                stamped = self._stamped()
                for listener in self._listeners:
                    listener.offer(stamped)
        return source

    def _drop(self, source: FeedSource | None) -> None:
        if source is not None:
            try:
                source.close()
            except Exception:
                log.exception("closing the connection failed")


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """The newest jobs of a home, newest first, with their last report."""
    found = []
    for job in reversed(registry.find(folder)[-JOBS_LIMIT:]):
        reports = job.events("progress")
        found.append(
            {
                "id": job.id,
                "kind": job.kind,
                "state": job.state,
                "created_ms": job.created_ms,
                "progress": reports[-1]["data"] if reports else None,
            }
        )
    return found
