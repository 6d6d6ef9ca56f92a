"""What the ledger keeps of an order that ended long ago (the paper's Append-Remove ledger)."""

from __future__ import annotations

from pot_lab.protocol.book import Book
from pot_lab.protocol.order_index import never_funded
from pot_lab.protocol.records import HeldBlob, ModelId, OrderId
from pot_lab.protocol.state import ClaimState, OrderHeader, OrderState


def forget(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Keep only the header of an order that ended long ago (the paper's Append-Remove ledger), and nothing of one that
    never had money. What cannot be forgotten is tried again after the same time. Headers of orders that ended
    without a model end too (`expiry`).
    """
    if not book.attempt("forgetting an order", lambda: _forget(book, order_id, order), order_id):
        order.ended_ms = book.now_ms
        book.touch(order_id, order)


def _forget(book: Book, order_id: OrderId, order: OrderState) -> None:
    del book.state.orders[order_id]
    book.untouch(order_id, order)
    if never_funded(order):
        book.forget_stranger(order.order.client)
        return
    winning, spec = order.claims.get(order.winner), order.order
    book.state.headers[order_id] = OrderHeader(
        client=spec.client,
        title=spec.title,
        spec_hash=spec.spec_hash,
        window=order.window,
        winner=order.winner,
        winner_mid=winning.mid if winning else ModelId(b""),
        score=winning.agreed if winning else None,
        void_reason=order.void_reason,
        epoch=order.epoch,
        ended_ms=order.ended_ms,
        kept_until_s=0 if order.claims else spec.seal_by_s,
        graph=HeldBlob(spec.model.digest, spec.model.size_bytes) if winning else None,
        ciphertext=_ciphertext_of(winning),
        key=winning.sealed.key if winning is not None and winning.sealed is not None else b"",
    )


def _ciphertext_of(claim: ClaimState | None) -> HeldBlob | None:
    if claim is None or claim.sealed is None:
        return None
    return HeldBlob(claim.sealed.ciphertext.digest, claim.sealed.ciphertext.size_bytes)
