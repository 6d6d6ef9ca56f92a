"""Orders of a settlement whose escrow the chain does not hold: f+1 members deny them, and the rest is settled
(chain.md, "An epoch that the contract refuses").
"""

from __future__ import annotations

from pot_lab.crypto.identity import Address
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import BadEpoch
from pot_lab.protocol.orders import windows
from pot_lab.protocol.state import ForgottenEpoch
from pot_lab.protocol.transactions import DenyEscrow


def on_deny_escrow(book: Book, aggregator: Address, body: DenyEscrow) -> bytes:
    """Count a member's denials; once f+1 members deny an order, the settlement is made anew without it."""
    account = book.state.aggregators[book.require_member(aggregator)].account
    pending = book.state.pending
    waiting = (pending.settlement.epoch, pending.settlement.round) if pending else None
    if pending is None or (body.epoch, body.round) != waiting:
        raise BadEpoch("no such settlement waits", seen=(body.epoch, body.round), wanted=waiting)
    for denied in body.orders:
        if denied.order_id not in pending.order_ids:
            raise BadEpoch("the pending settlement does not name this order", seen=denied.order_id)
    for denied in body.orders:
        voters = pending.denials.setdefault(denied.order_id, [])
        if account not in voters:
            voters.append(account)
    _set_apart(book)
    return b""


def _set_apart(book: Book) -> None:
    """Treat what f+1 members in force deny as an escrow that the chain gave back, and give the settlement up.

    One honest member at least is among them. What the settlement would have paid is kept until its epoch is confirmed:
    the order's client may pay the escrow late, and signatures of the settlement exist.
    """
    state, pending = book.state, book.state.pending
    if pending is None:
        return
    denied = [each for each, voters in pending.denials.items() if book.count_members(voters) > book.faulty]
    if not denied:
        return
    state.forgotten.append(
        ForgottenEpoch(pending=pending, denied={each: list(state.orders[each].payouts) for each in denied})
    )
    state.pending = None
    for order_id in denied:
        windows.refund(book, order_id)
        book.emit("escrow_denied", order_id, epoch=pending.settlement.epoch, round=pending.settlement.round)
