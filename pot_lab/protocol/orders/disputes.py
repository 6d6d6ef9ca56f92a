"""Challenges and verdicts: one function for each kind of transaction about wrong scores (sections 2.5 and 3.3.3).

A score is exact, so who is right is computed, never voted on by interest: each aggregator runs the disputed example
again and says what it found; f+1 equal verdicts decide (protocol.md, "Disputes"). Anybody with the bond may challenge,
claimants and the client too: rivals hold most of the reward as a reason to look.
"""

from __future__ import annotations

from pot_lab.crypto.identity import Address
from pot_lab.errors import Malformed
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import (
    AlreadyDone,
    BadCommitment,
    NotAllowed,
    TooManyChallenges,
    UnknownClaim,
    UnknownDispute,
)
from pot_lab.protocol.orders.accepting import in_window, may_judge
from pot_lab.protocol.orders.opening import on_opening_verdict
from pot_lab.protocol.orders.scores import dispute_name, opened_as
from pot_lab.protocol.orders.windows import close_if_complete
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderId, challenge_commitment, validation_id
from pot_lab.protocol.state import ChallengeState, Dispute, OrderState, ShownLeaf
from pot_lab.protocol.transactions import Challenge, OpenChallenge, Verdict

CHALLENGES_PER_ACCOUNT = 8
"""On one order; one example is enough to drop a wrong score."""
_BONDED = (Role.PROVIDER, Role.VALIDATOR, Role.VERIFIER)


def on_challenge(book: Book, challenger: Address, body: Challenge) -> bytes:
    """Challenge, first phase: commit to a wrong example of a score, with a bond from free stake of any role but an
    aggregator's.
    """
    order = in_window(book, body.order_id, "challenge")
    if body.role not in _BONDED:
        wanted = ", ".join(f"{int(role)} ({role.name.lower()})" for role in _BONDED)
        raise Malformed("a challenge's bond cannot be taken from this role's stake", seen=body.role, wanted=wanted)
    own = [each for each in order.challenges if each.challenger == challenger]
    if len(own) >= CHALLENGES_PER_ACCOUNT:
        raise TooManyChallenges(
            "the account has too many challenges on this order", wanted=f"at most {CHALLENGES_PER_ACCOUNT}"
        )
    if any(each.commitment == body.commitment for each in own):
        raise AlreadyDone("the account has committed to this challenge already")
    bond_grains = order.parameters.challenge_bond_grains(order.order.reward_grains)
    book.require_free(challenger, Role(body.role), bond_grains)
    book.lock(challenger, Role(body.role), bond_grains)
    order.challenges.append(
        ChallengeState(challenger=challenger, role=body.role, bond_grains=bond_grains, commitment=body.commitment)
    )
    book.emit("challenge_committed", body.order_id, challenger, challenges=len(order.challenges))
    return b""


def on_open_challenge(book: Book, challenger: Address, body: OpenChallenge) -> bytes:
    """Challenge, second phase: show the wrong leaf of the validator's transcript. Returns the dispute's name.

    An account that shows one leaf of one score twice, with another salt or of another validator that opened the same,
    asks one question: its challenges share the verdict.
    """
    order = in_window(book, body.order_id, "open_challenge")
    if not 0 <= body.proof.index < order.order.test.examples or body.proof.count != order.order.test.examples:
        raise BadCommitment(
            "the challenged example is none of the order's",
            seen=f"example {body.proof.index} of {body.proof.count}",
            wanted=f"below {order.order.test.examples}",
        )
    vid = validation_id(book.network_id, body.order_id, body.mid, body.validator)
    commitment = challenge_commitment(book.network_id, body.order_id, challenger, vid, body.proof.index, body.salt)
    challenge = next(
        (each for each in order.challenges if (each.challenger, each.commitment) == (challenger, commitment)), None
    )
    if challenge is None:
        raise BadCommitment("the account has not committed to this challenge", seen=commitment)
    if challenge.dispute:
        raise AlreadyDone("the challenge is open already")
    validation = next(
        (each for each in order.validations if (each.mid, each.validator) == (body.mid, body.validator)), None
    )
    opened = opened_as(validation) if validation is not None else None
    if opened is None:
        raise UnknownClaim("the validator has opened no score of this model", seen=body.mid)
    if not body.proof.verify(opened.root, body.leaves_total, body.leaf):
        raise BadCommitment("the leaf is not under the root that the validator opened", wanted=opened.root)
    shown = ShownLeaf(body.leaf, body.leaves_total, body.proof)
    challenge.dispute = dispute_name(book.network_id, body.order_id, opened, challenger, shown)
    if not _is_disputed(order, challenge.dispute):
        order.disputes.append(
            Dispute(
                name=challenge.dispute,
                mid=opened.mid,
                score=opened.score,
                root=opened.root,
                challenger=challenger,
                shown=shown,
            )
        )
        book.emit("dispute_opened", body.order_id, challenger, mid=opened.mid, dispute=challenge.dispute)
    close_if_complete(book, body.order_id, order)
    return challenge.dispute


def on_verdict(book: Book, aggregator: Address, body: Verdict) -> bytes:
    """An aggregator says whether a disputed score is right, or (in the release window) an opened file; f+1 equal
    verdicts decide.
    """
    order = in_window(book, body.order_id, "verdict")
    account = book.state.aggregators[book.require_member(aggregator)].account
    if order.window is Window.RELEASE:
        return on_opening_verdict(book, account, order, body)
    dispute = next((each for each in order.disputes if each.name == body.dispute), None)
    if dispute is None or dispute.right is not None:
        raise UnknownDispute("no such dispute waits for verdicts", seen=body.dispute)
    if account in dispute.votes:
        raise AlreadyDone("this aggregator has given its verdict already")
    if not may_judge(order, account):
        raise NotAllowed("an aggregator may not judge an order where it is client, claimant, validator or challenger")
    dispute.votes[account] = body.right
    if book.count_members(each for each, right in dispute.votes.items() if right is body.right) > book.faulty:
        _decide(book, body.order_id, order, dispute, right=body.right)
    return b""


def _is_disputed(order: OrderState, name: bytes) -> bool:
    """Whether the question has been asked. Verdicts name it, so a second one of that name would never get any, and its
    challenger would lose no bond.
    """
    return any(each.name == name for each in order.disputes)


def _decide(book: Book, order_id: OrderId, order: OrderState, dispute: Dispute, *, right: bool) -> None:
    dispute.right = right
    book.emit("dispute_decided", order_id, dispute.challenger, dispute=dispute.name, right=right)
    close_if_complete(book, order_id, order)
