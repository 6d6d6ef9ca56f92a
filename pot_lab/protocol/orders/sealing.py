"""What an order's end costs and pays: penalties, stakes, agreeing scores."""

from __future__ import annotations

from pot_lab.protocol.book import Book
from pot_lab.protocol.parameters import BASIS_POINTS, Role
from pot_lab.protocol.state import OrderState, ValidationState


def _penalise_silence(book: Book, order: OrderState) -> None:
    """Validators that were drawn and did not commit, or committed and did not open, pay for it.

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
        book.slash(
            validator,
            Role.VALIDATOR,
            book.stake(validator, Role.VALIDATOR).bonded * order.parameters.absence_bp // BASIS_POINTS,
            "assignment missed",
        )
    for validation in order.validations:
        if validation.score is None:
            book.account(validation.validator).reputation.forfeits += 1
            book.slash(
                validation.validator,
                Role.VALIDATOR,
                validation.stake_grains * order.parameters.unopened_bp // BASIS_POINTS,
                "score not opened",
            )


def _release_stakes(book: Book, order: OrderState) -> None:
    for claim in order.claims.values():
        book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
        book.account(claim.provider).reputation.claims += 1
    for validation in order.validations:
        book.unlock(validation.validator, Role.VALIDATOR, validation.stake_grains)


def _agreeing(order: OrderState) -> list[ValidationState]:
    """Opened validations that say what a quorum said of their model."""
    agreed = {claim.mid: (claim.agreed, claim.agreed_root) for claim in order.revealed() if claim.agreed is not None}
    return [v for v in order.validations if v.score is not None and agreed.get(v.mid) == (v.score, v.transcript_root)]


def _own_work(order: OrderState, validations: list[ValidationState]) -> list[ValidationState]:
    """Without those that say what was public when they were committed. Whoever is late and contradicts it worked."""
    public = {(v.mid, v.score, v.transcript_root) for v in order.validations if not v.late}
    return [v for v in validations if not (v.late and (v.mid, v.score, v.transcript_root) in public)]
