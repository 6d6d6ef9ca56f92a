"""Live views in a notebook that its kernel keeps new, on a thread of their own, so they stay live while a cell runs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from pot_lab.cards.order_card import order_card
from pot_lab.errors import PotLabError
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.card import card_html, describe
from pot_lab.notebook.order_widget import OrderWidget
from pot_lab.protocol.views import OrderView

FIRST_VIEW_S = 15.0
"""How long a card waits for the order's first view."""


class OrderCard:
    """The order's card, redrawn when a batch changes the order; its countdown goes on by itself.

    `widget` is what a notebook shows, and so is the card itself. The card ends with the order, or with `close`.

    Args:
        client: the connection that the order is watched through.
        order_id: the order (32 bytes).
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
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._now_ms = now_ms
        self._own = client.identity.address if client.identity is not None else None
        self._news: queue.SimpleQueue[OrderView | PotLabError | None] = queue.SimpleQueue()
        self._watch = client.watch_order(order_id, self._news.put, on_error=self._news.put)
        try:
            first = self._news.get(timeout=FIRST_VIEW_S)
        except queue.Empty:
            first = None
        if not isinstance(first, OrderView):
            self._watch.close()
            raise first or TimeoutError(f"order {order_id.hex()[:12]} was not read within {FIRST_VIEW_S:g} s")
        self.widget = OrderWidget()
        self._show(first)
        self._thread = threading.Thread(target=self._follow, args=(first,), name="pot-lab-card", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; the last picture stays."""
        self._news.put(None)
        self._thread.join()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def _show(self, view: OrderView, problem: str = "") -> None:
        now_ms = self._now_ms()
        with self.widget.hold_sync():
            self.widget.card = order_card(view, now_ms)
            self.widget.now_ms = now_ms
            self.widget.problem = problem
            self.widget.is_mine = view.order.client == self._own
            self.widget.still_html = card_html(view, now_ms)
            self.widget.still_text = describe(view, now_ms)

    def _follow(self, view: OrderView) -> None:
        with self._watch:
            while not view.ended:
                news = self._news.get()
                if news is None:
                    return
                if isinstance(news, PotLabError):  # the network is away: keep the last picture and mark it
                    self.widget.problem = news.message
                else:
                    view = news
                    self._show(view)
