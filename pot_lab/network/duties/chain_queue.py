"""Slow work on the chain, one job after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Errands:
    """Slow work on the chain, one after the other: an account's transactions are numbered in a row."""

    def __init__(self) -> None:
        self._last: threading.Thread | None = None

    def add(self, work: Callable[[], None]) -> None:
        """Do this on a thread of its own, after what was added before."""
        before = self._last

        def after() -> None:
            if before is not None:
                before.join()
            work()

        self._last = threading.Thread(target=after, name="errand", daemon=True)
        self._last.start()
