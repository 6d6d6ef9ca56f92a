"""The rules of an order's life: one function for each kind of transaction about orders.

Each `on_…` function checks first, raising the rule that is broken, and only then changes the book, so a refused
transaction changes nothing (protocol.md, "The task cycle"; Equations 1-3). The order of the windows is `cycle.TABLE`'s.
"""

from __future__ import annotations

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.cipher import KEY_BYTES
from pot_lab.crypto.identity import Address
from pot_lab.crypto.merkle import BadTree, sum_root
from pot_lab.crypto.sealed_model import check_key_boxes
from pot_lab.crypto.shamir import Share, combine
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.errors import (
    AlreadyDone,
    BadCommitment,
    BadShare,
    BadWindows,
    NotAllowed,
    NotAssigned,
    OrderExists,
    PoolFull,
    TooEarly,
    TooLate,
    TooManyOrders,
    UnknownClaim,
)
from pot_lab.protocol.orders.accepting import in_window
from pot_lab.protocol.orders.windows import close_if_complete, end_void, start_if_funded
from pot_lab.protocol.parameters import Role, score_is_sum
from pot_lab.protocol.records import (
    HeldBlob,
    claim_commitment,
    key_commitment,
    share_commitment,
    validation_commitment,
)
from pot_lab.protocol.state import ClaimState, OrderState, SealedModelState, Span, ValidationState
from pot_lab.protocol.transactions import (
    Claim,
    CommitScores,
    OpenedScore,
    OpenScores,
    Put,
    ReleaseKey,
    ReleaseShare,
    RevealModel,
    Withdraw,
)

MAX_UNFUNDED_ORDERS = 4_096
"""How many orders without escrow the pool holds, waiting or just ended; they cost their senders nothing."""


def on_put(book: Book, client: Address, body: Put) -> bytes:
    """Put(order) -> OID: take an order into the pool; it starts when its escrow is attested too. Returns the OID."""
    order, parameters = body.order, book.state.parameters
    if order.client != client:
        raise NotAllowed("an order must be put by its own client", seen=client, wanted=order.client)
    order.check(book.network_id, len(book.members), parameters)
    order_id = order.id
    if order_id in book.state.orders or order_id in book.state.headers:
        raise OrderExists("the order is in the ledger already", seen=order_id)
    if book.index.held_by(client) >= parameters.max_live_orders_per_account:
        raise TooManyOrders(
            "the account has too many live orders", wanted=f"at most {parameters.max_live_orders_per_account}"
        )
    slack_ms = parameters.pool_ms + parameters.settling_ms
    wanted_s = -(-(book.now_ms + order.windows.longest_ms + slack_ms) // 1000)
    if order.seal_by_s < wanted_s:
        raise BadWindows(
            "the escrow could be refunded before the order is sealed",
            seen=f"seal by {order.seal_by_s} s",
            wanted=f"at least {wanted_s} s",
        )
    # last, so that a client who pays because of it is not refused for another reason then
    if order_id not in book.state.escrows and book.index.unfunded >= MAX_UNFUNDED_ORDERS:
        raise PoolFull(
            "the pool of orders without escrow is full",
            seen=book.index.unfunded,
            wanted="an order whose escrow is on the chain",
        )
    state = OrderState(
        order=order,
        window=Window.WAITING,
        put_ms=book.now_ms,
        closes_ms=book.now_ms + parameters.pool_ms,
        parameters=parameters,
    )
    state.sealed_to = book.state.changed
    state.timeline.append(Span(Window.WAITING, book.now_ms))
    book.state.orders[order_id] = state
    book.touch(order_id, state)
    book.emit("order_put", order_id, client, title=order.title, reward_grains=order.reward_grains)
    start_if_funded(book, order_id)
    return order_id


def on_withdraw(book: Book, client: Address, body: Withdraw) -> bytes:
    """A client takes its order back before anybody has committed to it."""
    order = book.require_order(body.order_id)
    if order.order.client != client:
        raise NotAllowed("an order can be withdrawn by its own client only")
    if order.window not in (Window.WAITING, Window.COMMIT) or order.claims:
        raise TooLate(
            "an order cannot be withdrawn once a provider has committed to it",
            seen=f"{order.window} window, {len(order.claims)} claims",
        )
    end_void(book, body.order_id, order, VoidReason.WITHDRAWN)
    return b""


def on_claim(book: Book, provider: Address, body: Claim) -> bytes:
    """PoT.Claim, first phase: commit to a model; a later claim replaces the earlier and takes its later place."""
    order = in_window(book, body.order_id, "claim")
    book.require_active(provider, Role.PROVIDER)
    if provider == order.order.client:
        raise NotAllowed("a client may not claim its own order")
    claim, terms, reward = order.claims.get(provider), order.parameters, order.order.reward_grains
    if claim is None:
        if len(order.claims) >= terms.max_claims_per_order:
            raise TooManyOrders(
                "the order has as many claims as it may", wanted=f"at most {terms.max_claims_per_order}"
            )
        fee = terms.scoring_fee_grains(reward, len(order.claims))
        bond = terms.next_bond_grains(reward, order.order.claim_bond_grains, len(order.claims))
        book.require_free(provider, Role.PROVIDER, bond)
        book.lock(provider, Role.PROVIDER, bond)
    else:
        fee, bond = claim.fee_grains, claim.bond_grains
    book.state.claim_places += 1
    order.claims[provider] = ClaimState(
        provider=provider,
        commitment=body.commitment,
        place=book.state.claim_places,
        committed_ms=book.now_ms,
        bond_grains=bond,
        fee_grains=fee,
    )
    book.emit("claim_committed", body.order_id, provider, place=book.state.claim_places, again=claim is not None)
    return b""


def on_reveal_model(book: Book, provider: Address, body: RevealModel) -> bytes:
    """PoT.Claim, second phase: open the commitment after the deadline. The model itself stays sealed."""
    order = in_window(book, body.order_id, "reveal_model")
    claim = order.claims.get(provider)
    if claim is None:
        raise UnknownClaim("the account has no claim on this order")
    if claim.mid:
        raise AlreadyDone("the claim is revealed already")
    body.ciphertext.check()
    check_key_boxes(body.boxes, len(book.state.sets[order.sealed_to]))
    sealed = HeldBlob(body.ciphertext.digest, body.ciphertext.size_bytes)
    opened = claim_commitment(book.network_id, body.order_id, provider, body.mid, sealed, body.boxes.root, body.salt)
    if opened != claim.commitment:
        raise BadCommitment("what was revealed does not open the claim's commitment", wanted=claim.commitment)
    claim.mid, claim.salt, claim.revealed_ms = body.mid, body.salt, book.now_ms
    claim.sealed = SealedModelState(ciphertext=body.ciphertext, boxes=body.boxes)
    book.touch_custody(body.order_id, order)
    book.emit("model_revealed", body.order_id, provider, mid=body.mid)
    close_if_complete(book, body.order_id, order)
    return body.mid


def on_release_share(book: Book, aggregator: Address, body: ReleaseShare) -> bytes:
    """An aggregator publishes its share; n-f shares give the test-data key, which opens the score window."""
    order = in_window(book, body.order_id, "release_share")
    _require_beacon(order)
    # those whom the shares are sealed to, though they may have left since
    holders = [each.address for each in book.state.sets[order.sealed_to]]
    account = book.state.keys.get(aggregator)
    if account is None or account not in holders:
        raise NotAllowed("only an aggregator that holds a share of this order may release it")
    index, needed = holders.index(account), correct(len(holders))
    if index in order.shares:
        raise AlreadyDone("this aggregator has released its share already")
    share, test = body.share, order.order.test
    if len(share.value) != KEY_BYTES:
        raise BadShare("a key share has the wrong length", seen=len(share.value), wanted=KEY_BYTES)
    named = test.share_commitments[index]
    if share.index != index + 1 or share_commitment(order.order.sealing_binding, share) != named:
        raise BadShare(
            "the share is not the one that the order names for this aggregator",
            seen=f"share {share.index}",
            wanted=f"share {index + 1}",
        )
    order.shares[index] = share.value
    book.emit("share_released", body.order_id, aggregator, shares=len(order.shares), needed=needed)
    if len(order.shares) >= needed:
        key = combine([Share(i + 1, value) for i, value in sorted(order.shares.items())[:needed]])
        if key_commitment(order.order.sealing_binding, key) == test.key_commitment:
            order.test_key = key
            close_if_complete(book, body.order_id, order)
        else:  # every share is the client's own, and together they do not open what it promised
            end_void(book, body.order_id, order, VoidReason.NOT_RELEASED)
    return b""


def on_release_key(book: Book, client: Address, body: ReleaseKey) -> bytes:
    """The client releases the test-data key itself, without waiting for the aggregators."""
    order = in_window(book, body.order_id, "release_key")
    _require_beacon(order)
    if order.order.client != client:
        raise NotAllowed("only the order's client may release its whole key")
    if key_commitment(order.order.sealing_binding, body.key) != order.order.test.key_commitment:
        raise BadCommitment(
            "the key does not open the order's commitment to it", wanted=order.order.test.key_commitment
        )
    order.test_key = body.key
    close_if_complete(book, body.order_id, order)
    return b""


def on_commit_scores(book: Book, validator: Address, body: CommitScores) -> bytes:
    """PoT.Validate, first phase: commit to the scores of models that the validator was drawn for."""
    order = in_window(book, body.order_id, "commit_scores")
    mids = [item.mid for item in body.items]
    if len(set(mids)) != len(mids):
        raise AlreadyDone("a model is named twice in one transaction")
    claims = {claim.mid: claim for claim in order.revealed()}
    known = _validations_of(order, validator)
    for mid in mids:
        claim = claims.get(mid)
        if claim is None:
            raise UnknownClaim("no revealed claim of this order has this model", seen=mid)
        if validator not in order.seats_of(claim):
            if any(validator == address for address, _ in order.silent):
                raise NotAssigned("the validator's seats went to others when the score window was extended", seen=mid)
            raise NotAssigned("the validator has no seat that scores this model", seen=mid)
        if mid in known:
            raise AlreadyDone("the validator has committed to a score of this model already", seen=mid)
    for item in body.items:
        order.validations.append(
            ValidationState(validator=validator, mid=item.mid, commitment=item.commitment, committed_ms=book.now_ms)
        )
    book.emit("scores_committed", body.order_id, validator, models=len(mids))
    close_if_complete(book, body.order_id, order)
    return b""


def on_open_scores(book: Book, validator: Address, body: OpenScores) -> bytes:
    """PoT.Validate, second phase: open the committed scores, each with its transcript."""
    order = in_window(book, body.order_id, "open_scores")
    mids = [item.mid for item in body.items]
    if len(set(mids)) != len(mids):
        raise AlreadyDone("a model is named twice in one transaction")
    known = _validations_of(order, validator)
    found: list[ValidationState] = []
    for item in body.items:
        validation = known.get(item.mid)
        if validation is None:
            raise UnknownClaim("the validator has not committed to a score of this model", seen=item.mid)
        if validation.score is not None:
            raise AlreadyDone("the score is open already", seen=item.mid)
        item.transcript.check()
        _check_score(order, item)
        opened = validation_commitment(
            book.network_id,
            body.order_id,
            item.mid,
            validator,
            item.score,
            item.transcript_root,
            item.salt,
        )
        if opened != validation.commitment:
            raise BadCommitment(
                "what was opened is not what the validator committed to", seen=opened, wanted=validation.commitment
            )
        found.append(validation)
    for item, validation in zip(body.items, found, strict=True):
        validation.score, validation.opened_ms = item.score, book.now_ms
        validation.transcript_root, validation.transcript = item.transcript_root, item.transcript
        score = item.score
        book.emit(
            "score_opened",
            body.order_id,
            validator,
            mid=item.mid,
            total=score.total,
            count=score.count,
            valid=score.valid,
        )
    book.touch_custody(body.order_id, order)
    close_if_complete(book, body.order_id, order)
    return b""


def _require_beacon(order: OrderState) -> None:
    """Raise TooEarly in the batch that ended the reveals, whose digest is to be part of the draw's seed."""
    if not order.beacon:
        raise TooEarly("the reveals ended in this batch", wanted="the next batch")


def _check_score(order: OrderState, item: OpenedScore) -> None:
    """Raise BadCommitment unless the score counts the order's examples and the transcript's root binds its total.

    The top node shows the sum of the leaves. That is the total, but for functions whose total is no sum, where the
    leaves alone are bound; of an invalid score it is the number of examples without a result.
    """
    score, examples = item.score, order.order.test.examples
    if score.count != examples:
        raise BadCommitment(
            "a score counts other examples than the order's", seen=score.count, wanted=f"{examples} examples"
        )
    try:
        bound = sum_root(item.top, score.count)
    except BadTree as error:
        raise BadCommitment("the transcript's top node is none of a tree", seen=item.top.total) from error
    if bound != item.transcript_root:
        raise BadCommitment("the transcript's root does not bind its top node", seen=bound, wanted=item.transcript_root)
    spec = order.order.score
    if not score.valid and not 0 < score.total <= score.count:
        raise BadCommitment(
            "an invalid score shows how many examples have no result",
            seen=score.total,
            wanted=f"1 .. {score.count}",
        )
    if (not score.valid or score_is_sum(spec.name, spec.version)) and item.top.total != score.total:
        raise BadCommitment("the transcript does not add up to the score", seen=score.total, wanted=item.top.total)


def _validations_of(order: OrderState, validator: Address) -> dict[bytes, ValidationState]:
    return {v.mid: v for v in order.validations if v.validator == validator}
