"""What an order waits for, in one line: who is at work, what came last, and when it is expected to end."""

from __future__ import annotations

import time

from pot_lab.cards.scores import score_text
from pot_lab.notebook.card import why_void
from pot_lab.notebook.quantities import pot
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.views import OrderView

_AT_WORK = {
    Window.WAITING: "waiting for its escrow, for validators, and for aggregators to hold its files",
    Window.COMMIT: "providers train",
    Window.REVEAL: "providers reveal their models",
    Window.RELEASE: "the aggregators release the test data",
    Window.SCORE: "validators score",
    Window.OPEN_SCORES: "validators open their scores",
    Window.CHALLENGE: "anybody may challenge a score",
    Window.FINALIZATION: "sealed; the money waits for the next settlement",
}
_AFTER = (
    (Window.COMMIT, "train_ms"),
    (Window.REVEAL, "reveal_ms"),
    (Window.RELEASE, "release_ms"),
    (Window.SCORE, "score_ms"),
    (Window.OPEN_SCORES, "open_scores_ms"),
    (Window.CHALLENGE, "challenge_ms"),
)


def waiting_text(view: OrderView) -> str:
    """What goes on in an order that has not ended, by the clock of this host's time zone; how it ended, else.

    >>> waiting_text(view)  # doctest: +SKIP
    'providers train, 2 claims (the last at 14:02:11); ends by 14:05:40'
    """
    if view.window is Window.VOID:
        return f"void: {why_void(view)}"
    if view.window is Window.SETTLED:
        return f"settled: {_winner(view)}"
    parts = [_AT_WORK.get(view.window, str(view.window).replace("_", " "))]
    if view.window is Window.FINALIZATION:
        return f"{parts[0]}; {_winner(view)}"
    if view.claims:
        last_ms = max(claim.committed_ms for claim in view.claims)
        parts.append(f"{_counted(len(view.claims), 'claim')} (the last at {_clock(last_ms)})")
    elif view.window is Window.COMMIT:
        parts.append("no claim yet")
    scored = len({validation.validator for validation in view.validations})
    if scored and view.window in (Window.SCORE, Window.OPEN_SCORES):
        parts.append(f"{_counted(scored, 'validator')} committed")
    end_ms = latest_end_ms(view)
    return ", ".join(parts) + (f"; ends by {_clock(end_ms)}" if end_ms else "")


def latest_end_ms(view: OrderView) -> int:
    """When the order is sealed at the latest if nobody challenges a score (Unix milliseconds); 0 before it starts.

    Windows close early when all are there, so it usually is sooner.
    """
    names = [window for window, _ in _AFTER]
    if view.window not in names or not view.closes_ms:
        return 0
    later = _AFTER[names.index(view.window) + 1 :]
    return view.closes_ms + sum(int(getattr(view.order.windows, length)) for _, length in later)


def _winner(view: OrderView) -> str:
    claim = view.claim_by(view.winner) if view.winner else None
    if claim is None or claim.agreed is None or not claim.agreed.count:
        return "no winner"
    spec, order = view.order.score, view.order
    best = score_text(spec, claim.agreed.total, claim.agreed.count)
    start = f", {score_text(spec, order.baseline_total, order.baseline_count)} before" if order.baseline_count else ""
    return f"best model {best}{start}; {pot(order.reward_grains)} POT reward"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _clock(unix_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix_ms / 1000))
