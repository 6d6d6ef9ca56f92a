"""What aggregators miss that an order waited for in vain: shares of models' keys, and verdicts (protocol.md, "Sealed
models" and "Disputes").

Who is only slower than others misses nothing: it counts when a window has opened twice, and too few have acted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pot_lab.crypto.identity import Address
from pot_lab.protocol.book import Book
from pot_lab.protocol.orders.accepting import may_judge
from pot_lab.protocol.parameters import BASIS_POINTS, Role
from pot_lab.protocol.state import ClaimState, OrderState

WITHHELD = "share of a model's key not published"


def miss_release(book: Book, order: OrderState, late: Iterable[ClaimState]) -> None:
    """The release window is over for good. Who attested that its box of a model's key opens, and did not publish the
    share, pays to the providers whose models stay closed for it; who gave no verdict on what was open misses it.
    """
    if order.test_key and order.test_right is None:
        _miss_verdict(book, order, order.test_votes)
    closed: dict[Address, set[Address]] = {}
    for claim in late:
        sealed = claim.sealed
        if sealed is None:
            continue
        if sealed.key:
            _miss_verdict(book, order, sealed.votes)
        elif order.test_right:
            places = {each.address: place for place, each in enumerate(book.state.sets[order.sealed_to])}
            for holder in sealed.holders:
                if places[holder] not in sealed.shares:
                    closed.setdefault(holder, set()).add(claim.provider)
    grains = order.order.reward_grains * order.parameters.withheld_bp // BASIS_POINTS
    for holder, providers in sorted(closed.items()):
        _miss(order, holder)
        book.slash(holder, Role.AGGREGATOR, grains, WITHHELD, order, to=dict.fromkeys(sorted(providers - {holder}), 1))


def miss_judging(book: Book, order: OrderState) -> None:
    """The judge window is over for good: who gave no verdict on what is not decided misses it."""
    for dispute in order.disputes:
        if dispute.right is None:
            _miss_verdict(book, order, dispute.votes)


def _miss_verdict(book: Book, order: OrderState, votes: Collection[Address]) -> None:
    for account in book.paid_aggregators:
        if account not in votes and may_judge(order, account):
            _miss(order, account)


def _miss(order: OrderState, account: Address) -> None:
    if account not in order.missed:
        order.missed.append(account)
