"""An order as plain JSON for the front end: what a notebook's output keeps, and what the server's feed sends.

Both are made here, so that a card in a saved notebook and the one that follows the ledger show the same. Money goes as
decimal strings of grains, since JavaScript's numbers end at 2^53; scores go as words beside their exact totals.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from pot_lab.cards.scores import score_text
from pot_lab.crypto.identity import format_address
from pot_lab.protocol.cycle import VoidReason
from pot_lab.protocol.parameters import Direction, score_direction
from pot_lab.protocol.records import ClaimScore, ScoreSpec
from pot_lab.protocol.views import ClaimView, OrderView

MIME = "application/vnd.pot-lab.order+json"
SHOWN_CLAIMS = 10
"""An order may have thousands of claims; a card shows so many, the best or the newest."""
RACE_POINTS = 120
"""So many points of the claims' course are kept."""


def order_card(view: OrderView, read_ms: int) -> dict[str, Any]:
    """The order as JSON values.

    Args:
        view: the order as the ledger has it.
        read_ms: when it was read (Unix milliseconds).
    Returns: names as in `OrderView`; besides, `best` and `to_beat` in words, `cost_grains` (reward, fee and bond),
        `back_grains` (what the client gets back), `revealed`, `opened`, the best or newest claims as `leaders`, and how
        claims came in as `race`.
    """
    order = view.order
    best = best_claim(view)
    leader = view.claim_by(view.winner) if view.winner else best
    score = leader.agreed if leader else None
    return {
        "id": view.id.hex(),
        "network_id": order.network_id.hex(),
        "title": order.title,
        "client": format_address(order.client),
        "phase": view.phase.value,
        "window": view.window.value,
        "put_ms": view.put_ms,
        "t0_ms": view.t0_ms,
        "closes_ms": view.closes_ms,
        "ended_ms": view.ended_ms,
        "train_ms": order.windows.train_ms,
        "longest_ms": order.windows.longest_ms,
        "reward_grains": str(order.reward_grains),
        "cost_grains": str(order.reward_grains + order.fee_grains + order.bond_grains),
        "back_grains": str(sum(one.grains for one in view.payouts if one.account == order.client)),
        "claims": len(view.claims),
        "revealed": sum(bool(claim.mid) for claim in view.claims),
        "newest_claim_ms": max((claim.committed_ms for claim in view.claims), default=0),
        "scores": len(view.validations),
        "opened": sum(one.score is not None for one in view.validations),
        "score_name": order.score.name,
        "leader": format_address(leader.provider) if leader and score else "",
        "leader_score": {"total": str(score.total), "count": score.count} if score else None,
        "to_beat": score_text(order.score, order.baseline_total, order.baseline_count) if order.baseline_count else "",
        "best": _words(order.score, best.agreed) if best and best.agreed else "",
        "void_reason": view.void_reason,
        "advice": void_advice(view.void_reason),
        "timeline": [
            {"name": one.name, "opened_ms": one.opened_ms, "closed_ms": one.closed_ms} for one in view.timeline
        ],
        "leaders": _leaders(view),
        "race": _race(view),
        "read_ms": read_ms,
    }


def best_claim(view: OrderView) -> ClaimView | None:
    """The claim of the best score that was agreed on, the earlier of two equal ones; None where there is none."""
    scored = [claim for claim in view.claims if _usable(claim.agreed)]
    return min(scored, key=_rank_by(view.order.score), default=None)


def void_advice(reason: str) -> str:
    """What the client can do about an order that ended void for this reason; "" where nothing is to be done."""
    if reason in ("", VoidReason.WITHDRAWN, VoidReason.REFUNDED):
        return ""
    if reason == VoidReason.NO_IMPROVEMENT:
        return "order again with a longer train_for or a lower baseline"
    if reason in (VoidReason.NO_CLAIMS, VoidReason.NOTHING_REVEALED):
        return "look whether a provider runs (`pot-lab mine provider`), and order again with a longer train_for"
    if reason == VoidReason.NOT_IN_CUSTODY:
        return "look whether the store that the order's links name answers the aggregators, and order again"
    if reason == VoidReason.INVALID_TEST_DATA:
        return "order again with `lab.order`, which seals the test data that it names"
    if reason == VoidReason.RELEASE_TOO_SHORT:
        return "order again with the network's usual release window or a longer one"
    if reason in (VoidReason.NOT_JUDGED, VoidReason.TEST_DATA_NOT_JUDGED):
        return "look whether the aggregators answer (`pot-lab status`), and order again with a longer release window"
    if reason == VoidReason.NO_QUORUM:
        return "look whether validators run (`pot-lab mine validator`), and order again"
    if reason == VoidReason.FAULT:
        return "nothing was paid or lost; report it with the order's id, and order again"
    return "order again"


def _leaders(view: OrderView) -> list[dict[str, Any]]:
    """The best claims once there are scores, else the newest ones."""
    spec = view.order.score
    scored = sorted((claim for claim in view.claims if _usable(claim.agreed)), key=_rank_by(spec))
    others = sorted((one for one in view.claims if not _usable(one.agreed)), key=lambda one: -one.committed_ms)
    return [
        {
            "provider": format_address(claim.provider),
            "committed_ms": claim.committed_ms,
            "score": _words(spec, claim.agreed) if claim.agreed else "",
        }
        for claim in [*scored, *others][:SHOWN_CLAIMS]
    ]


def _race(view: OrderView) -> list[list[float | None]]:
    """How claims came in: [Unix milliseconds, claims so far, best score per example so far], oldest first.

    The score is None before there is one. Of many claims as many are left as a picture needs, the last among them.
    """
    rank, points = _rank_by(view.order.score), list[list[float | None]]()
    best: ClaimView | None = None
    claims = sorted(view.claims, key=lambda claim: claim.committed_ms)
    stride = -(-len(claims) // RACE_POINTS) or 1
    for number, claim in enumerate(claims, 1):
        if _usable(claim.agreed) and (best is None or rank(claim) < rank(best)):
            best = claim
        if number % stride == 0 or number == len(claims):
            score = best.agreed if best is not None else None
            points.append([claim.committed_ms, number, score.total / score.count if score is not None else None])
    return points


def _usable(score: ClaimScore | None) -> bool:
    return score is not None and score.valid and score.count > 0


def _rank_by(spec: ScoreSpec) -> Callable[[ClaimView], Fraction]:
    """A key that sorts scored claims, the best first."""
    direction = score_direction(spec.name, spec.version) or Direction.HIGHER

    def key(claim: ClaimView) -> Fraction:
        score = claim.agreed
        return -direction * Fraction(score.total, score.count) if score is not None else Fraction(0)

    return key


def _words(spec: ScoreSpec, score: ClaimScore) -> str:
    return score_text(spec, score.total, score.count) if score.valid and score.count else "not usable"
