"""Whether an order accepts a kind of transaction now, and whose verdicts."""

from __future__ import annotations

from pot_lab.crypto.identity import Address
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


def may_judge(order: OrderState, account: Address) -> bool:
    """Whether an aggregator's account has no part in the order: nobody who votes is paid by the outcome."""
    seats = {seat for each in order.seats for seat in each}
    challengers = {each.challenger for each in order.challenges}
    return account != order.order.client and account not in {*order.claims, *seats, *challengers}
