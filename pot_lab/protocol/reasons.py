"""Why an account was paid what it was for an order, or was not: in words, with the rule and the transactions.

Read from the ledger's state alone, so that f+1 aggregators give equal answers (protocol.md, "Money"). Decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pot_lab.crypto.identity import Address, format_address
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import TABLE, Phase, VoidReason
from pot_lab.protocol.orders.sealing import agreeing, judged_wrong, winning_claim
from pot_lab.protocol.parameters import BASIS_POINTS, GRAINS_PER_POT, score_direction
from pot_lab.protocol.records import ClaimScore, OrderId
from pot_lab.protocol.rewards import beats_baseline, better
from pot_lab.protocol.selection import ACCOUNTS
from pot_lab.protocol.state import ClaimState, OrderState, Payout, ValidationState
from pot_lab.protocol.views import WhyLine, WhyView

MAX_LINES = 200
CYCLE, SEATS, MONEY = "The task cycle", "Seats and scores", "Money"
"""Headings of protocol.md that the lines cite."""

_VOID: dict[VoidReason, str] = {
    VoidReason.NO_ESCROW: "its escrow did not arrive while it waited",
    VoidReason.TOO_FEW_VALIDATORS: "there were too few validators with free stake for its locks",
    VoidReason.NOT_IN_CUSTODY: "too few aggregators could get its files while it waited",
    VoidReason.NO_CLAIMS: "no provider had committed to a model when the commit window closed",
    VoidReason.NOTHING_REVEALED: "no provider revealed the model that it had committed to",
    VoidReason.NOT_RELEASED: "the test data's key was not released, so nothing could be scored",
    VoidReason.INVALID_TEST_DATA: "its test data did not open to what it promised, so no model was opened",
    VoidReason.RELEASE_TOO_SHORT: (
        "too few aggregators could check its test data in two windows, which its client chose shorter than usual"
    ),
    VoidReason.TEST_DATA_NOT_JUDGED: (
        "too few aggregators gave a verdict on its test data in two windows, and the time was long enough"
    ),
    VoidReason.NOT_JUDGED: "too few aggregators opened and checked its models in time",
    VoidReason.NO_QUORUM: f"no model had a score that stands: {ACCOUNTS} accounts and most of the seats must open one",
    VoidReason.NO_IMPROVEMENT: "no model beat the order's baseline by its margin",
    VoidReason.WITHDRAWN: "the client withdrew it before anybody had claimed",
    VoidReason.REFUNDED: "the client took the escrow back on the chain",
    VoidReason.WRONG_ESCROW: "the escrow on the chain was not what the order says",
    VoidReason.PARAMETERS_CHANGED: "a vote changed the parameters while it waited, and it no longer fits them",
    VoidReason.FAULT: "the ledger could not carry it on, a bug of ours: nobody was paid or lost anything",
}
_PAID = {
    "winner": ("the best model whose score stands gets {winner} of the reward", MONEY),
    "validator": ("{validators} of the reward goes to the seats whose scores stand, by seats", SEATS),
    "aggregator": ("{aggregators} of the reward goes to the aggregators in equal parts", MONEY),
    "validation fee": ("the fee goes to those who scored, by their scores", SEATS),
    "fee back": ("the fee goes back to the client where no other model was scored", MONEY),
    "bond back": ("nothing shows that the client broke a promise, so its bond comes back", MONEY),
    "reward less scoring": (
        "no model beat the baseline: the reward goes back, less what scoring and ordering cost",
        MONEY,
    ),
    "reward back": ("without a winner the reward goes back to the client", MONEY),
    "client's bond": ("the client's bond goes to those whose models were revealed for nothing", MONEY),
    "client's forfeit": (
        "what the client put up beside the reward, for test data that are not what it promised",
        MONEY,
    ),
    "training in vain": ("the fee goes to those who trained while the aggregators gave no verdict", MONEY),
    "challenger": ("who proves scores wrong gets what the seats that lied would have got", SEATS),
    "idle aggregators": (
        "the treasury gets the parts of aggregators for which the order waited in vain, or that were down for long",
        SEATS,
    ),
    "rounding": ("the treasury gets what rounding leaves", MONEY),
}
"""By a payout's reason: the rule in words, and where it stands."""


_DAY_MS = 86_400_000
_DAYS_OF_400_YEARS = 146_097
_DAYS_BEFORE_1970 = 719_468
"""From the first of March of the year 0, where a year ends with its leap day."""


def utc(time_ms: int) -> str:
    """A ledger's time as people read it; arithmetic, since no rule may load a clock.

    >>> utc(1_796_015_696_365)
    '2026-11-30 05:14:56.365 UTC'
    """
    days, in_day_ms = divmod(time_ms, _DAY_MS)
    cycle, day = divmod(days + _DAYS_BEFORE_1970, _DAYS_OF_400_YEARS)
    in_cycle = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * in_cycle + in_cycle // 4 - in_cycle // 100
    month = (5 * day + 2) // 153
    year, number = 400 * cycle + in_cycle + month // 10, (month + 2) % 12 + 1
    seconds, ms = divmod(in_day_ms, 1_000)
    clock = f"{seconds // 3_600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
    return f"{year:04d}-{number:02d}-{day - (153 * month + 2) // 5 + 1:02d} {clock} UTC"


def why(book: Book, order_id: OrderId, account: Address) -> WhyView:
    """Everything that decided what the account got for the order.

    Raises:
        UnknownOrder: the ledger has no such order, or has forgotten its body.
    """
    order = book.require_order(order_id)
    lines = [*_outcome(order), *_as_client(order, account), *_as_provider(order, account)]
    lines += [*_as_validator(order, account), *_as_aggregator(book, order, account)]
    lines += [
        WhyLine(f"lost {_pot(note.grains)} POT of stake: {note.what}", -note.grains, SEATS)
        for note in order.notes
        if note.account == account and note.grains
    ]
    lines += [
        WhyLine(f"gets {_pot(due.grains)} POT of slashed stake: {due.reason}", due.grains, MONEY)
        for due in _together(order, account)
    ]
    paid = [payout for payout in order.payouts if payout.account == account]
    for payout in paid:
        words, rule = _PAID.get(payout.reason, (payout.reason, MONEY))
        lines.append(WhyLine(f"paid {_pot(payout.grains)} POT: {words.format(**_shares(order))}", payout.grains, rule))
    if not paid and order.payouts:
        lines.append(WhyLine("paid nothing for this order", 0, MONEY))
    if paid:
        where = f"settled on the chain in epoch {order.epoch}" if order.epoch else "waits for the next settlement"
        lines.append(WhyLine(f"{_pot(sum(payout.grains for payout in paid))} POT in all, {where}", 0, "Settlement"))
    return WhyView(order_id=order_id, account=account, lines=tuple(lines[:MAX_LINES]))


def _together(order: OrderState, account: Address) -> Iterator[Payout]:
    """What the account gets of slashed stakes, one sum for each reason."""
    sums = Counter[str]()
    for due in order.dues:
        if due.account == account:
            sums[due.reason] += due.grains
    return (Payout(account, grains, why) for why, grains in sums.items())


def _outcome(order: OrderState) -> Iterator[WhyLine]:
    if order.void_reason is not None:
        yield WhyLine(f"the order ended void: {_VOID.get(order.void_reason, order.void_reason.value)}", 0, CYCLE)
    elif _decided(order):
        yield WhyLine(f"the order was sealed; the winner is {format_address(order.winner)}", 0, MONEY)
    else:
        yield WhyLine(f"the order is in its {order.window} window, and nothing is decided yet", 0, CYCLE)


def _as_client(order: OrderState, account: Address) -> Iterator[WhyLine]:
    if account == order.order.client:
        yield WhyLine(f"the account is the order's client (put at {utc(order.put_ms)})", 0, CYCLE)


def _as_provider(order: OrderState, account: Address) -> Iterator[WhyLine]:
    for note in order.notes:
        if note.account == account and not note.grains:
            yield WhyLine(f"its claim was dropped: {note.what}", 0, CYCLE)
    claim = order.claims.get(account)
    if claim is None:
        return
    shown = f"claim at {utc(claim.committed_ms)} in place {claim.place}"
    if not claim.mid:
        yield WhyLine(f"it committed to a model ({shown}) and has not revealed it", 0, CYCLE)
        return
    yield WhyLine(
        f"it committed to model {claim.mid.hex()[:12]} ({shown}; reveal_model at {utc(claim.revealed_ms)})", 0, CYCLE
    )
    if not _decided(order):
        return
    if claim.agreed is None:
        opened = [each for each in order.validations if each.mid == claim.mid and each.is_open]
        scores = {(each.score, each.transcript_root) for each in opened}
        yield WhyLine(
            f"no score of its model stands: {len({each.validator for each in opened})} accounts opened "
            f"{len(scores)} different scores of it",
            0,
            SEATS,
        )
        return
    yield from _compared(order, claim, claim.agreed)


def _compared(order: OrderState, claim: ClaimState, score: ClaimScore) -> Iterator[WhyLine]:
    spec = order.order
    yield WhyLine(f"its score stands: {_score(score)}", 0, SEATS)
    direction = score_direction(spec.score.name, spec.score.version)
    if direction is None:
        return
    if not beats_baseline(score, spec.baseline_total, spec.baseline_count, spec.margin_micro, direction):
        baseline = _score(ClaimScore(spec.baseline_total, spec.baseline_count, True))
        yield WhyLine(f"that does not beat the baseline, {baseline}, by the order's margin", 0, MONEY)
        return
    best = winning_claim(order)
    if best is None or best.agreed is None:
        return
    if best is claim:
        yield WhyLine("no other model's score is better, and none as good was committed earlier", 0, MONEY)
    elif better(best.agreed, score, direction):
        yield WhyLine(f"{format_address(best.provider)} has a better one: {_score(best.agreed)}", 0, MONEY)
    else:
        yield WhyLine(
            f"{format_address(best.provider)} has an equal one and committed earlier, in place {best.place}", 0, MONEY
        )


def _as_validator(order: OrderState, account: Address) -> Iterator[WhyLine]:
    held = sum(Counter(seats)[account] for seats in order.seats)
    lost = sum(account == each for each, _ in order.silent)
    if lost:
        yield WhyLine(f"{lost} of its seats went to others: it had not committed to all scores in time", 0, SEATS)
    if not held:
        return
    seats = sum(map(len, order.seats))
    yield WhyLine(f"it held {held} of {seats} seats, drawn by stake", 0, SEATS)
    own = {each.mid: each for each in order.validations if each.validator == account}
    stood = {id(each) for each in agreeing(order)}
    wrong = {id(each) for each in judged_wrong(order)}
    for claim in order.revealed():
        if account in order.seats_of(claim):
            yield WhyLine(
                f"model {claim.mid.hex()[:12]}: {_scored(order, claim, own.get(claim.mid), stood, wrong)}", 0, SEATS
            )


def _scored(order: OrderState, claim: ClaimState, own: ValidationState | None, stood: set[int], wrong: set[int]) -> str:
    if own is None:
        return "it committed to no score (commit_scores is missing)"
    when = f"commit_scores at {utc(own.committed_ms)}"
    if own.score is None:
        return f"it has not opened its score ({when})"
    when += f", open_scores at {utc(own.opened_ms)}"
    if _decided(order) and not own.is_open:
        return f"it opened {_score(own.score)} ({when}), and too few aggregators could get its transcript in time"
    if id(own) in wrong:
        return f"it opened {_score(own.score)} ({when}), which was judged wrong"
    if not _decided(order):
        return f"it opened {_score(own.score)} ({when})"
    if claim.agreed is None:
        return f"it opened {_score(own.score)} ({when}), and no score of the model stands"
    return f"it opened {_score(own.score)} ({when}), " + (
        "which stands" if id(own) in stood else f"and {_score(claim.agreed)} stands, or another transcript"
    )


def _as_aggregator(book: Book, order: OrderState, account: Address) -> Iterator[WhyLine]:
    holders = [each.address for each in book.state.sets.get(order.sealed_to, [])]
    if account not in holders:
        return
    released = holders.index(account) in order.shares
    yield WhyLine(
        f"it is an aggregator that a share of the test key was sealed to, and {'released' if released else 'did not'}"
        f"{' it' if released else ' need to release or missed it'}",
        0,
        CYCLE,
    )


def _decided(order: OrderState) -> bool:
    return TABLE[order.window].phase in (Phase.FINALIZATION, Phase.ENDED)


def _shares(order: OrderState) -> dict[str, str]:
    parameters = order.parameters
    parts = {"winner": parameters.winner_bp, "validators": parameters.validators_bp}
    parts["aggregators"] = parameters.aggregators_bp
    return {name: f"{100 * bp / BASIS_POINTS:g} %" for name, bp in parts.items()}


def _score(score: ClaimScore) -> str:
    return f"{score.total} of {score.count}" if score.valid else "invalid"


def _pot(grains: int) -> str:
    whole, rest = divmod(abs(grains), GRAINS_PER_POT)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".") if rest else str(whole)
