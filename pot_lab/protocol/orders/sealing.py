"""What an order's end costs and pays: penalties, stakes that are free again, the winner, and everybody's earnings.

PoT.Finalize of the paper (sections 3.2 and 5.2). It moves money through `Book` alone and opens no window: `windows`
decides when an order ends.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from pot_lab.crypto.identity import Address
from pot_lab.errors import InvariantBroken
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.downtime import is_jailed
from pot_lab.protocol.parameters import BASIS_POINTS, Direction, Role, score_direction
from pot_lab.protocol.records import ModelId, OrderId
from pot_lab.protocol.rewards import beats_baseline, better, sealed_payouts, unimproved_payouts, void_payouts
from pot_lab.protocol.selection import ACCOUNTS
from pot_lab.protocol.state import ClaimState, OrderState, Payout, ValidationState


def direction_of(order: OrderState) -> Direction:
    """Which way is better for the order's score function.

    Raises:
        InvariantBroken: the network has no such function; an order that names it is never accepted.
    """
    score = order.order.score
    direction = score_direction(score.name, score.version)
    if direction is None:
        raise InvariantBroken("an order with an unknown score function was accepted", seen=(score.name, score.version))
    return direction


def winning_claim(order: OrderState) -> ClaimState | None:
    """The revealed claim with the best agreed score, if it improves on the baseline; a tie stays with the earlier
    commitment.
    """
    spec, direction = order.order, direction_of(order)
    best: ClaimState | None = None
    for claim in order.revealed():  # in their places
        if claim.agreed is None or not claim.agreed.valid:
            continue
        if best is None or best.agreed is None or better(claim.agreed, best.agreed, direction):
            best = claim
    if best is None or best.agreed is None:
        return None
    improves = beats_baseline(best.agreed, spec.baseline_total, spec.baseline_count, spec.margin_micro, direction)
    return best if improves else None


def pay_winner(book: Book, order_id: OrderId, order: OrderState, winner: ClaimState) -> None:
    """Turn the escrow into the earnings of the winner, of the validators whose scores stand, and of the aggregators;
    free all stakes that were locked for the order.

    A validator is paid by its seats, for all models of its set: one that stands for a part of them is not, and one that
    was judged wrong about any is not.
    """
    stood, others = _stood(order), Counter[Address]()
    for validator, mid in sorted(stood):
        if mid != winner.mid:
            others[validator] += 1
        book.account(validator).reputation.agreeing_validations += 1
    book.account(winner.provider).reputation.wins += 1
    order.winner = winner.provider
    order.payouts = sealed_payouts(
        book.state.escrows[order_id],
        order.parameters,
        winner.provider,
        _standing_seats(order, stood),
        others,
        book.paid_aggregators,
        order.found,
    )
    order.payouts = _without_idle(book, order, order.payouts)
    book.pay_out(order_id, order.payouts)
    release_stakes(book, order)


def pay_back(book: Book, order_id: OrderId, order: OrderState, reason: VoidReason) -> None:
    """Turn the escrow, if there is one, into what the refund rule of `reason` gives to each; free all stakes that were
    locked for the order.

    A score that was judged wrong, or that a quorum contradicts, is not paid for.
    """
    order.void_reason = reason
    liars = {each.validator for each in judged_wrong(order)}
    opened = [each for each in order.validations if each.is_open and each.validator not in liars]
    agreed = any(claim.agreed for claim in order.claims.values())
    work = Counter(each.validator for each in (agreeing(order) if agreed else opened) if each.validator not in liars)
    release_stakes(book, order)
    escrow = book.state.escrows.get(order_id)
    if escrow is not None and reason is VoidReason.NO_IMPROVEMENT:
        seats = _standing_seats(order, _stood(order))
        order.payouts = unimproved_payouts(escrow, order.parameters, seats, work, book.paid_aggregators, order.found)
        order.payouts = _without_idle(book, order, order.payouts)
        book.pay_out(order_id, order.payouts)
    elif escrow is not None:
        revealers = [claim.provider for claim in order.revealed()]
        held = sum(map(len, order.seats))
        order.payouts = void_payouts(
            escrow, order.parameters, reason, revealers, work, order.found, held, order.order.claim_bond_grains
        )
        book.pay_out(order_id, order.payouts)


def _without_idle(book: Book, order: OrderState, payouts: list[Payout]) -> list[Payout]:
    """The payouts; the parts of aggregators for which the order waited in vain, and of those that are jailed, go to the
    treasury, and not to the others: who does its duty shall not gain by it that others cannot.
    """
    idle = [
        each
        for each in payouts
        if each.reason == "aggregator" and (each.account in order.missed or is_jailed(book, each.account))
    ]
    if not idle:
        return payouts
    kept = [each for each in payouts if each not in idle]
    return [*kept, Payout(book.state.parameters.treasury, sum(each.grains for each in idle), "idle aggregators")]


def _stood(order: OrderState) -> set[tuple[Address, ModelId]]:
    """Whose scores of which models stand; not of who was judged wrong about any."""
    liars = {each.validator for each in judged_wrong(order)}
    return {(each.validator, each.mid) for each in agreeing(order) if each.validator not in liars}


def _standing_seats(order: OrderState, stood: set[tuple[Address, ModelId]]) -> Counter[Address]:
    """How many seats each validator has that stands for all models of their sets."""
    by_seats = Counter[Address]()
    for number, seats in enumerate(order.seats):
        agreed = [claim.mid for claim in order.claims.values() if claim.agreed is not None and claim.seat_set == number]
        for validator in seats if agreed else []:
            by_seats[validator] += all((validator, mid) in stood for mid in agreed)
    return by_seats


def committed(order: OrderState) -> defaultdict[ModelId, set[Address]]:
    """Who committed to a score of each model."""
    found: defaultdict[ModelId, set[Address]] = defaultdict(set)
    for validation in order.validations:
        found[validation.mid].add(validation.validator)
    return found


def has_most_seats(order: OrderState, claim: ClaimState, accounts: Collection[Address]) -> bool:
    """Whether these accounts hold more than half of the seats that score the claim's model."""
    seats = order.seats_of(claim)
    return 2 * sum(seat in accounts for seat in seats) > len(seats)


def is_available(order: OrderState, claim: ClaimState, accounts: Collection[Address]) -> bool:
    """Whether so many committed to a score of the model that others could have: `ACCOUNTS`, with most of the seats."""
    return len(accounts) >= ACCOUNTS and has_most_seats(order, claim, accounts)


def penalise_silence(book: Book, order: OrderState) -> None:
    """Slash validators that left a seat silent, or committed and did not open; in all at most what they have locked.

    Nobody pays for a model that is not available, see `is_available`: it could not be fetched, or a provider or client
    could make all others pay with a link that answers nobody, or accomplices only.
    """
    done, cost = committed(order), Counter[Address]()
    available = [claim for claim in order.revealed() if is_available(order, claim, done[claim.mid])]
    held = [(validator, number) for number, seats in enumerate(order.seats) for validator in seats]
    silent = [
        validator
        for validator, number in [*held, *order.silent]
        if any(claim.seat_set == number and validator not in done[claim.mid] for claim in available)
    ]
    for validator in silent:
        cost[validator] += order.parameters.absence_grains(order.order.reward_grains)
    for validator in sorted(cost):
        book.account(validator).reputation.absences += 1
        slash_once(book, order, validator, cost[validator], "seat left silent")
    unopened = {each.validator: each.score is None for each in order.validations if not each.is_open}
    for validator, hidden in sorted(unopened.items()):
        book.account(validator).reputation.forfeits += 1
        grains = order.lock_grains * order.parameters.unopened_bp // BASIS_POINTS
        slash_once(book, order, validator, grains, "score not opened" if hidden else "transcript not in custody")


def slash_once(
    book: Book,
    order: OrderState,
    validator: Address,
    grains: int,
    why: str,
    to: Mapping[Address, int] | None = None,
) -> None:
    """Slash a validator for an order; in all at most what it has locked for it, whatever it did. A part goes to the
    accounts `to`, by weight.
    """
    taken = min(grains, order.lock_grains - order.lost.get(validator, 0))
    if taken > 0:
        order.lost[validator] = order.lost.get(validator, 0) + taken
        book.slash(validator, Role.VALIDATOR, taken, why, order, to, order.parameters.finder_bp)


def release_stakes(book: Book, order: OrderState) -> None:
    """Unlock the bonds of the order's claims and challenges, and the stakes of the validators with seats."""
    for claim in order.claims.values():
        book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
        book.account(claim.provider).reputation.claims += 1
    for challenge in order.challenges:
        book.unlock(challenge.challenger, Role(challenge.role), challenge.bond_grains)
        challenge.bond_grains = 0
    unlock_seats(book, order)


def unlock_seats(book: Book, order: OrderState) -> None:
    """Free the stakes of the validators with seats."""
    for validator in order.locked:
        book.unlock(validator, Role.VALIDATOR, order.lock_grains)
    order.locked = []


def judged_wrong(order: OrderState) -> list[ValidationState]:
    """Opened validations that aggregators judged to be wrong."""
    wrong = {(each.mid, each.score, each.root) for each in order.disputes if each.right is False}
    return [each for each in order.validations if (each.mid, each.score, each.transcript_root) in wrong]


def agreeing(order: OrderState) -> list[ValidationState]:
    """Opened validations that are equal to what a quorum opened for their model."""
    agreed = {claim.mid: (claim.agreed, claim.agreed_root) for claim in order.revealed() if claim.agreed is not None}
    return [v for v in order.validations if v.is_open and agreed.get(v.mid) == (v.score, v.transcript_root)]
