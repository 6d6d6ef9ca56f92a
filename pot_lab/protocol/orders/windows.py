"""How windows open and close, and what each closing does (paper section 3.2; protocol.md, "The task cycle")."""

from __future__ import annotations

from collections.abc import Callable

from pot_lab.agreement.quorum import correct
from pot_lab.errors import PotLabError
from pot_lab.protocol.book import Book
from pot_lab.protocol.custody import in_custody
from pot_lab.protocol.cycle import TABLE, Phase, VoidReason, Window
from pot_lab.protocol.order_index import never_funded
from pot_lab.protocol.orders.absences import miss_judging, miss_release
from pot_lab.protocol.orders.charges import charge_for_scoring
from pot_lab.protocol.orders.scores import agree, hide_unshown, is_shown, open_disputes, resolve
from pot_lab.protocol.orders.sealing import (
    committed,
    has_most_seats,
    is_available,
    pay_back,
    pay_winner,
    penalise_silence,
    unlock_seats,
    winning_claim,
)
from pot_lab.protocol.parameters import LOCKS_TO_REVEAL, LOCKS_TO_START, Parameters, Role
from pot_lab.protocol.records import ModelId, OrderId
from pot_lab.protocol.rewards import void_payouts
from pot_lab.protocol.selection import (
    ACCOUNTS,
    MODELS_OF_A_SET,
    draw_seats,
    draw_seed,
    redraw_seats,
    set_of,
    sets_for,
)
from pot_lab.protocol.state import ClaimState, Escrow, OrderNote, OrderState, Payout, Span


def start_if_funded(book: Book, order_id: OrderId) -> None:
    """Begin the cycle (t0) in the first batch that has both the record and the escrow."""
    order, escrow = book.state.orders.get(order_id), book.state.escrows.get(order_id)
    if order is None or escrow is None or not never_funded(order):
        return
    if not book.attempt("start", lambda: _start(book, order_id, order, escrow), order_id):
        set_aside(book, order_id, order)


def _start(book: Book, order_id: OrderId, order: OrderState, escrow: Escrow) -> None:
    if order.void_reason is not None:  # it expired or was withdrawn while its escrow was on the way: give that back
        order.payouts = void_payouts(escrow, order.parameters, order.void_reason, [], {})
        book.pay_out(order_id, order.payouts)
        book.touch(order_id, order)
        return
    wanted = (order.order.reward_grains, order.order.fee_grains, order.order.bond_grains)
    if (escrow.reward_grains, escrow.fee_grains, escrow.bond_grains) != wanted:
        end_void(book, order_id, order, VoidReason.WRONG_ESCROW)
        return
    book.touch_custody(order_id, order)
    parameters = book.state.parameters
    if order.parameters != parameters and not _still_fits(book, order, parameters):
        end_void(book, order_id, order, VoidReason.PARAMETERS_CHANGED)
        return
    if _missing_files(book, order) or not _enough_to_start(book, order, parameters):
        book.waiting.add(order_id)
        return
    order.t0_ms, order.parameters = book.now_ms, parameters
    order.validators_at = book.validator_set()
    book.emit("order_started", order_id, order.order.client, t0_ms=book.now_ms)
    _open(book, order_id, order, Window.COMMIT)


def start_waiting(book: Book) -> None:
    """Begin the orders that have their escrow and waited for validators or for custody, once they have them."""
    for order_id in sorted(book.waiting):
        start_if_funded(book, order_id)


def close_if_complete(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Close a window early when everyone whom it waits for has acted."""
    if TABLE[order.window].closes_early:
        window = order.window
        if not book.attempt(f"{window} window", lambda: _close_if_complete(book, order_id, order), order_id):
            set_aside(book, order_id, order)


def _close_if_complete(book: Book, order_id: OrderId, order: OrderState) -> None:
    if _COMPLETE[order.window](book, order):
        _close(book, order_id, order)


def close(book: Book, order_id: OrderId, order: OrderState) -> None:
    """End the window that the order is in, apply what missing it costs, and open the next one or end the order.

    If that fails the order is set aside: its deadline would come again in every batch.
    """
    if not book.attempt(f"{order.window} window", lambda: _close(book, order_id, order), order_id):
        set_aside(book, order_id, order)


def set_aside(book: Book, order_id: OrderId, order: OrderState) -> None:
    """End an order that the ledger cannot carry on, by the shortest way: nobody is paid or loses anything more, the
    escrow goes back to the client, and all stakes are free. One that cannot even be ended so keeps its escrow until the
    client takes it back on the chain.
    """
    if not book.attempt("setting an order aside", lambda: _give_back(book, order_id, order), order_id):
        order.window, order.void_reason = Window.VOID, VoidReason.FAULT
        order.closes_ms, order.ended_ms = 0, book.now_ms
        book.waiting.discard(order_id)
        book.touch(order_id, order)


def _give_back(book: Book, order_id: OrderId, order: OrderState) -> None:
    escrow, has_ended = book.state.escrows.get(order_id), TABLE[order.window].phase is Phase.ENDED
    if not has_ended:
        for claim in order.claims.values():
            book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
        for challenge in order.challenges:
            book.unlock(challenge.challenger, Role(challenge.role), challenge.bond_grains)
            challenge.bond_grains = 0
        unlock_seats(book, order)
    if escrow is not None:
        back = {"reward back": escrow.reward_grains, "bond back": escrow.bond_grains, "fee back": escrow.fee_grains}
        order.payouts = [Payout(escrow.client, grains, why) for why, grains in back.items() if grains]
        book.pay_out(order_id, order.payouts)
    if has_ended:
        book.touch(order_id, order)
        return
    order.void_reason = VoidReason.FAULT
    _enter(book, order_id, order, Window.VOID, 0)
    book.emit("order_void", order_id, order.order.client, reason=VoidReason.FAULT)


def _close(book: Book, order_id: OrderId, order: OrderState) -> None:
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
    elif escrow is not None and not book.attempt(
        "refund", lambda: end_void(book, order_id, order, VoidReason.REFUNDED), order_id
    ):
        set_aside(book, order_id, order)


def _enter(book: Book, order_id: OrderId, order: OrderState, window: Window, duration_ms: int) -> None:
    if order.timeline:
        order.timeline[-1].closed_ms = book.now_ms
    ended = TABLE[window].phase is Phase.ENDED
    order.window, order.closes_ms = window, book.now_ms + duration_ms if duration_ms else 0
    order.timeline.append(Span(window, book.now_ms, book.now_ms if ended else 0))
    if window is not Window.WAITING:
        book.waiting.discard(order_id)
    if ended or TABLE[window].phase is Phase.CHALLENGE:
        order.validators_at, order.electors = 0, []
    if ended:
        order.ended_ms = book.now_ms
    book.touch(order_id, order)
    if not order.validators_at:
        book.drop_unused_sets()
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
    if order_id not in book.state.escrows:
        reason = VoidReason.NO_ESCROW
    elif _missing_files(book, order):
        reason = VoidReason.NOT_IN_CUSTODY
    else:
        reason = VoidReason.TOO_FEW_VALIDATORS
    end_void(book, order_id, order, reason)
    return None


def _close_commit(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    if not order.claims:
        end_void(book, order_id, order, VoidReason.NO_CLAIMS)
        return None
    stakes, lock = book.state.validator_sets[order.validators_at], order.lock_grains
    order.electors = [
        address
        for address in stakes
        if address != order.order.client and address not in order.claims and book.free(address, Role.VALIDATOR) >= lock
    ]
    if len(order.electors) < ACCOUNTS or sum(stakes[each] for each in order.electors) < LOCKS_TO_REVEAL * lock:
        end_void(book, order_id, order, VoidReason.TOO_FEW_VALIDATORS)  # before any model is revealed
        return None
    return Window.REVEAL


def _close_reveal(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    for _, claim in sorted(order.claims.items()):
        if not _is_shown(book, order, claim):
            forfeit(book, order_id, order, claim, _not_shown(book, claim))
    first: dict[ModelId, ClaimState] = {}
    for claim in order.revealed():
        if first.setdefault(claim.mid, claim) is not claim:  # the same model twice: the earlier commitment has it
            _let_go(book, order_id, order, claim, "the same model was committed earlier")
    if order.claims:
        order.salts = [claim.salt for claim in order.revealed()]
        book.closing.append(order_id)
        return Window.RELEASE
    end_void(book, order_id, order, VoidReason.NOTHING_REVEALED)
    return None


def _close_release(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    if not order.test_key:
        end_void(book, order_id, order, VoidReason.NOT_RELEASED)
        return None
    late = [claim for claim in order.revealed() if not _is_proven(claim)]
    if (late or not order.test_right) and not order.released_twice:
        order.released_twice = True
        book.emit("order_extended", order_id, why="not everything is opened and judged")
        return Window.RELEASE
    miss_release(book, order, late)
    if not order.test_right:
        short = not order.order.leaves_time_to_judge(order.parameters)
        end_void(book, order_id, order, VoidReason.RELEASE_TOO_SHORT if short else VoidReason.TEST_DATA_NOT_JUDGED)
        return None
    is_crowded = len(order.claims) > MODELS_OF_A_SET  # so many that aggregators may have had too much to do
    for claim in late:  # whether its maker or the aggregators were at fault, nobody can tell
        if is_crowded:
            _let_go(book, order_id, order, claim, LATE)
        else:
            book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
            _drop(book, order_id, order, claim, LATE)
    if order.claims:
        book.emit("key_released", order_id, key=order.test_key)
        return Window.SCORE
    end_void(book, order_id, order, VoidReason.NOT_JUDGED if late else VoidReason.NOTHING_REVEALED)
    return None


def _close_score(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    done = committed(order)
    enough = [claim for claim in order.revealed() if is_available(order, claim, done[claim.mid])]
    waiting = [claim for claim in order.revealed() if claim not in enough and done[claim.mid]]
    if order.extended or (enough and not waiting):  # what nobody at all could score holds up no others
        return Window.OPEN_SCORES
    order.extended = True
    book.emit("order_extended", order_id, why="too few validators committed to scores")
    _redraw(book, order_id, order)
    return Window.SCORE


def _close_open_scores(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    hide_unshown(book, order)
    penalise_silence(book, order)
    open_disputes(book, order_id, order)
    agree(order)
    # A wrong score still costs its lock, from stake that no unbonding takes home before the order ends. But kept locked
    # through challenge windows of the client's choice, cheap orders would keep all validators from the next order.
    unlock_seats(book, order)
    if order.disputes or any(claim.agreed for claim in order.claims.values()):
        return Window.CHALLENGE
    end_void(book, order_id, order, VoidReason.NO_QUORUM)
    return None


def _still_fits(book: Book, order: OrderState, parameters: Parameters) -> bool:
    """Whether an order that waited while a vote changed the parameters could be put today."""
    spec = order.order
    try:
        spec.check(book.network_id, len(book.state.sets[order.sealed_to]), parameters)
    except PotLabError:
        return False
    return spec.seal_by_s * 1000 >= book.now_ms + spec.windows.longest_ms + parameters.settling_ms


def _close_judge(book: Book, order_id: OrderId, order: OrderState) -> Window | None:
    if not order.judged_twice and not _all_judged(order):
        order.judged_twice = True
        book.emit("order_extended", order_id, why="too few verdicts")
        return Window.JUDGE
    miss_judging(book, order)
    resolve(book, order_id, order)
    if any(claim.agreed for claim in order.claims.values()):
        return Window.FINALIZATION
    end_void(book, order_id, order, VoidReason.NO_QUORUM)
    return None


def _enough_to_start(book: Book, order: OrderState, parameters: Parameters) -> bool:
    """Whether there are validators for the order, with free stake for what its seats lock."""
    lock = parameters.score_lock_grains(order.order.reward_grains)
    stakes = [
        book.stake(address, Role.VALIDATOR).bonded
        for address in book.active[Role.VALIDATOR]
        if address != order.order.client and book.free(address, Role.VALIDATOR) >= lock
    ]
    return len(stakes) >= parameters.min_validators and sum(stakes) >= LOCKS_TO_START * lock


def _draw(book: Book, order_id: OrderId, order: OrderState) -> None:
    revealed, seed = order.revealed(), _seed(order_id, order)
    stakes, lock = book.state.validator_sets[order.validators_at], order.lock_grains
    weights = {each: stakes[each] for each in order.electors if book.free(each, Role.VALIDATOR) >= lock}
    if len(weights) < ACCOUNTS:  # other orders took their free stake meanwhile: better backed twice than not scored
        weights = {each: stakes[each] for each in order.electors}
    sets = sets_for(len(revealed))
    order.seats = [draw_seats(seed, number, weights, order.parameters.seats_per_order) for number in range(sets)]
    for claim in revealed:
        claim.seat_set = set_of(seed, claim.mid, sets)
    _lock_seats(book, order_id, order)


def _redraw(book: Book, order_id: OrderId, order: OrderState) -> None:
    """Give seats that missed a model to others. A model that half of the seats missed is nobody's fault: its link may
    answer accomplices only, who would else get the seats of all others.
    """
    done = committed(order)
    stakes, lock = book.state.validator_sets[order.validators_at], order.lock_grains
    fresh = [each for each in order.electors if each not in order.locked and book.free(each, Role.VALIDATOR) >= lock]
    seed = _seed(order_id, order)
    for number, seats in enumerate(order.seats):
        scored = [
            done[claim.mid]
            for claim in order.revealed()
            if claim.seat_set == number and has_most_seats(order, claim, done[claim.mid])
        ]
        silent = {each for each in seats if any(each not in accounts for accounts in scored)}
        pool = {each: stakes[each] for each in {*fresh, *seats}}  # nobody gets another set's models too, so late
        order.seats[number] = redraw_seats(seed, number, seats, silent, pool)
        kept = set(order.seats[number])
        order.silent += [(each, number) for each in seats if each not in kept]
    _lock_seats(book, order_id, order)


def _lock_seats(book: Book, order_id: OrderId, order: OrderState) -> None:
    for address in sorted({each for seats in order.seats for each in seats}.difference(order.locked)):
        book.lock(address, Role.VALIDATOR, order.lock_grains)
        order.locked.append(address)
    book.touch(order_id, order)  # seats have changed
    book.emit("validators_drawn", order_id, seats=order.seats)


def _seed(order_id: OrderId, order: OrderState) -> bytes:
    return draw_seed(order_id, order.salts, order.test_key, order.beacon)


def _seal(book: Book, order_id: OrderId, order: OrderState) -> None:
    """PoT.Finalize: pay for the best claim, or end void when nobody improved on the baseline."""
    winner = winning_claim(order)
    if winner is None or winner.agreed is None:
        end_void(book, order_id, order, VoidReason.NO_IMPROVEMENT)
        return
    pay_winner(book, order_id, order, winner)
    charge_for_scoring(book, order)
    score = winner.agreed
    book.emit("order_sealed", order_id, winner.provider, mid=winner.mid, total=score.total, count=score.count)


def end_void(book: Book, order_id: OrderId, order: OrderState, reason: VoidReason) -> None:
    """End the order without a winner: the reason's refund rule pays, and VOID opens."""
    pay_back(book, order_id, order, reason)
    if reason in _SCORED:
        charge_for_scoring(book, order)
    _enter(book, order_id, order, Window.VOID, 0)
    book.emit("order_void", order_id, order.order.client, reason=reason)


def forfeit(book: Book, order_id: OrderId, order: OrderState, claim: ClaimState, why: str) -> None:
    """Drop a claim that its provider did not keep, at the price of its bond."""
    book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
    book.slash(claim.provider, Role.PROVIDER, claim.bond_grains, why, order)
    book.account(claim.provider).reputation.forfeits += 1
    _drop(book, order_id, order, claim, why)


def _let_go(book: Book, order_id: OrderId, order: OrderState, claim: ClaimState, why: str) -> None:
    """Drop a claim that costs what its scoring would have: else filling an order with such claims would be free."""
    book.unlock(claim.provider, Role.PROVIDER, claim.bond_grains)
    book.slash(claim.provider, Role.PROVIDER, claim.fee_grains, why, order)
    _drop(book, order_id, order, claim, why)


def _drop(book: Book, order_id: OrderId, order: OrderState, claim: ClaimState, why: str) -> None:
    del order.claims[claim.provider]
    order.notes.append(OrderNote(claim.provider, why))
    book.touch_custody(order_id, order)
    book.emit("claim_dropped", order_id, claim.provider, why=why)


def _missing_files(book: Book, order: OrderState) -> bool:
    """Whether one of the order's own files cannot be had from custody yet."""
    return not all(in_custody(book, each) for each in order.order.files)


def _is_shown(book: Book, order: OrderState, claim: ClaimState) -> bool:
    """Whether a claim is revealed, and its model will open: its ciphertext can be had, since a reveal alone could name
    a link to nowhere, and n-f aggregators have found their shares in their boxes.
    """
    sealed = claim.sealed
    if sealed is None or not in_custody(book, sealed.ciphertext):
        return False
    return len(sealed.holders) >= correct(len(book.state.sets[order.sealed_to]))


def _not_shown(book: Book, claim: ClaimState) -> str:
    if claim.sealed is None:
        return "model not revealed"
    return "key boxes not attested" if in_custody(book, claim.sealed.ciphertext) else "model not in custody"


def _all_shown(book: Book, order: OrderState) -> bool:
    return all(_is_shown(book, order, claim) for claim in order.claims.values())


def _is_proven(claim: ClaimState) -> bool:
    """Whether a model is open, and what its claim named."""
    return claim.sealed is not None and claim.sealed.right is True


def _all_opened_right(book: Book, order: OrderState) -> bool:
    return order.test_right is True and all(map(_is_proven, order.claims.values()))


def _all_scored(book: Book, order: OrderState) -> bool:
    done = committed(order)
    return all(done[claim.mid].issuperset(order.seats_of(claim)) for claim in order.revealed())


def _all_opened(book: Book, order: OrderState) -> bool:
    return all(is_shown(book, validation) for validation in order.validations)


def _all_judged(order: OrderState) -> bool:
    return all(dispute.right is not None for dispute in order.disputes)


LATE = "not opened and judged in time"
_SCORED = (VoidReason.NO_IMPROVEMENT, VoidReason.NO_QUORUM)
"""The ends without a winner of an order whose models seats have worked on."""

_COMPLETE: dict[Window, Callable[[Book, OrderState], bool]] = {
    Window.WAITING: lambda book, order: False,
    Window.REVEAL: _all_shown,
    Window.RELEASE: _all_opened_right,
    Window.SCORE: _all_scored,
    Window.OPEN_SCORES: _all_opened,
    Window.OPEN_CHALLENGES: lambda book, order: all(challenge.dispute for challenge in order.challenges),
    Window.JUDGE: lambda book, order: _all_judged(order),
}
"""What a window waits for; a waiting order starts at a batch's end (`start_waiting`)."""


_CLOSE: dict[Window, Callable[[Book, OrderId, OrderState], Window | None]] = {
    Window.WAITING: _close_waiting,
    Window.COMMIT: _close_commit,
    Window.REVEAL: _close_reveal,
    Window.RELEASE: _close_release,
    Window.SCORE: _close_score,
    Window.OPEN_SCORES: _close_open_scores,
    Window.JUDGE: _close_judge,
}
