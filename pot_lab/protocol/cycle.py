"""The task cycle: which window follows which, and what each accepts.

Carries out Equations 1-3 of the paper (protocol.md, "The task cycle"). The table below is the only place that knows the
order of the windows; the ledger walks it, and `diagram()` draws it for the docs.

A window opens at the time of the batch that closed the one before, and is half-open: a transaction at its closing time
is late. It opens at that batch rather than at the earlier window's nominal end, so that after an outage of the
aggregators everyone still gets each window whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Window(StrEnum):
    """Where an order stands."""

    WAITING = "waiting"
    COMMIT = "commit"
    REVEAL = "reveal"
    RELEASE = "release"
    SCORE = "score"
    OPEN_SCORES = "open_scores"
    CHALLENGE = "challenge"
    OPEN_CHALLENGES = "open_challenges"
    JUDGE = "judge"
    FINALIZATION = "finalization"
    SETTLED = "settled"
    VOID = "void"


class Phase(StrEnum):
    """The paper's four phases (Fig. 2), and the two ends."""

    POOL = "POOL"
    TRAINING = "TRAINING"
    VALIDATION = "VALIDATION"
    CHALLENGE = "CHALLENGE"
    FINALIZATION = "FINALIZATION"
    ENDED = "ENDED"


class VoidReason(StrEnum):
    """Why an order ended without a winner; each has its refund rule in `rewards`."""

    NO_ESCROW = "no escrow arrived"
    TOO_FEW_VALIDATORS = "too few validators"
    NOT_IN_CUSTODY = "files not in custody"
    NO_CLAIMS = "no claims"
    NOTHING_REVEALED = "nothing revealed"
    NOT_RELEASED = "test data not released"
    INVALID_TEST_DATA = "test data not as promised"
    RELEASE_TOO_SHORT = "release window too short to judge the test data"
    TEST_DATA_NOT_JUDGED = "test data not judged"
    NOT_JUDGED = "opened models not judged"
    NO_QUORUM = "no quorum of validations"
    NO_IMPROVEMENT = "no improvement"
    WITHDRAWN = "client withdrew"
    REFUNDED = "client took the escrow back"
    WRONG_ESCROW = "escrow does not match the order"
    PARAMETERS_CHANGED = "parameters changed"
    FAULT = "fault of the ledger"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One line of the table: the window's phase, its duration's name in `Windows`, whether it closes when all have
    acted, the next window, and the kinds of transactions that it accepts.
    """

    phase: Phase
    duration: str | None
    closes_early: bool
    next: Window | None
    accepts: tuple[str, ...]


TABLE: dict[Window, Rule] = {
    Window.WAITING: Rule(phase=Phase.POOL, duration=None, closes_early=True, next=Window.COMMIT, accepts=("withdraw",)),
    Window.COMMIT: Rule(
        phase=Phase.TRAINING, duration="train_ms", closes_early=False, next=Window.REVEAL, accepts=("claim", "withdraw")
    ),
    Window.REVEAL: Rule(
        phase=Phase.TRAINING,
        duration="reveal_ms",
        closes_early=True,
        next=Window.RELEASE,
        accepts=("reveal_model", "attest_boxes"),
    ),
    Window.RELEASE: Rule(
        phase=Phase.VALIDATION,
        duration="release_ms",
        closes_early=True,
        next=Window.SCORE,
        accepts=("release_share", "release_key", "release_model_shares", "verdict"),
    ),
    Window.SCORE: Rule(
        phase=Phase.VALIDATION,
        duration="score_ms",
        closes_early=True,
        next=Window.OPEN_SCORES,
        accepts=("commit_scores",),
    ),
    Window.OPEN_SCORES: Rule(
        phase=Phase.VALIDATION,
        duration="open_scores_ms",
        closes_early=True,
        next=Window.CHALLENGE,
        accepts=("open_scores",),
    ),
    Window.CHALLENGE: Rule(
        phase=Phase.CHALLENGE,
        duration="challenge_ms",
        closes_early=False,
        next=Window.OPEN_CHALLENGES,
        accepts=("challenge", "verdict"),
    ),
    Window.OPEN_CHALLENGES: Rule(
        phase=Phase.CHALLENGE,
        duration="open_challenges_ms",
        closes_early=True,
        next=Window.JUDGE,
        accepts=("open_challenge", "verdict"),
    ),
    Window.JUDGE: Rule(
        phase=Phase.CHALLENGE, duration="judge_ms", closes_early=True, next=Window.FINALIZATION, accepts=("verdict",)
    ),
    Window.FINALIZATION: Rule(
        phase=Phase.FINALIZATION, duration=None, closes_early=False, next=Window.SETTLED, accepts=()
    ),
    Window.SETTLED: Rule(phase=Phase.ENDED, duration=None, closes_early=False, next=None, accepts=()),
    Window.VOID: Rule(phase=Phase.ENDED, duration=None, closes_early=False, next=None, accepts=()),
}

PLACES: dict[Window, int] = {window: place for place, window in enumerate(TABLE)}
"""Each window's place in the cycle, by which a rule tells too early from too late."""


def window_accepting(kind: str) -> Window:
    """The (last) window in which transactions of this kind are accepted."""
    return next(window for window in reversed(TABLE) if kind in TABLE[window].accepts)


def diagram() -> str:
    """The cycle as a Mermaid state diagram, drawn from the table."""
    lines = ["stateDiagram-v2", f"    [*] --> {Window.WAITING}"]
    for window, rule in TABLE.items():
        if rule.next is not None:
            how = "all have acted, or time is up" if rule.closes_early else "time is up"
            lines.append(f"    {window} --> {rule.next}: {', '.join(rule.accepts) or '-'} ({how})")
    lines += [
        f"    {window} --> {Window.VOID}"
        for window, rule in TABLE.items()
        if rule.phase not in (Phase.ENDED, Phase.FINALIZATION)
    ]
    lines += [
        f"    {Window.FINALIZATION} --> {Window.VOID}: {VoidReason.REFUNDED}",
        f"    {Window.SETTLED} --> [*]",
        f"    {Window.VOID} --> [*]",
    ]
    return "\n".join(lines)
