"""Which opened score of a model stands, and what a wrong one costs (sections 2.4, 2.5 and 3.3.3).

Equal scores stand by a quorum of seats. Where opened scores of a model differ, each is disputed without anybody's
doing; verdicts drop what is wrong, and what was judged right stands by itself, with a single honest seat (protocol.md,
"Disputes"). Nothing here opens a window.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from pot_lab.crypto.canonical import encode, tagged_hash
from pot_lab.crypto.identity import Address
from pot_lab.protocol.book import Book
from pot_lab.protocol.custody import in_custody
from pot_lab.protocol.orders.sealing import committed, has_most_seats, is_available, slash_once
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import NOBODY, ClaimScore, ModelId, OrderId
from pot_lab.protocol.selection import ACCOUNTS, score_quorum
from pot_lab.protocol.state import ClaimState, Dispute, OrderState, ShownLeaf, ValidationState


class OpenedScores(NamedTuple):
    """What one or more validators opened for a model: the same score of the same transcript."""

    mid: ModelId
    score: ClaimScore
    root: bytes


def opened_as(validation: ValidationState) -> OpenedScores | None:
    """What a validation was opened as; None while it is hidden, and where its transcript is."""
    return (
        OpenedScores(validation.mid, validation.score, validation.transcript_root)
        if validation.score is not None and validation.transcript is not None
        else None
    )


def groups_of(order: OrderState, claim: ClaimState) -> dict[OpenedScores, set[Address]]:
    """The different scores that accounts with seats opened for the claim's model, and who opened each."""
    held, groups = set(order.seats_of(claim)), defaultdict[OpenedScores, set[Address]](set)
    for validation in order.validations:
        opened = opened_as(validation)
        if opened is not None and opened.mid == claim.mid and validation.validator in held:
            groups[opened].add(validation.validator)
    return dict(groups)


def dispute_name(
    network_id: bytes,
    order_id: OrderId,
    opened: OpenedScores,
    challenger: Address = NOBODY,
    shown: ShownLeaf | None = None,
) -> bytes:
    """What verdicts call a dispute: 32 bytes, which mean one question for ever."""
    return tagged_hash(
        "pot-lab/dispute/1",
        network_id,
        order_id,
        opened.mid,
        encode(opened.score),
        opened.root,
        challenger,
        encode(shown),
    )


def is_shown(book: Book, validation: ValidationState) -> bool:
    """Whether a score is opened, and others can get its transcript."""
    return validation.transcript is not None and in_custody(book, validation.transcript)


def hide_unshown(book: Book, order: OrderState) -> None:
    """Take scores whose transcripts are not in custody as not opened: nobody could challenge them.

    Equal scores have one transcript, so it is enough that one of those who opened them shows it.
    """
    for validation in order.validations:
        if validation.is_open and not is_shown(book, validation):
            validation.transcript, validation.transcript_root = None, b""


def open_disputes(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Dispute each of the scores that differ for one model."""
    for claim in order.revealed():
        groups = groups_of(order, claim)
        if len(groups) < 2:
            continue
        for opened in sorted(groups, key=lambda each: (each.root, encode(each.score))):
            name = dispute_name(book.network_id, order_id, opened)
            order.disputes.append(Dispute(name=name, mid=opened.mid, score=opened.score, root=opened.root))
            book.emit("dispute_opened", order_id, mid=opened.mid, dispute=name)


def agree(order: OrderState) -> None:
    """Name for each model the opened score that stands, if one does."""
    wrong = judged(order, right=False)
    for claim in order.revealed():
        claim.agreed, claim.agreed_root = None, b""
        groups = groups_of(order, claim)
        left = {opened: accounts for opened, accounts in groups.items() if opened not in wrong}
        hides = any(each.mid == claim.mid and each.score is not None and not each.is_open for each in order.validations)
        stands = _standing(order, claim, left, survived=hides or len(left) < len(groups))
        if stands is not None:
            claim.agreed, claim.agreed_root = stands.score, stands.root


def judged(order: OrderState, *, right: bool) -> set[OpenedScores]:
    """The opened scores that were judged wrong, or, whole, right: a challenged leaf that is right proves no score."""
    return {
        OpenedScores(dispute.mid, dispute.score, dispute.root)
        for dispute in order.disputes
        if dispute.right is right and not (right and dispute.challenger)
    }


def resolve(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Apply the verdicts: what liars and lost challenges cost, who found lies, which scores stand."""
    wrong, liars = judged(order, right=False), set[Address]()
    for validation in order.validations:
        if opened_as(validation) in wrong:
            book.account(validation.validator).reputation.wrong_validations += 1
            liars.add(validation.validator)
    agree(order)
    found_by = _found_by(order, wrong)
    for validator in sorted(liars):
        slash_once(book, order, validator, order.lock_grains, "wrong score", to=found_by[validator])
    _end_challenges(book, order)
    for dispute in order.disputes:
        verdict = "not judged" if dispute.right is None else "right" if dispute.right else "wrong"
        book.emit("dispute_ended", order_id, dispute.challenger, dispute=dispute.name, verdict=verdict)


def _found_by(order: OrderState, wrong: set[OpenedScores]) -> dict[Address, Counter[Address]]:
    """Who gets a part of each liar's lock: those whose challenges proved one of its scores wrong; else, where scores
    differed, the seats whose score of the model stands.
    """
    challengers, survivors = defaultdict[OpenedScores, Counter[Address]](Counter), dict[ModelId, Counter[Address]]()
    for dispute in order.disputes:
        if dispute.right is False and dispute.challenger:
            challengers[OpenedScores(dispute.mid, dispute.score, dispute.root)][dispute.challenger] = 1
    for claim in order.revealed():
        if claim.agreed is not None:
            stands = OpenedScores(claim.mid, claim.agreed, claim.agreed_root)
            held = Counter(order.seats_of(claim))
            survivors[claim.mid] = Counter({each: held[each] for each in _seated(order, claim, stands)})
    found = defaultdict[Address, Counter[Address]](Counter)
    for validation in order.validations:
        opened = opened_as(validation)
        if opened is not None and opened in wrong:
            found[validation.validator] += challengers.get(opened) or survivors.get(opened.mid, Counter())
    return {liar: Counter({each: by[each] for each in by if each not in found}) for liar, by in found.items()}


def _standing(
    order: OrderState, claim: ClaimState, groups: dict[OpenedScores, set[Address]], *, survived: bool
) -> OpenedScores | None:
    right = [opened for opened in groups if opened in judged(order, right=True)]
    if right or (survived and len(groups) == 1):
        # Only of a model that most seats could score: where nobody else has the files two accomplices could differ on
        # purpose, and the one whose lie is at another example would be the survivor.
        available = is_available(order, claim, committed(order)[claim.mid])
        return None if not available else right[0] if right else next(iter(groups))
    if sum(map(len, groups.values())) < ACCOUNTS:
        return None
    held = Counter(order.seats_of(claim))
    seats = {opened: sum(held[account] for account in accounts) for opened, accounts in groups.items()}
    best = max(seats, key=seats.__getitem__)
    enough = seats[best] >= score_quorum(sum(seats.values())) and has_most_seats(order, claim, groups[best])
    return best if enough else None


def _end_challenges(book: Book, order: OrderState) -> None:
    """Free or take the bonds, and note for each challenger how many seats' lies it proved that nobody had proved."""
    disputes = {dispute.name: dispute for dispute in order.disputes}
    known = {
        OpenedScores(dispute.mid, dispute.score, dispute.root)
        for dispute in order.disputes
        if dispute.right is False and not dispute.challenger
    }
    proved: set[tuple[int, Address]] = set()
    for challenge in order.challenges:
        dispute, role = disputes.get(challenge.dispute), Role(challenge.role)
        book.unlock(challenge.challenger, role, challenge.bond_grains)
        if dispute is None or dispute.right is True:
            why = "challenge not opened" if dispute is None else "challenge lost"
            to = _accused(order, dispute) if dispute is not None else None
            book.slash(challenge.challenger, role, challenge.bond_grains, why, order, to, order.parameters.finder_bp)
        elif dispute.right is False and (opened := OpenedScores(dispute.mid, dispute.score, dispute.root)) not in known:
            claim = order.claim_of(dispute.mid)
            if claim is not None:
                liars = {each for each in _seated(order, claim, opened) if (claim.seat_set, each) not in proved}
                proved |= {(claim.seat_set, each) for each in liars}
                seats = sum(seat in liars for seat in order.seats_of(claim))
                order.found[challenge.challenger] = order.found.get(challenge.challenger, 0) + seats
        challenge.bond_grains = 0


def _accused(order: OrderState, dispute: Dispute) -> dict[Address, int]:
    """The seats of those whose score a challenge called wrong."""
    claim, opened = order.claim_of(dispute.mid), OpenedScores(dispute.mid, dispute.score, dispute.root)
    if claim is None:
        return {}
    held = Counter(order.seats_of(claim))
    return {each: held[each] for each in _seated(order, claim, opened) if each != dispute.challenger}


def _seated(order: OrderState, claim: ClaimState, opened: OpenedScores) -> set[Address]:
    """Who opened this score and holds a seat of the model; nobody, where the seat of the only one went to others."""
    return groups_of(order, claim).get(opened, set())
