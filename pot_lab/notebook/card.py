"""An order as text and as an HTML card."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from pot_lab.crypto.identity import format_address
from pot_lab.notebook.quantities import pot, seconds_text
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.views import OrderView

if TYPE_CHECKING:
    pass


def describe(view: OrderView) -> str:
    """The order in a few lines of text."""
    return "\n".join(f"  {name:<10} {value}" for name, value in _facts(view))


def card_html(view: OrderView) -> str:
    """The order as a small static card."""
    rows = "".join(
        f"<tr><th style='text-align:left;padding-right:1em'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in _facts(view)
    )
    passed = {span.name for span in view.timeline}
    steps = [
        Window.COMMIT,
        Window.REVEAL,
        Window.RELEASE,
        Window.SCORE,
        Window.OPEN_SCORES,
        Window.CHALLENGE,
        Window.FINALIZATION,
        Window.SETTLED,
    ]
    marks = " → ".join(
        f"<b>{name}</b>"
        if step == view.window
        else f"<span style='opacity:{1 if step in passed else 0.4}'>{name}</span>"
        for step, name in ((step, step.replace("_", " ")) for step in steps)
    )
    title = html.escape(view.order.title or "Order")
    return (
        "<div style='border:1px solid var(--jp-border-color2,#ccc);border-radius:4px;padding:8px 12px;max-width:44em'>"
        f"<div style='font-weight:600'>{title} <code>{view.id.hex()[:12]}</code></div>"
        f"<div style='margin:4px 0'>{marks}</div><table>{rows}</table></div>"
    )


def _facts(view: OrderView) -> list[tuple[str, str]]:
    order = view.order
    facts = [("window", f"{view.window} ({view.phase})")]
    if view.closes_ms and not view.ended:
        facts.append(("closes in", seconds_text(view.closes_ms - time.time_ns() // 1_000_000)))
    cost = order.reward_grains + order.fee_grains + order.bond_grains
    facts.append(("reward", f"{pot(order.reward_grains)} POT (escrowed with fee and bond: {pot(cost)} POT)"))
    revealed = sum(bool(claim.mid) for claim in view.claims)
    facts.append(("claims", f"{len(view.claims)}, {revealed} revealed"))
    opened = [v for v in view.validations if v.score is not None]
    if view.validations:
        facts.append(("scores", f"{len(opened)} of {len(view.validations)} opened"))
    if view.winner:
        claim = view.claim_by(view.winner)
        score = claim.agreed if claim else None
        text = (
            f"{score.total} of {score.count}"
            if score and order.score.name == "accuracy"
            else f"total {score.total}, count {score.count}"
            if score
            else "?"
        )
        facts.append(("winner", f"{format_address(view.winner)}: {text}"))
    if view.void_reason:
        facts.append(("void", view.void_reason))
    return facts
