"""Tables and pictures of an order: which model was best, and how its cycle went. Importing this imports pandas and
matplotlib; the user's plotting backend is not touched.
"""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pot_lab.crypto.identity import format_address
from pot_lab.protocol.cycle import TABLE, Phase, Window
from pot_lab.protocol.parameters import GRAINS_PER_POT, Direction, score_direction
from pot_lab.protocol.records import ClaimScore
from pot_lab.protocol.views import ClaimView, OrderView

_COLOURS = {
    Phase.TRAINING: "#4c78a8",
    Phase.VALIDATION: "#f58518",
    Phase.CHALLENGE: "#b279a2",
    Phase.FINALIZATION: "#54a24b",
}


def leaderboard(view: OrderView) -> pd.DataFrame:
    """Revealed claims, best first, one row each.

    Returns: a frame indexed by `rank` (from 1) with the columns `provider` (address), `score` (per example; missing
        while none is agreed on), `total` and `count` (the exact score), `committed_s` (seconds after the order
        started), `payout_pot` (the winner's reward in POT) and `model` (its id in hex).
    """
    spec = view.order.score
    direction = int(score_direction(spec.name, spec.version) or Direction.HIGHER)

    def rank(claim: ClaimView) -> tuple[bool, int, int]:
        agreed = _valid_score(claim)
        return agreed is None, -direction * agreed.total if agreed else 0, claim.place

    rows: list[dict[str, object]] = []
    for claim in sorted((claim for claim in view.claims if claim.mid), key=rank):
        agreed = _valid_score(claim)
        paid = sum(p.grains for p in view.payouts if p.account == claim.provider and p.reason == "winner")
        rows.append(
            {
                "provider": format_address(claim.provider),
                "score": agreed.total / agreed.count if agreed else None,
                "total": agreed.total if agreed else None,
                "count": agreed.count if agreed else None,
                "committed_s": (claim.committed_ms - view.t0_ms) / 1000,
                "payout_pot": paid / GRAINS_PER_POT,
                "model": claim.mid.hex(),
            }
        )
    columns = ["provider", "score", "total", "count", "committed_s", "payout_pot", "model"]
    frame = pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="rank"))
    return frame.astype({"total": "Int64", "count": "Int64"})


def _valid_score(claim: ClaimView) -> ClaimScore | None:
    return claim.agreed if claim.agreed and claim.agreed.valid else None


def draw_scores(view: OrderView, axes: Axes | None = None) -> Figure | Axes:
    """Each revealed model's score per example against the time of its commitment, in seconds after the start.

    Args:
        view: the order as the ledger has it.
        axes: where to draw; by default a new figure.
    Returns: the axes if given, else the new figure.
    """
    board = leaderboard(view)
    figure = None
    if axes is None:
        figure = _figure(6, 3.5)
        axes = figure.subplots()
    axes.scatter(board["committed_s"], board["score"], s=60, color=_COLOURS[Phase.TRAINING])
    for _, row in board.iterrows():
        axes.annotate(
            row["provider"][:8],
            (row["committed_s"], row["score"]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlabel("committed, s after start")
    axes.set_ylabel("score per example")
    return figure or axes


def draw_timeline(view: OrderView, path: str | Path | None = None) -> Figure:
    """Windows as bars, claims and scores as marks, over seconds since the order started.

    Args:
        view: the order as the ledger has it.
        path: where to save the picture (PNG); None to only return the figure.
    """
    spans = [span for span in view.timeline if span.name not in (Window.WAITING, Window.SETTLED, Window.VOID)]
    end_ms = max([span.closed_ms for span in spans] + [span.opened_ms for span in spans] + [view.t0_ms])

    def second(ms: int) -> float:
        return (ms - view.t0_ms) / 1000

    figure = _figure(9, 0.42 * len(spans) + 1.6)
    axes = figure.subplots()
    for row, span in enumerate(spans):
        closed = span.closed_ms or end_ms
        width = max(second(closed) - second(span.opened_ms), 0.02)
        colour = _COLOURS.get(TABLE[Window(span.name)].phase, "#999999")
        axes.barh(row, width, left=second(span.opened_ms), color=colour, alpha=0.75, height=0.6)
        axes.text(
            second(closed) + second(end_ms) * 0.01, row, f"{width:.1f} s", va="center", fontsize=8, color="#444444"
        )
    places = {span.name: row for row, span in enumerate(spans)}
    marks: list[tuple[str, list[int], str, str]] = [
        (Window.COMMIT, [claim.committed_ms for claim in view.claims], "^", "last commitment of each provider"),
        (Window.REVEAL, [claim.revealed_ms for claim in view.claims if claim.revealed_ms], "v", "model revealed"),
        (Window.SCORE, [v.committed_ms for v in view.validations], "o", "score committed"),
        (Window.OPEN_SCORES, [v.opened_ms for v in view.validations if v.opened_ms], "s", "score opened"),
    ]
    for name, times, marker, label in marks:
        if name in places and times:
            axes.scatter(
                [second(t) for t in times],
                [places[name]] * len(times),
                marker=marker,
                color="#222222",
                s=22,
                zorder=3,
                label=label,
            )
    axes.set_yticks(range(len(spans)), [span.name.replace("_", " ") for span in spans])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the order started")
    axes.set_xlim(0, second(end_ms) * 1.12 + 0.1)
    outcome = (
        f"void: {view.void_reason}"
        if view.void_reason
        else f"winner {format_address(view.winner)[:10]}…"
        if view.winner
        else str(view.window)
    )
    axes.set_title(f"{view.order.title or 'Order'} {view.id.hex()[:8]}: {outcome}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, loc="lower left", frameon=False)
    figure.tight_layout()
    if path:
        figure.savefig(path, dpi=120)
    return figure


class Picture(Figure):
    """A matplotlib figure that a notebook shows as PNG, whatever plotting backend the user has chosen."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def _figure(width: float, height: float) -> Picture:
    figure = Picture(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure
