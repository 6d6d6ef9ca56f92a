"""An order as text and as an HTML card: pure functions of an order's view and the time."""

from __future__ import annotations

import html

from pot_lab.cards.order_card import best_claim, void_advice
from pot_lab.cards.scores import score_text
from pot_lab.crypto.identity import format_address
from pot_lab.notebook.quantities import pot, seconds_text
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.views import OrderView

_STEPS = (
    Window.COMMIT,
    Window.REVEAL,
    Window.RELEASE,
    Window.SCORE,
    Window.OPEN_SCORES,
    Window.CHALLENGE,
    Window.FINALIZATION,
    Window.SETTLED,
)


def describe(view: OrderView, now_ms: int) -> str:
    """The order in a few lines of text.

    Args:
        view: the order as the ledger has it.
        now_ms: the time (Unix milliseconds) that the countdown is for.
    """
    return "\n".join(f"  {name:<10} {value}" for name, value in _facts(view, now_ms))


def card_html(view: OrderView, now_ms: int) -> str:
    """The order as a small static HTML card; everything that a client wrote is escaped.

    Args:
        view: the order as the ledger has it.
        now_ms: the time (Unix milliseconds) that the countdown is for.
    """
    rows = "".join(
        f"<tr><th style='text-align:left;padding-right:1em'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in _facts(view, now_ms)
    )
    passed = {span.name for span in view.timeline}
    marks = " → ".join(
        f"<b>{name}</b>"
        if step == view.window
        else f"<span style='opacity:{1 if step in passed else 0.4}'>{name}</span>"
        for step, name in ((step, step.replace("_", " ")) for step in _STEPS)
    )
    title = html.escape(view.order.title or "Order")
    return (
        "<div style='border:1px solid var(--jp-border-color2,#ccc);border-radius:4px;padding:8px 12px;max-width:44em'>"
        f"<div style='font-weight:600'>{title} <code>{view.id.hex()[:12]}</code></div>"
        f"<div style='margin:4px 0'>{marks}</div><table>{rows}</table></div>"
    )


def _facts(view: OrderView, now_ms: int) -> list[tuple[str, str]]:
    order = view.order
    facts = [("window", f"{view.window} ({view.phase})")]
    if view.closes_ms and not view.ended:
        facts.append(("closes in", seconds_text(view.closes_ms - now_ms)))
    cost = order.reward_grains + order.fee_grains + order.bond_grains
    facts.append(("reward", f"{pot(order.reward_grains)} POT (escrowed with fee and bond: {pot(cost)} POT)"))
    if order.baseline_count:
        start = score_text(order.score, order.baseline_total, order.baseline_count)
        facts.append(("to beat", f"{start} → now {_best(view)}" if any(c.agreed for c in view.claims) else start))
    revealed = sum(bool(claim.mid) for claim in view.claims)
    facts.append(("claims", f"{len(view.claims)}, {revealed} revealed"))
    opened = sum(validation.score is not None for validation in view.validations)
    if view.validations:
        facts.append(("scores", f"{opened} of {len(view.validations)} opened"))
    if view.winner:
        claim = view.claim_by(view.winner)
        score = claim.agreed if claim else None
        text = score_text(order.score, score.total, score.count) if score and score.count else "?"
        facts.append(("winner", f"{format_address(view.winner)}: {text}"))
    if view.void_reason:
        facts.append(("void", why_void(view)))
    return facts


def why_void(view: OrderView) -> str:
    """Why an order ended without a model: the reason with its figures, what to do next, and what comes back."""
    figures = ""
    if view.void_reason == VoidReason.NO_IMPROVEMENT:
        order = view.order
        base = score_text(order.score, order.baseline_total, order.baseline_count) if order.baseline_count else "none"
        figures = f" (best: {_best(view)}, to beat: {base})"
    back = sum(payout.grains for payout in view.payouts if payout.account == view.order.client)
    back_text = f"{pot(back)} POT come back with the settlement" if back else ""
    parts = [f"{view.void_reason}{figures}", void_advice(view.void_reason), back_text]
    return "; ".join(part for part in parts if part)


def _best(view: OrderView) -> str:
    """The best score that was agreed on, in words."""
    best = best_claim(view)
    score = best.agreed if best else None
    return score_text(view.order.score, score.total, score.count) if score else "no valid score"
