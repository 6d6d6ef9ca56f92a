"""Live views in a notebook, as plain ipywidgets: they follow the ledger on their own thread, so they stay live while a
cell runs.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets

from pot_lab.errors import PotLabError
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.card import card_html


class OrderCard:
    """The order's card, redrawn whenever something happens to the order and each second for its countdown.

    `widget` is what a notebook shows.

    Args:
        client: the connection that the order is read through.
        order_id: the order (32 bytes).
        every_s: seconds between two drawings.
        now_ms: the clock of the countdown (Unix milliseconds).
    """

    def __init__(
        self,
        client: LedgerClient,
        order_id: bytes,
        *,
        every_s: float = 1.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._client = client
        self._order_id = order_id
        self._every_s = every_s
        self._now_ms = now_ms
        self._ended = threading.Event()
        self.widget: Any = ipywidgets.HTML(value=card_html(client.order(order_id), now_ms()))
        threading.Thread(target=self._follow, name="pot-lab-card", daemon=True).start()

    def close(self) -> None:
        """Stop following; the last picture stays."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                view = self._client.order(self._order_id)
                self.widget.value = card_html(view, self._now_ms())
                if view.ended:
                    return
            except PotLabError as error:  # the network is away: keep the last picture, marked, and try again
                stale = f"<div role='status'>not connected: {html.escape(error.message)}</div>"
                if stale not in self.widget.value:
                    self.widget.value += stale
