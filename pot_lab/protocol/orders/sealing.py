"""What an order's end costs and pays: penalties, stakes that are free again, the winner, and everybody's earnings.

PoT.Finalize of the paper (sections 3.2 and 5.2). It moves money through `Book` alone and opens no window: `windows`
decides when an order ends.
"""

from __future__ import annotations

from collections import Counter

from pot_lab.crypto.identity import Address
from pot_lab.errors import InvariantBroken
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.parameters import BASIS_POINTS, Direction, Role, score_direction
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.rewards import beats_baseline, better, sealed_payouts, void_payouts
from pot_lab.protocol.state import ClaimState, OrderState, ValidationState


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
    """Turn the escrow into the earnings of the winner, of the validators that agreed, and of the aggregators; free all
    stakes that were locked for the order.
    """
    by_stake, others = Counter[Address](), Counter[Address]()
    for validation in own_work(order, agreeing(order)):
        if validation.mid == winner.mid:
            by_stake[validation.validator] += max(validation.stake_grains, 1)
        else:
            others[validation.validator] += 1
        book.account(validation.validator).reputation.agreeing_validations += 1
    book.account(winner.provider).reputation.wins += 1
    order.winner = winner.provider
    order.payouts = sealed_payouts(
        book.state.escrows[order_id], order.parameters, winner.provider, by_stake, others, book.paid_aggregators
    )
    book.pay_out(order_id, order.payouts)
    release_stakes(book, order)


def pay_back(book: Book, order_id: OrderId, order: OrderState, reason: VoidReason) -> None:
    """Turn the escrow, if there is one, into what the refund rule of `reason` gives to each; free all stakes that were
    locked for the order.

    A score that a quorum contradicts, or that may be copied, is not paid for.
    """
    order.void_reason = reason
    opened = [validation for validation in order.validations if validation.score is not None]
    agreed = any(claim.agreed for claim in order.claims.values())
    work = Counter(validation.validator for validation in own_work(order, agreeing(order) if agreed else opened))
    release_stakes(book, order)
    escrow = book.state.escrows.get(order_id)
    if escrow is not None:
        revealers = [claim.provider for claim in order.revealed()]
        order.payouts = void_payouts(escrow, order.parameters, reason, revealers, work)
        book.pay_out(order_id, order.payouts)


def penalise_silence(book: Book, order: OrderState) -> None:
    """Slash validators that were drawn and did not commit, or committed and did not open.

    Nobody pays for a model that no validator committed to: it could not be fetched, or a provider could make all of
    them pay with a dead link.
    """
    committed = {(v.validator, v.mid) for v in order.validations}
    scored = {v.mid for v in order.validations}
    absent = {
        validator
        for claim in order.claims.values()
        if claim.mid in scored
        for validator in claim.assigned
        if (validator, claim.mid) not in committed
    }
    for validator in sorted(absent):
        book.account(validator).reputation.absences += 1
        bonded = book.stake(validator, Role.VALIDATOR).bonded
        book.slash(validator, Role.VALIDATOR, bonded * order.parameters.absence_bp // BASIS_POINTS, "assignment missed")
    for validation in order.validations:
        if validation.score is None:
            book.account(validation.validator).reputation.forfeits += 1
            grains = validation.stake_grains * order.parameters.unopened_bp // BASIS_POINTS
            book.slash(validation.validator, Role.VALIDATOR, grains, "score not opened")


def release_stakes(book: Book, order: OrderState) -> None:
    """Unlock the bonds of the order's claims and the stakes of its validations."""
    for claim in order.claims.values():
        book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
        book.account(claim.provider).reputation.claims += 1
    for validation in order.validations:
        book.unlock(validation.validator, Role.VALIDATOR, validation.stake_grains)


def agreeing(order: OrderState) -> list[ValidationState]:
    """Opened validations that are equal to what a quorum opened for their model."""
    agreed = {claim.mid: (claim.agreed, claim.agreed_root) for claim in order.revealed() if claim.agreed is not None}
    return [v for v in order.validations if v.score is not None and agreed.get(v.mid) == (v.score, v.transcript_root)]


def own_work(order: OrderState, validations: list[ValidationState]) -> list[ValidationState]:
    """These validations without those that equal what was public when they were committed, and so may be copies.

    A late validation that contradicts what was public is a validator's own work.
    """
    public = {(v.mid, v.score, v.transcript_root) for v in order.validations if not v.late}
    return [v for v in validations if not (v.late and (v.mid, v.score, v.transcript_root) in public)]
