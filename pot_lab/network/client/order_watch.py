"""Watching one order: its view whenever a batch has an event of it, without polling in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import Call
from pot_lab.network.errors import ClientClosed
from pot_lab.protocol.state import Event
from pot_lab.protocol.views import OrderView

_log = logging.getLogger("pot_lab.client")
SLOW_POLL_S = 5.0
"""How often a watched order is read while no event names it, in seconds."""


class Closable(Protocol):
    """Something that ends with `close`."""

    def close(self) -> None:
        """End it."""
        ...


class OrderSource(Protocol):
    """Where an `OrderWatch` reads its order (`LedgerClient`)."""

    def read(self) -> Call[OrderView]:
        """Start to read the order; returns at once."""
        ...

    def follow(self, callback: Callable[[int, int, list[Event]], None]) -> Closable:
        """Start to follow the batches after the state that was read last."""
        ...

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Run an action `delay_s` from now; raises ClientClosed."""
        ...


class OrderWatch:
    """Reads an order once, then again after each batch with an event of it, and when none came for `poll_s`.

    Reads never overlap: events that arrive during one lead to one more after it. Made by `LedgerClient.watch_order`.
    The callbacks run on the client's thread, so they must be quick; they may call `close`.

    Args:
        order_id: the order, 32 bytes.
        source: where it is read.
        on_view: called with the view after each read.
        on_error: called with the error of each read that failed; the watch goes on, unless the client is closed.
        poll_s: how often the order is read while no event names it.
    """

    def __init__(
        self,
        order_id: bytes,
        source: OrderSource,
        on_view: Callable[[OrderView], None],
        *,
        on_error: Callable[[PotLabError], None] | None = None,
        poll_s: float = SLOW_POLL_S,
    ) -> None:
        self.order_id = order_id
        self._source, self._on_view, self._on_error, self._poll_s = source, on_view, on_error, poll_s
        self._lock = threading.Lock()
        self._closed = self._reading = self._stale = False
        self._reads = 0
        self._subscription: Closable | None = None

    def refresh(self) -> None:
        """Read the order now, or after the read that is in progress; may be called from any thread."""
        with self._lock:
            if self._closed:
                return
            self._stale = self._reading
            if self._reading:
                return
            self._reading = True
            self._reads += 1
        self._source.read().future.add_done_callback(self._on_read)

    def close(self) -> None:
        """End the watch: no callback starts after the one that may be running."""
        with self._lock:
            self._closed = True
            subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()

    def __enter__(self) -> OrderWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_read(self, read: Future[OrderView]) -> None:
        with self._lock:
            self._reading = False
            closed, stale, number = self._closed, self._stale, self._reads
        if closed:
            return
        error = read.exception()
        try:
            if error is None:
                self._begin_following()
                self._on_view(read.result())
            elif isinstance(error, PotLabError):
                if self._on_error is not None:
                    self._on_error(error)
                if isinstance(error, ClientClosed):
                    self.close()
                    return
        except ClientClosed:
            self.close()
            return
        except Exception:  # the callback is the user's; the watch goes on
            _log.exception("a callback of the watch on order %s failed", self.order_id.hex()[:12])
        if stale:
            self.refresh()
        else:
            self._poll_after(number)

    def _begin_following(self) -> None:
        """Follow from the state of the first read on: were it earlier, all batches ever would be pushed."""
        if self._subscription is not None:
            return
        subscription = self._source.follow(self._on_batch)
        with self._lock:
            if not self._closed:
                self._subscription = subscription
                return
        subscription.close()

    def _on_batch(self, sequence: int, time_ms: int, events: list[Event]) -> None:
        if any(event.order == self.order_id for event in events):
            self.refresh()

    def _poll_after(self, number: int) -> None:
        def poll() -> None:
            if self._reads == number:
                self.refresh()

        try:
            self._source.after(self._poll_s, poll)
        except ClientClosed:
            self.close()
