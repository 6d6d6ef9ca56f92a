"""The rules of an order's life: one function for each kind of transaction, and one for each window's end.

Each `on_…` function checks first, raising the rule that is broken, and only then changes the book, so a refused
transaction changes nothing (protocol.md, "Task cycle"; Equations 1-3). The order of the windows is `cycle.TABLE`'s.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from pot_lab.crypto.cipher import KEY_BYTES
from pot_lab.crypto.shamir import Share, combine
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import PLACES, TABLE, Phase, VoidReason, Window, window_accepting
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
from pot_lab.protocol.order_index import never_funded
from pot_lab.protocol.parameters import BASIS_POINTS, Role, score_direction
from pot_lab.protocol.records import (
    Score,
    claim_commitment,
    key_commitment,
    model_id,
    share_commitment,
    validation_commitment,
)
from pot_lab.protocol.rewards import beats_baseline, better, sealed_payouts, void_payouts
from pot_lab.protocol.selection import draw_seed, draw_validators, score_quorum
from pot_lab.protocol.state import ClaimState, Header, OrderState, Span, ValidationState
from pot_lab.protocol.transactions import (
    Claim,
    CommitScores,
    OpenScores,
    Put,
    ReleaseKey,
    ReleaseShare,
    RevealModel,
    Withdraw,
)

MAX_UNFUNDED_ORDERS = 4_096
"""How many orders without escrow the pool holds, waiting or just ended; they cost their senders nothing."""


# --- transactions ------------------------------------------------------------------------------------------------
def on_put(book: Book, client: bytes, body: Put) -> bytes:
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
    slack_ms = parameters.pool_ms + parameters.update_ms + parameters.settlement_timeout_ms + parameters.seal_margin_ms
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
    state = OrderState(order, Window.WAITING, book.now_ms, book.now_ms + parameters.pool_ms, parameters)
    state.sealed_to = book.state.changed
    state.timeline.append(Span(Window.WAITING, book.now_ms))
    book.state.orders[order_id] = state
    book.index.touch(order_id, state)
    book.emit("order_put", order_id, client, title=order.title, reward_grains=order.reward_grains)
    start_if_funded(book, order_id)
    return order_id


def on_withdraw(book: Book, client: bytes, body: Withdraw) -> bytes:
    """A client takes its order back before anybody has committed to it."""
    order = book.require_order(body.order_id)
    if order.order.client != client:
        raise NotAllowed("an order can be withdrawn by its own client only")
    if order.window not in (Window.WAITING, Window.COMMIT) or order.claims:
        raise TooLate(
            "an order cannot be withdrawn once a provider has committed to it",
            seen=f"{order.window} window, {len(order.claims)} claims",
        )
    _end_void(book, body.order_id, order, VoidReason.WITHDRAWN)
    return b""


def on_claim(book: Book, provider: bytes, body: Claim) -> bytes:
    """PoT.Claim, first phase: commit to a model; a later claim replaces the earlier and takes its later place."""
    order = _in_window(book, body.order_id, "claim")
    book.require_active(provider, Role.PROVIDER)
    if provider == order.order.client:
        raise NotAllowed("a client may not claim its own order")
    claim = order.claims.get(provider)
    if claim is None:
        if len(order.claims) >= order.parameters.max_claims_per_order:
            raise TooManyOrders(
                "the order has as many claims as it may", wanted=f"at most {order.parameters.max_claims_per_order}"
            )
        book.require_free(provider, Role.PROVIDER, order.order.claim_bond_grains)
        book.lock(provider, Role.PROVIDER, order.order.claim_bond_grains)
    book.state.claim_places += 1
    order.claims[provider] = ClaimState(
        provider, body.commitment, book.state.claim_places, book.now_ms, order.order.claim_bond_grains
    )
    book.emit("claim_committed", body.order_id, provider, place=book.state.claim_places, again=claim is not None)
    return b""


def on_reveal_model(book: Book, provider: bytes, body: RevealModel) -> bytes:
    """PoT.Claim, second phase: open the commitment after the deadline."""
    order = _in_window(book, body.order_id, "reveal_model")
    claim = order.claims.get(provider)
    if claim is None:
        raise UnknownClaim("the account has no claim on this order")
    if claim.mid:
        raise AlreadyDone("the claim is revealed already")
    body.weights.check()
    if claim_commitment(book.network_id, body.order_id, provider, body.mid, body.salt) != claim.commitment:
        raise BadCommitment("what was revealed does not open the claim's commitment", wanted=claim.commitment)
    wanted = model_id(order.order.model.digest, body.weights.digest)
    if body.mid != wanted:
        raise BadCommitment("the revealed weights are not the model that was named", seen=body.mid, wanted=wanted)
    claim.mid, claim.weights, claim.salt, claim.revealed_ms = body.mid, body.weights, body.salt, book.now_ms
    book.emit("model_revealed", body.order_id, provider, mid=body.mid)
    close_if_complete(book, body.order_id, order)
    return body.mid


def on_release_share(book: Book, aggregator: bytes, body: ReleaseShare) -> bytes:
    """An aggregator publishes its share; f+1 shares give the test-data key, which opens the score window."""
    order = _in_window(book, body.order_id, "release_share")
    holders = book.state.sets[order.sealed_to]  # those whom the shares are sealed to, though they may have left since
    account = book.state.keys.get(aggregator, b"")
    if account not in holders:
        raise NotAllowed("only an aggregator that holds a share of this order may release it")
    index, faulty = holders.index(account), (len(holders) - 1) // 3
    if index in order.shares:
        raise AlreadyDone("this aggregator has released its share already")
    share, test = body.share, order.order.test
    if len(share.value) != KEY_BYTES:
        raise BadShare("a key share has the wrong length", seen=len(share.value), wanted=KEY_BYTES)
    if share.index != index + 1 or share_commitment(book.network_id, test.root, share) != test.share_commitments[index]:
        raise BadShare(
            "the share is not the one that the order names for this aggregator",
            seen=f"share {share.index}",
            wanted=f"share {index + 1}",
        )
    order.shares[index] = share.value
    book.emit("share_released", body.order_id, aggregator, shares=len(order.shares), needed=faulty + 1)
    if len(order.shares) > faulty:
        key = combine([Share(i + 1, value) for i, value in sorted(order.shares.items())[: faulty + 1]])
        if key_commitment(book.network_id, test.root, key) == test.key_commitment:
            order.test_key = key
            close_if_complete(book, body.order_id, order)
        else:  # every share is the client's own, and together they do not open what it promised
            _end_void(book, body.order_id, order, VoidReason.NOT_RELEASED)
    return b""


def on_release_key(book: Book, client: bytes, body: ReleaseKey) -> bytes:
    """The client releases the test-data key itself, without waiting for the aggregators."""
    order = _in_window(book, body.order_id, "release_key")
    if order.order.client != client:
        raise NotAllowed("only the order's client may release its whole key")
    if key_commitment(book.network_id, order.order.test.root, body.key) != order.order.test.key_commitment:
        raise BadCommitment(
            "the key does not open the order's commitment to it", wanted=order.order.test.key_commitment
        )
    order.test_key = body.key
    close_if_complete(book, body.order_id, order)
    return b""


def on_commit_scores(book: Book, validator: bytes, body: CommitScores) -> bytes:
    """PoT.Validate, first phase: commit to the scores of models that the validator was drawn for."""
    order = _in_window(book, body.order_id, "commit_scores")
    mids = [item.mid for item in body.items]
    if len(set(mids)) != len(mids):
        raise AlreadyDone("a model is named twice in one transaction")
    claims = {claim.mid: claim for claim in order.revealed()}
    known = _validations_of(order, validator)
    for mid in mids:
        claim = claims.get(mid)
        if claim is None:
            raise UnknownClaim("no revealed claim of this order has this model", seen=mid)
        if validator not in claim.assigned:
            raise NotAssigned("the validator was not drawn for this model", seen=mid)
        if mid in known:
            raise AlreadyDone("the validator has committed to a score of this model already", seen=mid)
    stake = order.parameters.min_validation_stake_grains
    book.require_free(validator, Role.VALIDATOR, stake * len(mids))
    public = {v.mid for v in order.validations if v.score is not None}
    for item in body.items:
        book.lock(validator, Role.VALIDATOR, stake)
        late = item.mid in public
        order.validations.append(ValidationState(validator, item.mid, item.commitment, book.now_ms, stake, late=late))
    book.emit("scores_committed", body.order_id, validator, models=len(mids))
    close_if_complete(book, body.order_id, order)
    return b""


def on_open_scores(book: Book, validator: bytes, body: OpenScores) -> bytes:
    """PoT.Validate, second phase: open the committed scores, each with its transcript."""
    order = _in_window(book, body.order_id, "open_scores")
    mids = [item.mid for item in body.items]
    if len(set(mids)) != len(mids):
        raise AlreadyDone("a model is named twice in one transaction")
    known = _validations_of(order, validator)
    found: list[ValidationState] = []
    extra = 0
    for item in body.items:
        validation = known.get(item.mid)
        if validation is None:
            raise UnknownClaim("the validator has not committed to a score of this model", seen=item.mid)
        if validation.score is not None:
            raise AlreadyDone("the score is open already", seen=item.mid)
        item.transcript.check()
        if item.stake_grains < validation.stake_grains:
            raise BadCommitment(
                "the stake on a validation is too small",
                seen=f"{item.stake_grains} grains",
                wanted=f"at least {validation.stake_grains} grains",
            )
        if item.score.count <= 0:
            raise BadCommitment("a score counts no example", seen=item.score.count, wanted="at least 1")
        opened = validation_commitment(
            book.network_id,
            body.order_id,
            item.mid,
            validator,
            item.score,
            item.transcript_root,
            item.stake_grains,
            item.salt,
        )
        if opened != validation.commitment:
            raise BadCommitment(
                "what was opened is not what the validator committed to", seen=opened, wanted=validation.commitment
            )
        extra += item.stake_grains - validation.stake_grains
        found.append(validation)
    book.require_free(validator, Role.VALIDATOR, extra)
    for item, validation in zip(body.items, found, strict=True):
        book.lock(validator, Role.VALIDATOR, item.stake_grains - validation.stake_grains)
        validation.stake_grains, validation.score, validation.opened_ms = item.stake_grains, item.score, book.now_ms
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
    close_if_complete(book, body.order_id, order)
    return b""


# --- windows -----------------------------------------------------------------------------------------------------
def start_if_funded(book: Book, order_id: bytes) -> None:
    """Begin the cycle (t0) in the first batch that has both the record and the escrow."""
    order, escrow = book.state.orders.get(order_id), book.state.escrows.get(order_id)
    if order is None or escrow is None or not never_funded(order):
        return
    if order.void_reason is not None:  # it expired or was withdrawn while its escrow was on the way: give that back
        order.payouts = void_payouts(escrow, order.parameters, order.void_reason, [], {})
        book.pay_out(order_id, order.payouts)
        book.index.touch(order_id, order)
        return
    wanted = (order.order.reward_grains, order.order.fee_grains, order.order.bond_grains)
    if (escrow.reward_grains, escrow.fee_grains, escrow.bond_grains) != wanted:
        _end_void(book, order_id, order, VoidReason.WRONG_ESCROW)
        return
    order.t0_ms, order.parameters = book.now_ms, book.state.parameters
    book.emit("order_started", order_id, order.order.client, t0_ms=book.now_ms)
    _open(book, order_id, order, Window.COMMIT)


def close_if_complete(book: Book, order_id: bytes, order: OrderState) -> None:
    """Close a window early when everyone whom it waits for has acted."""
    if TABLE[order.window].closes_early and _COMPLETE[order.window](order):
        close(book, order_id, order)


def close(book: Book, order_id: bytes, order: OrderState) -> None:
    """End the window that the order is in, apply what missing it costs, and open the next one or end the order."""
    following = _CLOSE.get(order.window, _go_on)(book, order_id, order)
    if following is not None:
        _open(book, order_id, order, following)


def refund(book: Book, order_id: bytes) -> None:
    """The chain gave the escrow back to the client: the order ends here, whatever its window."""
    escrow, order = book.remove_escrow(order_id), book.state.orders.get(order_id)
    if order is None:
        return
    if TABLE[order.window].phase is Phase.ENDED or order.window is Window.FINALIZATION:
        if order_id in book.state.unsettled:
            book.take_back(order_id, order)
            _enter(book, order_id, order, Window.VOID, 0)
            book.emit("order_void", order_id, order.order.client, reason=VoidReason.REFUNDED)
    elif escrow is not None:
        _end_void(book, order_id, order, VoidReason.REFUNDED)


def forget(book: Book, order_id: bytes, order: OrderState) -> None:
    """Keep only the header of an order that ended long ago (the paper's Append-Remove ledger), and nothing of one that
    never had money.
    """
    del book.state.orders[order_id]
    book.index.remove(order_id, order)
    if never_funded(order):
        book.forget_stranger(order.order.client)
        return
    winning, spec = order.claims.get(order.winner), order.order
    book.state.headers[order_id] = Header(
        spec.client,
        spec.title,
        spec.spec_hash,
        order.window,
        order.winner,
        winning.mid if winning else b"",
        winning.agreed if winning else None,
        order.void_reason,
        order.epoch,
        order.ended_ms,
    )


def _in_window(book: Book, order_id: bytes, kind: str) -> OrderState:
    """The order, if its open window accepts this kind; otherwise TooEarly or TooLate, naming both windows."""
    order = book.require_order(order_id)
    if kind not in TABLE[order.window].accepts:
        wanted = window_accepting(kind)
        error = TooEarly if PLACES[order.window] < PLACES[wanted] else TooLate
        raise error(
            f"the order does not accept a {kind.replace('_', ' ')} now",
            seen=f"{order.window} window",
            wanted=f"{wanted} window",
        )
    return order


def _enter(book: Book, order_id: bytes, order: OrderState, window: Window, duration_ms: int) -> None:
    if order.timeline:
        order.timeline[-1].closed_ms = book.now_ms
    ended = TABLE[window].phase is Phase.ENDED
    order.window, order.closes_ms = window, book.now_ms + duration_ms if duration_ms else 0
    order.timeline.append(Span(window, book.now_ms, book.now_ms if ended else 0))
    if ended:
        order.ended_ms = book.now_ms
    book.index.touch(order_id, order)
    book.emit("window_opened", order_id, window=window, phase=TABLE[window].phase, closes_ms=order.closes_ms)


def _open(book: Book, order_id: bytes, order: OrderState, window: Window) -> None:
    name = TABLE[window].duration
    _enter(book, order_id, order, window, getattr(order.order.windows, name) if name else 0)
    if window is Window.SCORE and not order.extended:
        _draw(book, order_id, order)
    if window is Window.FINALIZATION:
        _seal(book, order_id, order)
    else:
        close_if_complete(book, order_id, order)


def _go_on(book: Book, order_id: bytes, order: OrderState) -> Window | None:
    return TABLE[order.window].next


def _close_waiting(book: Book, order_id: bytes, order: OrderState) -> Window | None:
    _end_void(book, order_id, order, VoidReason.NO_ESCROW)
    return None


def _close_commit(book: Book, order_id: bytes, order: OrderState) -> Window | None:
    if order.claims:
        return Window.REVEAL
    _end_void(book, order_id, order, VoidReason.NO_CLAIMS)
    return None


def _close_reveal(book: Book, order_id: bytes, order: OrderState) -> Window | None:
    for provider, claim in sorted(order.claims.items()):
        if not claim.mid:
            book.unlock(provider, Role.PROVIDER, claim.bond_grains)
            book.slash(provider, Role.PROVIDER, claim.bond_grains, "claim not revealed")
            book.account(provider).reputation.forfeits += 1
            _drop(book, order_id, order, claim, "not revealed")
    first: dict[bytes, ClaimState] = {}
    for claim in order.revealed():
        if first.setdefault(claim.mid, claim) is not claim:  # the same model twice: the earlier commitment has it
            book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
            _drop(book, order_id, order, claim, "the same model was committed earlier")
    if order.claims:
        return Window.RELEASE
    _end_void(book, order_id, order, VoidReason.NOTHING_REVEALED)
    return None


def _close_release(book: Book, order_id: bytes, order: OrderState) -> Window | None:
    if order.test_key:
        book.emit("key_released", order_id, key=order.test_key)
        return Window.SCORE
    _end_void(book, order_id, order, VoidReason.NOT_RELEASED)
    return None


def _close_open_scores(book: Book, order_id: bytes, order: OrderState) -> Window | None:
    agreed = 0
    opened: defaultdict[bytes, Counter[tuple[Score, bytes]]] = defaultdict(Counter)
    for validation in order.validations:
        if validation.score is not None:
            opened[validation.mid][validation.score, validation.transcript_root] += 1
    for claim in order.revealed():
        votes = opened[claim.mid]
        if not votes:
            continue
        (score, root), count = max(votes.items(), key=lambda vote: vote[1])
        if count >= score_quorum(len(claim.assigned)):
            claim.agreed, claim.agreed_root = score, root
            agreed += 1
    if not agreed and not order.extended:
        order.extended = True
        book.emit("order_extended", order_id, why=VoidReason.NO_QUORUM)
        return Window.SCORE
    _penalise_silence(book, order)
    if agreed:
        return Window.CHALLENGE
    _end_void(book, order_id, order, VoidReason.NO_QUORUM)
    return None


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


def _draw(book: Book, order_id: bytes, order: OrderState) -> None:
    revealed, parameters = order.revealed(), order.parameters
    seed = draw_seed(order_id, [claim.salt for claim in revealed])
    eligible = {
        address: book.stake(address, Role.VALIDATOR).bonded
        for address in book.active[Role.VALIDATOR]
        if address != order.order.client
        and book.free(address, Role.VALIDATOR) >= parameters.min_validation_stake_grains
    }
    for claim in revealed:
        weights = {address: weight for address, weight in eligible.items() if address != claim.provider}
        claim.assigned = draw_validators(seed, claim.mid, weights, parameters.validators_per_model)
        book.emit("validators_drawn", order_id, claim.provider, mid=claim.mid, validators=claim.assigned)


def _seal(book: Book, order_id: bytes, order: OrderState) -> None:
    """PoT.Finalize: pick the winner and credit everyone, or end void when nobody improved on the baseline."""
    spec = order.order
    direction = score_direction(spec.score.name, spec.score.version)
    assert direction is not None, "an order whose score function is unknown was never accepted"
    best: ClaimState | None = None
    best_score: Score | None = None
    for claim in order.revealed():  # in their places, so that a tie stays with the earlier commitment
        if (
            claim.agreed is not None
            and claim.agreed.valid
            and (best_score is None or better(claim.agreed, best_score, direction))
        ):
            best, best_score = claim, claim.agreed
    if (
        best is None
        or best_score is None
        or not beats_baseline(best_score, spec.baseline_total, spec.baseline_count, spec.margin_micro, direction)
    ):
        _end_void(book, order_id, order, VoidReason.NO_IMPROVEMENT)
        return
    winning = Counter[bytes]()
    others = Counter[bytes]()
    for validation in _own_work(order, _agreeing(order)):
        if validation.mid == best.mid:
            winning[validation.validator] += max(validation.stake_grains, 1)
        else:
            others[validation.validator] += 1
        book.account(validation.validator).reputation.agreeing_validations += 1
    book.account(best.provider).reputation.wins += 1
    order.winner = best.provider
    order.payouts = sealed_payouts(
        book.state.escrows[order_id], order.parameters, best.provider, winning, others, book.paid_aggregators
    )
    book.pay_out(order_id, order.payouts)
    _release_stakes(book, order)
    book.emit("order_sealed", order_id, best.provider, mid=best.mid, total=best_score.total, count=best_score.count)


def _end_void(book: Book, order_id: bytes, order: OrderState, reason: VoidReason) -> None:
    order.void_reason = reason
    revealers = [claim.provider for claim in order.revealed()]
    opened = [v for v in order.validations if v.score is not None]
    agreeing = _agreeing(order) if any(claim.agreed for claim in order.claims.values()) else opened
    # A score that a quorum contradicts, or that may be copied, is no work to be paid for.
    work = Counter(v.validator for v in _own_work(order, agreeing))
    _release_stakes(book, order)
    escrow = book.state.escrows.get(order_id)
    if escrow is not None:
        order.payouts = void_payouts(escrow, order.parameters, reason, revealers, work)
        book.pay_out(order_id, order.payouts)
    _enter(book, order_id, order, Window.VOID, 0)
    book.emit("order_void", order_id, order.order.client, reason=reason)


def _release_stakes(book: Book, order: OrderState) -> None:
    for claim in order.claims.values():
        book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
        book.account(claim.provider).reputation.claims += 1
    for validation in order.validations:
        book.unlock(validation.validator, Role.VALIDATOR, validation.stake_grains)


def _drop(book: Book, order_id: bytes, order: OrderState, claim: ClaimState, why: str) -> None:
    del order.claims[claim.provider]
    book.emit("claim_dropped", order_id, claim.provider, why=why)


def _validations_of(order: OrderState, validator: bytes) -> dict[bytes, ValidationState]:
    return {v.mid: v for v in order.validations if v.validator == validator}


def _agreeing(order: OrderState) -> list[ValidationState]:
    """Opened validations that say what a quorum said of their model."""
    agreed = {claim.mid: (claim.agreed, claim.agreed_root) for claim in order.revealed() if claim.agreed is not None}
    return [v for v in order.validations if v.score is not None and agreed.get(v.mid) == (v.score, v.transcript_root)]


def _own_work(order: OrderState, validations: list[ValidationState]) -> list[ValidationState]:
    """Without those that say what was public when they were committed. Whoever is late and contradicts it worked."""
    public = {(v.mid, v.score, v.transcript_root) for v in order.validations if not v.late}
    return [v for v in validations if not (v.late and (v.mid, v.score, v.transcript_root) in public)]


def _all_scored(order: OrderState) -> bool:
    return len(order.validations) >= sum(len(claim.assigned) for claim in order.claims.values())


_COMPLETE: dict[Window, Callable[[OrderState], bool]] = {
    Window.WAITING: lambda order: False,
    Window.REVEAL: lambda order: all(claim.mid for claim in order.claims.values()),
    Window.RELEASE: lambda order: bool(order.test_key),
    Window.SCORE: _all_scored,
    Window.OPEN_SCORES: lambda order: all(validation.score is not None for validation in order.validations),
    Window.OPEN_CHALLENGES: lambda order: True,  # no challenge can be committed yet, so nobody is waited for
    Window.JUDGE: lambda order: True,
}

_CLOSE: dict[Window, Callable[[Book, bytes, OrderState], Window | None]] = {
    Window.WAITING: _close_waiting,
    Window.COMMIT: _close_commit,
    Window.REVEAL: _close_reveal,
    Window.RELEASE: _close_release,
    Window.OPEN_SCORES: _close_open_scores,
}
