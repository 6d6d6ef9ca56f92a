"""Live views in a notebook, as plain ipywidgets: they follow the ledger on their own thread, so they stay live while a
cell runs.
"""

from __future__ import annotations

import html
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets

from pot_lab.errors import PotLabError
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.card import card_html
from pot_lab.protocol.views import OrderView

FIRST_VIEW_S = 15.0
"""How long a card waits for the order's first view."""


class OrderCard:
    """The order's card, redrawn when a batch changes the order, and every second for its countdown.

    `widget` is what a notebook shows. The card ends with the order, or with `close`.

    Args:
        client: the connection that the order is watched through.
        order_id: the order (32 bytes).
        every_s: seconds between two drawings of the countdown.
        now_ms: the clock of the countdown (Unix milliseconds).
    Raises:
        UnknownOrder, Unreachable: the order cannot be read.
        TimeoutError: it was not read in time.
    """

    def __init__(
        self,
        client: LedgerClient,
        order_id: bytes,
        *,
        every_s: float = 1.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._every_s = every_s
        self._now_ms = now_ms
        self._news: queue.SimpleQueue[OrderView | PotLabError | None] = queue.SimpleQueue()
        self._watch = client.watch_order(order_id, self._news.put, on_error=self._news.put)
        try:
            first = self._news.get(timeout=FIRST_VIEW_S)
        except queue.Empty:
            first = None
        if not isinstance(first, OrderView):
            self._watch.close()
            raise first or TimeoutError(f"order {order_id.hex()[:12]} was not read within {FIRST_VIEW_S:g} s")
        self.widget: Any = ipywidgets.HTML(value=card_html(first, now_ms()))
        self._thread = threading.Thread(target=self._follow, args=(first,), name="pot-lab-card", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; the last picture stays."""
        self._news.put(None)
        self._thread.join()

    def _follow(self, view: OrderView) -> None:
        stale = ""
        with self._watch:
            while not view.ended:
                try:
                    news = self._news.get(timeout=self._every_s)
                except queue.Empty:
                    news = view
                if news is None:
                    return
                if isinstance(news, PotLabError):  # the network is away: keep the last picture and mark it
                    stale = f"<div role='status'>not connected: {html.escape(news.message)}</div>"
                elif news is not view:
                    view, stale = news, ""
                self.widget.value = card_html(view, self._now_ms()) + stale
