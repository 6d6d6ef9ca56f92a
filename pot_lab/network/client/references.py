"""What the ledger's orders name: whoever keeps a store must not remove it.

Named are the files of every order that has started and that the ledger has not forgotten, of its revealed models and
of its opened scores. An order that waits for its money or for validators names nothing yet: it may cost nothing, and
its files are young.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pot_lab.crypto.link import Link
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.views import OrderSummary, OrderView

STARTED = tuple(each for each in Window if each is not Window.WAITING)


class ReadsOrders(Protocol):
    """What is asked of a client (`LedgerClient`)."""

    def orders_in(self, windows: tuple[Window, ...]) -> list[OrderSummary]:
        """All orders in these windows."""
        ...

    def order(self, order_id: OrderId) -> OrderView:
        """One order; raises UnknownOrder."""
        ...


def named_digests(client: ReadsOrders) -> set[bytes]:
    """SHA-256 of every blob that an order names, 32 bytes each.

    Raises:
        Unreachable: f+1 aggregators did not say the same in time; then nothing is known.
    """
    found: set[bytes] = set()
    for summary in client.orders_in(STARTED):
        try:
            found.update(link.digest for link in _links(client.order(summary.id)))
        except UnknownOrder:  # forgotten since the list
            continue
    return found


def _links(view: OrderView) -> Iterable[Link]:
    yield from view.order.files
    for claim in view.claims:
        if claim.ciphertext is not None:
            yield claim.ciphertext
    for validation in view.validations:
        if validation.transcript is not None:
            yield validation.transcript
