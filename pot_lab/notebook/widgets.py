"""Live views in a notebook, out of plain ipywidgets: they follow the ledger on the network's own thread, so they stay
live while a cell runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.notebook.order import Order


class OrderCard:
    """The order's card, redrawn whenever something happens to the order and each second for its countdown.

    `widget` is what a notebook shows; `close()` stops the following.
    """

    def __init__(self, order: Order, every_s: float = 1.0) -> None:
        import threading

        self.order = order
        self.widget: Any = ipywidgets.HTML(value=order._repr_html_())
        self._ended = threading.Event()
        self._every_s = every_s
        self._thread = threading.Thread(target=self._follow, name="pot-lab-card", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                view = self.order.view()
                from pot_lab.notebook.card import card_html

                self.widget.value = card_html(view)
                if view.ended:
                    return
            except PotLabError as error:  # the network is away: say so, keep the last picture, try again
                stale = f"<div role='status'>not connected: {error.message}</div>"
                if stale not in self.widget.value:
                    self.widget.value += stale
