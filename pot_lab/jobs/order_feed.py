"""Orders as the ledger has them, read again only after they changed.

The event stream shows which orders changed; everything else is answered from what was read before. Events carry no
contents here: a view always comes from a query, which f+1 aggregators answer alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.state import Event
from pot_lab.protocol.views import OrderSummary, OrderView

SETTLE_S = 1.0
"""An order is read again until this long after its last event: the aggregators that answer may lag behind those whose
events came first."""
REFRESH_S = 5.0
"""Everything is read again this often, should the event stream be silent."""


class EventSubscription(Protocol):
    """A running stream of events."""

    def close(self) -> None:
        """End the stream."""


class OrderReader(Protocol):
    """What the feed needs of a ledger client, see `LedgerClient`."""

    def order(self, order_id: bytes) -> OrderView:
        """One order; raises UnknownOrder."""

    def orders_in(self, windows: tuple[Window, ...], assigned: bytes = b"") -> list[OrderSummary]:
        """All orders in these windows; only those that an account was drawn for, if one is given."""

    def fetch_orders(self, limit: int = 100) -> list[OrderView]:
        """Open orders, best paid first."""

    def follow_new(self, callback: Callable[[int, int, list[Event]], None]) -> EventSubscription:
        """Call `callback(sequence, time_ms, events)`, on another thread, for each batch after what was read last."""


class OrderFeed:
    """A loop's view of the orders.

    Args:
        client: reads the ledger.
        windows: which orders `summaries` lists: those in one of these windows.
        assigned: only those that this account was drawn for; empty for all.
        clock_s: a clock, in seconds.

    `refresh` begins a step: until the next one, all answers are of one moment at the latest.
    """

    def __init__(
        self,
        client: OrderReader,
        clock_s: Callable[[], float] = time.monotonic,
        *,
        windows: tuple[Window, ...] = (),
        assigned: bytes = b"",
    ) -> None:
        self._client = client
        self._windows, self._assigned = windows, assigned
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._changed_s: dict[bytes, float] = {}  # when each order's last event came
        self._views: dict[bytes, OrderView] = {}
        self._summaries: list[OrderSummary] | None = None
        self._open: tuple[int, list[OrderView]] | None = None  # with how many were asked for
        self._refreshed_s = clock_s()
        self.ahead_ms = 0
        """How far the clock was ahead of the ledger's time when the last batch came."""

    def follow(self) -> EventSubscription:
        """Follow the event stream until the subscription is closed; begin after the first read."""
        return self._client.follow_new(self.on_batch)

    def on_batch(self, sequence: int, time_ms: int, events: list[Event]) -> None:
        """Note what a batch changed, and wake whoever waits; called on the network's thread."""
        now_s = self._clock_s()
        self.ahead_ms = round(now_s * 1000) - time_ms
        with self._lock:
            self._changed_s.update((event.order, now_s) for event in events if event.order)
        if events:
            self._woken.set()

    def wait(self, timeout_s: float) -> None:
        """Return after the next batch with events, at the latest after `timeout_s` seconds."""
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        """End a wait, from any thread."""
        self._woken.set()

    def refresh(self) -> None:
        """Drop what changed since it was read."""
        now_s = self._clock_s()
        with self._lock:
            changed = list(self._changed_s)
            self._changed_s = {id_: at_s for id_, at_s in self._changed_s.items() if 0 <= now_s - at_s < SETTLE_S}
        if not 0 <= now_s - self._refreshed_s < REFRESH_S:  # also when the clock was set back
            self._refreshed_s = now_s
            self._views.clear()
        elif not changed:
            return
        for order_id in changed:
            self._views.pop(order_id, None)
        self._summaries = self._open = None

    def view(self, order_id: bytes) -> OrderView | None:
        """The order; None when the ledger has no more than its header."""
        if order_id not in self._views:
            try:
                self._views[order_id] = self._client.order(order_id)
            except UnknownOrder:
                return None
        return self._views[order_id]

    def summaries(self) -> list[OrderSummary]:
        """The orders in this feed's windows, one line each."""
        if self._summaries is None:
            self._summaries = self._client.orders_in(self._windows, self._assigned)
        return self._summaries

    def open_orders(self, limit: int) -> list[OrderView]:
        """FetchOrders: open orders by reward per unit of training time, without their claims."""
        if self._open is None or self._open[0] < limit:
            self._open = limit, self._client.fetch_orders(limit)
        return self._open[1]

    def forget(self, order_id: bytes) -> None:
        """Free an order's view: nobody will ask for it again."""
        self._views.pop(order_id, None)
