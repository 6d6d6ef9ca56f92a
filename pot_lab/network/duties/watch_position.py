"""Which position of a chain's watcher may be saved: one whose events the ledger has applied.

An event that a watcher has passed and the ledger has not applied must be read again after a restart, since nobody else
may have it. So a position waits until the ledger has caught up with it. Where a ledger came back with less than it had
(a power cut without fsync), the watcher begins again at the contracts' first block.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pot_lab.chain.watcher import Position

SAVE_EVERY_S: Final = 5.0
GAP_POLLS: Final = 40
"""Polls after which a ledger that lacks events from before the watcher's beginning is not just catching up."""


class Positions(Protocol):
    """Where a position is kept (`chain.position.PositionFile`)."""

    def save(self, position: Position) -> None:
        """Keep this one."""
        ...

    def forget(self) -> None:
        """Keep none."""
        ...


class PositionKeeper:
    """Saves a watcher's positions as the ledger catches up with them.

    Args:
        positions: where they are saved.
        now_s: seconds of a clock that never goes back.
    """

    def __init__(self, positions: Positions, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._positions, self._now_s = positions, now_s
        self._passed: deque[Position] = deque()
        self._save_at_s = now_s()
        self._gaps = 0

    def on_poll(self, position: Position, applied: int | None) -> None:
        """The watcher stands here, and the ledger has applied so many events; None: nobody has looked yet."""
        if self._passed and self._passed[-1].events == position.events:
            self._passed.pop()
        self._passed.append(position)
        if applied is None or self._now_s() < self._save_at_s:
            return
        settled = None
        while self._passed and self._passed[0].events <= applied:
            settled = self._passed.popleft()
        if settled is not None and settled.last_hash:
            self._positions.save(settled)
            self._save_at_s = self._now_s() + SAVE_EVERY_S

    def lacks_events(self, first: int, applied: int | None) -> bool:
        """Whether the ledger waits for events from before the first that is at hand, and has waited for long; what was
        saved is forgotten then.
        """
        self._gaps = self._gaps + 1 if applied is not None and applied < first else 0
        if self._gaps < GAP_POLLS:
            return False
        self._gaps = 0
        self._passed.clear()
        self._positions.forget()
        return True
