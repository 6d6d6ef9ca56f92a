"""Opening what was sealed, in its order: the test data first, and models only once these are proven (protocol.md,
"Sealed models").

Aggregators attest their boxes of revealed models, publish their shares of the models' keys, and say whether what was
opened is what was promised; f+1 equal verdicts decide.
"""

from __future__ import annotations

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.identity import Address
from pot_lab.crypto.sealed_model import is_promised_share, model_binding, model_key
from pot_lab.crypto.shamir import BadShares, Share
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.errors import AlreadyDone, BadShare, NotAllowed, TooEarly, UnknownDispute
from pot_lab.protocol.orders.accepting import in_window, may_judge
from pot_lab.protocol.orders.windows import close_if_complete, end_void, forfeit
from pot_lab.protocol.records import OrderId, opening_name
from pot_lab.protocol.state import ClaimState, OrderState
from pot_lab.protocol.transactions import AttestBoxes, ReleaseModelShares, Verdict

WRONG_MODEL = "model not as promised"


def on_attest_boxes(book: Book, aggregator: Address, body: AttestBoxes) -> bytes:
    """A holder's boxes of these models hold the shares that are promised. Boxes of claims that are not revealed (any
    more) are left out.
    """
    order = in_window(book, body.order_id, "attest_boxes")
    account, _ = _holder(book, order, aggregator)
    claims = {item.provider: order.claims[item.provider] for item in body.items if item.provider in order.claims}
    fresh = [each.sealed for each in claims.values() if each.sealed is not None and account not in each.sealed.holders]
    if not fresh:
        raise AlreadyDone("no revealed model waits for this aggregator's attestation of its box")
    for sealed in fresh:
        sealed.holders.append(account)
    book.emit("boxes_attested", body.order_id, aggregator, models=len(fresh))
    close_if_complete(book, body.order_id, order)
    return b""


def on_release_model_shares(book: Book, aggregator: Address, body: ReleaseModelShares) -> bytes:
    """A holder publishes its shares of models' keys; n-f shares of one give its key. What is dropped or open already is
    left out.
    """
    order = in_window(book, body.order_id, "release_model_shares")
    _, place = _holder(book, order, aggregator)
    if not models_may_open(order):
        raise TooEarly("the test data are not proven yet, and no model is opened before", wanted="f+1 equal verdicts")
    fresh: dict[Address, tuple[ClaimState, bytes]] = {}
    for provider, share in ((item.provider, item.share) for item in body.items):
        claim = order.claims.get(provider)
        if claim is None or claim.sealed is None or claim.sealed.boxes is None or place in claim.sealed.shares:
            continue
        binding = model_binding(book.network_id, body.order_id, provider, claim.sealed.ciphertext.digest)
        commitment = claim.sealed.boxes.boxes[place].commitment
        if not 0 < share.index < 256 or not is_promised_share(share, commitment, binding=binding, place=place):
            raise BadShare(
                "the share is not the one that the claim names for this aggregator",
                seen=f"share {share.index}",
                wanted=f"share {place + 1}",
            )
        fresh[provider] = claim, share.value
    if not fresh:
        raise AlreadyDone("no model waits for this aggregator's share of its key")
    for claim, value in fresh.values():
        _add_share(book, body.order_id, order, claim, place, value)
    book.emit("model_shares_released", body.order_id, aggregator, models=len(fresh))
    close_if_complete(book, body.order_id, order)
    return b""


def models_may_open(order: OrderState) -> bool:
    """Whether the client has kept its part: before that nobody sees a model."""
    return order.test_right is True


def on_opening_verdict(book: Book, account: Address, order: OrderState, body: Verdict) -> bytes:
    """An aggregator says whether the opened test data, or an opened model, are what was promised."""
    if not may_judge(order, account):
        raise NotAllowed("an aggregator may not judge an order where it is client, claimant, validator or challenger")
    claim, votes = _question(book, body.order_id, order, body.dispute)
    if account in votes:
        raise AlreadyDone("this aggregator has given its verdict already")
    votes[account] = body.right
    if book.count_members(each for each, right in votes.items() if right is body.right) <= book.faulty:
        return b""
    mid = claim.mid if claim is not None else b""
    book.emit(
        "opening_judged", body.order_id, claim.provider if claim else order.order.client, mid=mid, right=body.right
    )
    if claim is None:
        order.test_right = body.right
        if not body.right:  # no model was opened for it
            end_void(book, body.order_id, order, VoidReason.INVALID_TEST_DATA)
            return b""
    elif claim.sealed is not None:
        claim.sealed.right = body.right
        if not body.right:
            forfeit(book, body.order_id, order, claim, WRONG_MODEL)
    close_if_complete(book, body.order_id, order)
    return b""


def _question(
    book: Book, order_id: OrderId, order: OrderState, name: bytes
) -> tuple[ClaimState | None, dict[Address, bool]]:
    """The claim (None: the test data) and the verdicts so far of a question that is open."""
    if order.test_key and order.test_right is None and name == opening_name(book.network_id, order_id):
        return None, order.test_votes
    for claim in order.claims.values():
        sealed = claim.sealed
        waits = sealed is not None and sealed.key and sealed.right is None
        if sealed is not None and waits and name == opening_name(book.network_id, order_id, claim.mid):
            return claim, sealed.votes
    raise UnknownDispute("nothing of this name was opened and waits for verdicts", seen=name)


def _holder(book: Book, order: OrderState, aggregator: Address) -> tuple[Address, int]:
    """Account and place of one that holds shares of the order's keys, though it may have left since."""
    holders = [each.address for each in book.state.sets[order.sealed_to]]
    account = book.state.keys.get(aggregator)
    if account is None or account not in holders:
        raise NotAllowed("only an aggregator that holds shares of this order's keys may submit this")
    return account, holders.index(account)


def _add_share(book: Book, order_id: OrderId, order: OrderState, claim: ClaimState, place: int, value: bytes) -> None:
    sealed = claim.sealed
    if sealed is None or sealed.boxes is None:
        return
    sealed.shares[place] = value
    needed = correct(len(sealed.boxes.boxes))
    if len(sealed.shares) < needed:
        return
    binding = model_binding(book.network_id, order_id, claim.provider, sealed.ciphertext.digest)
    shares = [Share(at + 1, each) for at, each in sorted(sealed.shares.items())]
    try:
        sealed.key = model_key(shares, threshold=needed, binding=binding, commitment=sealed.boxes.key_commitment)
    except BadShares:  # every share is the provider's own, and together they do not open what it promised
        forfeit(book, order_id, order, claim, WRONG_MODEL)
        return
    sealed.boxes, sealed.shares = None, {}
    book.emit("model_opened", order_id, claim.provider, mid=claim.mid)
