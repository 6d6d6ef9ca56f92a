"""What one follower of the feed has seen, and the difference to what there is now.

A follower that is slow gets fewer and larger differences, never an old state: only the newest is kept for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

FOLLOWED_LIMIT = 64
"""Orders that one browser tab may follow by id."""
_BY_ID = ("orders", "jobs", "miners")


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be sent so that `old` becomes `new`.

    A list of things with ids goes as `{"ids": [...], "changed": [...]}`: all ids in their order, and the things that
    are new or different. Cards go by id, those that changed. Everything else goes whole, if it changed.

    >>> difference({"height": 1, "orders": []}, {"height": 2, "orders": [{"id": "a"}]})
    {'height': 2, 'orders': {'ids': ['a'], 'changed': [{'id': 'a'}]}}
    """
    changes: dict[str, Any] = {}
    for name, value in new.items():
        before = old.get(name)
        if value == before:
            continue
        if name in _BY_ID and isinstance(before, list):
            known = {one["id"]: one for one in before}
            changed = [one for one in value if known.get(one["id"]) != one]
            changes[name] = {"ids": [one["id"] for one in value], "changed": changed}
        elif name == "cards" and isinstance(before, dict):
            changes[name] = {key: card for key, card in value.items() if before.get(key) != card}
        else:
            changes[name] = value
    return changes


class Listener:
    """One follower on its own event loop: it gets the whole state first, and then the differences.

    Attributes:
        followed: the ids of the orders (64 hex digits) whose cards it gets.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.followed: frozenset[str] = frozenset()
        self._loop = loop
        self._news = asyncio.Event()
        self._newest: dict[str, Any] | None = None
        self._sent: dict[str, Any] | None = None
        self._ended = False

    def follow(self, order_ids: Iterable[str]) -> None:
        """Get the cards of these orders from now on, and of no others."""
        self.followed = frozenset(order_ids)
        self._news.set()

    async def next(self) -> dict[str, Any] | None:
        """The next message: `{"whole": state}` or `{"changes": difference}`, with the time of sending (`time_ms`).

        None when the feed has stopped.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            if self._ended:
                return None
            if self._newest is None:
                continue
            cards = {key: card for key, card in self._newest["cards"].items() if key in self.followed}
            state = {**self._newest, "cards": cards}
            before, self._sent = self._sent, state
            if before is None:
                return {"whole": state, "time_ms": now_ms()}
            if changes := difference(before, state):
                return {"changes": changes, "time_ms": now_ms()}

    def offer(self, state: dict[str, Any] | None) -> None:
        """Hand over the newest state, or None for the end, from any thread. States are never changed afterwards."""
        try:
            self._loop.call_soon_threadsafe(self._put, state)
        except RuntimeError:
            pass  # its loop is closed: the follower is gone

    def _put(self, state: dict[str, Any] | None) -> None:
        self._ended = self._ended or state is None
        self._newest = state or self._newest
        self._news.set()


def now_ms() -> int:
    """The time, in Unix milliseconds."""
    return time.time_ns() // 1_000_000
