"""What the orders name, blob by blob: derived from the state like `order_index`, and never part of it (section 3.4).

Named are the files of orders with money, of revealed models and of opened scores; nothing that costs its sender nothing
is named. Each stays named until the order has ended, and the winner's model until the order is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from pot_lab.crypto.identity import Address
from pot_lab.crypto.link import Link
from pot_lab.protocol.cycle import TABLE, Phase
from pot_lab.protocol.order_index import never_funded
from pot_lab.protocol.records import HeldBlob, OrderId
from pot_lab.protocol.state import LedgerState, OrderState

CHANGES_KEPT = 4_096
"""How many changes a reader may fall behind before it has to look at everything."""


class NamedBlob(NamedTuple):
    """A blob that an order names: its link, the account that pays for it, and the order."""

    link: Link
    payer: Address
    order_id: OrderId

    @property
    def blob(self) -> HeldBlob:
        """What an attestation calls it."""
        return HeldBlob(self.link.digest, self.link.size_bytes)


def named_blobs(order_id: OrderId, order: OrderState, *, funded: bool) -> Iterator[NamedBlob]:
    """The blobs that an order names now.

    Args:
        funded: whether the chain holds the order's escrow, or did until the order was paid out.
    """
    spec, client = order.order, order.order.client
    if not funded:
        return
    if TABLE[order.window].phase is Phase.ENDED:
        winner = order.claims.get(order.winner)
        if winner is not None and winner.sealed is not None:
            yield NamedBlob(spec.model, client, order_id)
            yield NamedBlob(winner.sealed.ciphertext, winner.provider, order_id)
        return
    for link in spec.files:
        yield NamedBlob(link, client, order_id)
    for claim in order.claims.values():
        if claim.sealed is not None:
            yield NamedBlob(claim.sealed.ciphertext, claim.provider, order_id)
    for validation in order.validations:
        if validation.transcript is not None:
            yield NamedBlob(validation.transcript, validation.validator, order_id)


def is_funded(state: LedgerState, order_id: OrderId, order: OrderState) -> bool:
    """Whether there is, or was, money for the order: only such an order names blobs."""
    return order_id in state.escrows or not never_funded(order)


class CustodyIndex:
    """What the orders name, by blob and by order; derived from the state, and never part of it.

    `version` grows with every change, so that a reader knows whether it has to look again, and `changed_since` at what.
    """

    def __init__(self, state: LedgerState) -> None:
        self._state = state
        self._by_order: dict[OrderId, tuple[NamedBlob, ...]] = {}
        self._orders: dict[HeldBlob, set[OrderId]] = {}
        self.version = 0
        self._changes: deque[OrderId] = deque(maxlen=CHANGES_KEPT)
        for order_id, order in state.orders.items():
            self.touch(order_id, order)

    def touch(self, order_id: OrderId, order: OrderState | None) -> None:
        """Take note of an order whose blobs may have changed, or (None) that is forgotten. What no order names any more
        loses its attestations.
        """
        funded = order is not None and is_funded(self._state, order_id, order)
        now = tuple(named_blobs(order_id, order, funded=funded)) if order is not None else ()
        before = self._by_order.get(order_id, ())
        if now == before:
            return
        self.note(order_id)
        if now:
            self._by_order[order_id] = now
        else:
            self._by_order.pop(order_id, None)
        kept = {each.blob for each in now}
        for blob in kept:
            self._orders.setdefault(blob, set()).add(order_id)
        for blob in {each.blob for each in before} - kept:
            naming = self._orders[blob]
            naming.discard(order_id)
            if not naming:
                del self._orders[blob]
                self._state.custody.pop(blob.key, None)

    def note(self, *order_ids: OrderId) -> None:
        """These orders name other blobs now, or a blob of theirs was attested."""
        self.version += len(order_ids)
        self._changes.extend(order_ids)

    def changed_since(self, version: int) -> Collection[OrderId]:
        """The orders of which anything changed after this version; all, where that is too long ago to be known."""
        count = self.version - version
        if count > len(self._changes):
            return self._by_order.keys()
        return set(islice(reversed(self._changes), count))

    def of_order(self, order_id: OrderId) -> tuple[NamedBlob, ...]:
        """What an order names."""
        return self._by_order.get(order_id, ())

    def orders(self) -> Collection[OrderId]:
        """The orders that name anything."""
        return self._by_order.keys()

    def orders_naming(self, blob: HeldBlob) -> Collection[OrderId]:
        """The orders that name a blob."""
        return self._orders.get(blob, ())

    def all_named(self) -> Iterator[NamedBlob]:
        """Every blob of every order; one that several orders name comes once for each."""
        for blobs in self._by_order.values():
            yield from blobs
