"""Whether an order accepts a kind of transaction now."""

from __future__ import annotations

from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import PLACES, TABLE, window_accepting
from pot_lab.protocol.errors import TooEarly, TooLate
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import OrderState


def in_window(book: Book, order_id: OrderId, kind: str) -> OrderState:
    """The order, if its open window accepts this kind.

    Raises:
        UnknownOrder: there is no such order.
        TooEarly, TooLate: naming both windows.
    """
    order = book.require_order(order_id)
    if kind not in TABLE[order.window].accepts:
        wanted = window_accepting(kind)
        error = TooEarly if PLACES[order.window] < PLACES[wanted] else TooLate
        raise error(
            f"the order does not accept a {kind.replace('_', ' ')} now",
            seen=f"{order.window} window",
            wanted=f"{wanted} window",
        )
    return order
