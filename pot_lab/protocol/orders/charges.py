"""What scoring a model costs its provider (protocol.md, "Seats and scores").

The order's fee pays for the best of the models; whoever has another pays for it from its stake, to the seats that
scored it. So claims that are made to keep others out, or to make work, cost what they take.
"""

from __future__ import annotations

from collections import Counter
from functools import cmp_to_key

from pot_lab.crypto.identity import Address
from pot_lab.protocol.book import Book
from pot_lab.protocol.orders.sealing import agreeing, direction_of, judged_wrong
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ModelId
from pot_lab.protocol.rewards import better
from pot_lab.protocol.state import ClaimState, OrderState

SCORED = "scoring of its model"


def charge_for_scoring(book: Book, order: OrderState) -> None:
    """Take what scoring the models cost that the order's fee does not pay for.

    The best model costs nothing, and the fee pays for the next ones in their rank. Where no score of a model stands
    the treasury gets its price.
    """
    left, by_model = order.order.fee_grains, _seats_by_model(order)
    for claim in _ranked(order)[1:]:
        left -= claim.fee_grains
        if left < 0:
            book.slash(claim.provider, Role.PROVIDER, claim.fee_grains, SCORED, order, to=by_model.get(claim.mid))


def _ranked(order: OrderState) -> list[ClaimState]:
    """The claims, the best first: by score, then in their places; those without a score that stands come last."""
    direction = direction_of(order)

    def compare(one: ClaimState, other: ClaimState) -> int:
        if one.agreed is None or other.agreed is None:
            return (one.agreed is None) - (other.agreed is None)
        return better(other.agreed, one.agreed, direction) - better(one.agreed, other.agreed, direction)

    return sorted(order.revealed(), key=cmp_to_key(compare))


def _seats_by_model(order: OrderState) -> dict[ModelId, Counter[Address]]:
    """For each model, the seats of each validator whose score of it stands."""
    liars, found = {each.validator for each in judged_wrong(order)}, dict[ModelId, Counter[Address]]()
    held = [Counter(seats) for seats in order.seats]
    sets = {claim.mid: claim.seat_set for claim in order.revealed()}
    for each in agreeing(order):
        seats = held[sets[each.mid]][each.validator]
        if seats and each.validator not in liars:
            found.setdefault(each.mid, Counter())[each.validator] = seats
    return found
