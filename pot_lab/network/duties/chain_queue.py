"""Slow work on the chain, one job after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from pot_lab.network.duties.duty import log

Work = Callable[[], None]


def start_thread(work: Work, name: str = "chain-queue") -> threading.Thread:
    """Start a daemon thread that does this."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


class ChainQueue:
    """Does slow work on the chain, one job after the other: an account's transactions are numbered in a row.

    Args:
        start: starts a function on a thread of its own; called when there is work and no thread at it.
    """

    def __init__(self, start: Callable[[Work], object] = start_thread) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._working = False

    def add(self, work: Work) -> None:
        """Do this after what was added before; returns at once. A job that raises is logged, and the next begins."""
        with self._lock:
            self._waiting.append(work)
            if self._working:
                return
            self._working = True
        self._start(self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working = False
                    return
                work = self._waiting.popleft()
            try:
                work()
            except Exception:  # a fault of one job must not hold up the others
                log.exception("event=chain_work_failed")
