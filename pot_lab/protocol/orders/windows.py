"""How windows open and close, and what each closing does (paper section 3.2; protocol.md, "The task cycle")."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import TABLE, Phase, VoidReason, Window
from pot_lab.protocol.order_index import never_funded
from pot_lab.protocol.orders.sealing import pay_back, pay_winner, penalise_silence, winning_claim
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, ModelId, OrderId
from pot_lab.protocol.rewards import void_payouts
from pot_lab.protocol.selection import draw_seed, draw_validators, score_quorum
from pot_lab.protocol.state import ClaimState, OrderHeader, OrderState, Span


def start_if_funded(book: Book, order_id: OrderId) -> None:
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
        end_void(book, order_id, order, VoidReason.WRONG_ESCROW)
        return
    order.t0_ms, order.parameters = book.now_ms, book.state.parameters
    book.emit("order_started", order_id, order.order.client, t0_ms=book.now_ms)
    _open(book, order_id, order, Window.COMMIT)


def close_if_complete(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Close a window early when everyone whom it waits for has acted."""
    if TABLE[order.window].closes_early and _COMPLETE[order.window](order):
        close(book, order_id, order)


def close(book: Book, order_id: OrderId, order: OrderState) -> None:
    """End the window that the order is in, apply what missing it costs, and open the next one or end the order."""
    following = _CLOSE.get(order.window, _go_on)(book, order_id, order)
    if following is not None:
        _open(book, order_id, order, following)


def refund(book: Book, order_id: OrderId) -> None:
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
        end_void(book, order_id, order, VoidReason.REFUNDED)


def forget(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Keep only the header of an order that ended long ago (the paper's Append-Remove ledger), and nothing of one that
    never had money.
    """
    del book.state.orders[order_id]
    book.index.remove(order_id, order)
    if never_funded(order):
        book.forget_stranger(order.order.client)
        return
    winning, spec = order.claims.get(order.winner), order.order
    book.state.headers[order_id] = OrderHeader(
        client=spec.client,
        title=spec.title,
        spec_hash=spec.spec_hash,
        window=order.window,
        winner=order.winner,
        winner_mid=winning.mid if winning else ModelId(b""),
        score=winning.agreed if winning else None,
        void_reason=order.void_reason,
        epoch=order.epoch,
        ended_ms=order.ended_ms,
    )


def _enter(book: Book, order_id: OrderId, order: OrderState, window: Window, duration_ms: int) -> None:
    if order.timeline:
        order.timeline[-1].closed_ms = book.now_ms
    ended = TABLE[window].phase is Phase.ENDED
    order.window, order.closes_ms = window, book.now_ms + duration_ms if duration_ms else 0
    order.timeline.append(Span(window, book.now_ms, book.now_ms if ended else 0))
    if ended:
        order.ended_ms = book.now_ms
    book.index.touch(order_id, order)
    book.emit("window_opened", order_id, window=window, phase=TABLE[window].phase, closes_ms=order.closes_ms)


def _open(book: Book, order_id: OrderId, order: OrderState, window: Window) -> None:
    name = TABLE[window].duration
    _enter(book, order_id, order, window, getattr(order.order.windows, name) if name else 0)
    if window is Window.SCORE and not order.extended:
        _draw(book, order_id, order)
    if window is Window.FINALIZATION:
        _seal(book, order_id, order)
    else:
        close_if_complete(book, order_id, order)


def _go_on(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    return TABLE[order.window].next


def _close_waiting(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    end_void(book, order_id, order, VoidReason.NO_ESCROW)
    return None


def _close_commit(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    if order.claims:
        return Window.REVEAL
    end_void(book, order_id, order, VoidReason.NO_CLAIMS)
    return None


def _close_reveal(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    for provider, claim in sorted(order.claims.items()):
        if not claim.mid:
            book.unlock(provider, Role.PROVIDER, claim.bond_grains)
            book.slash(provider, Role.PROVIDER, claim.bond_grains, "claim not revealed")
            book.account(provider).reputation.forfeits += 1
            _drop(book, order_id, order, claim, "not revealed")
    first: dict[ModelId, ClaimState] = {}
    for claim in order.revealed():
        if first.setdefault(claim.mid, claim) is not claim:  # the same model twice: the earlier commitment has it
            book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
            _drop(book, order_id, order, claim, "the same model was committed earlier")
    if order.claims:
        return Window.RELEASE
    end_void(book, order_id, order, VoidReason.NOTHING_REVEALED)
    return None


def _close_release(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    if order.test_key:
        book.emit("key_released", order_id, key=order.test_key)
        return Window.SCORE
    end_void(book, order_id, order, VoidReason.NOT_RELEASED)
    return None


def _close_open_scores(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    agreed = 0
    opened: defaultdict[ModelId, Counter[tuple[ClaimScore, bytes]]] = defaultdict(Counter)
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
    penalise_silence(book, order)
    if agreed:
        return Window.CHALLENGE
    end_void(book, order_id, order, VoidReason.NO_QUORUM)
    return None


def _draw(book: Book, order_id: OrderId, order: OrderState) -> None:
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


def _seal(book: Book, order_id: OrderId, order: OrderState) -> None:
    """PoT.Finalize: pay for the best claim, or end void when nobody improved on the baseline."""
    winner = winning_claim(order)
    if winner is None or winner.agreed is None:
        end_void(book, order_id, order, VoidReason.NO_IMPROVEMENT)
        return
    pay_winner(book, order_id, order, winner)
    score = winner.agreed
    book.emit("order_sealed", order_id, winner.provider, mid=winner.mid, total=score.total, count=score.count)


def end_void(book: Book, order_id: OrderId, order: OrderState, reason: VoidReason) -> None:
    """End the order without a winner: the reason's refund rule pays, and VOID opens."""
    pay_back(book, order_id, order, reason)
    _enter(book, order_id, order, Window.VOID, 0)
    book.emit("order_void", order_id, order.order.client, reason=reason)


def _drop(book: Book, order_id: OrderId, order: OrderState, claim: ClaimState, why: str) -> None:
    del order.claims[claim.provider]
    book.emit("claim_dropped", order_id, claim.provider, why=why)


def _all_scored(order: OrderState) -> bool:
    return len(order.validations) >= sum(len(claim.assigned) for claim in order.claims.values())


_COMPLETE: dict[Window, Callable[[OrderState], bool]] = {
    Window.REVEAL: lambda order: all(claim.mid for claim in order.claims.values()),
    Window.RELEASE: lambda order: bool(order.test_key),
    Window.SCORE: _all_scored,
    Window.OPEN_SCORES: lambda order: all(validation.score is not None for validation in order.validations),
    Window.OPEN_CHALLENGES: lambda order: True,  # no challenge can be committed yet, so nobody is waited for
    Window.JUDGE: lambda order: True,
}


_CLOSE: dict[Window, Callable[[Book, OrderId, OrderState], Window | None]] = {
    Window.WAITING: _close_waiting,
    Window.COMMIT: _close_commit,
    Window.REVEAL: _close_reveal,
    Window.RELEASE: _close_release,
    Window.OPEN_SCORES: _close_open_scores,
}
