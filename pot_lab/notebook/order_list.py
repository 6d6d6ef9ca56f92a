"""Several orders: as a list that shows itself as a table, and beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pot_lab.cards.scores import score_text
from pot_lab.crypto.identity import format_address
from pot_lab.notebook.order import Order
from pot_lab.notebook.quantities import pot, seconds_text
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.protocol.records import ScoreSpec
from pot_lab.protocol.views import OrderSummary, OrderView

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["order", "title", "mine", "window", "claims", "best", "reward_pot", "train_s", "age_s", "left_s", "void"]


class OrderList(list[Order]):
    """Orders that a notebook shows as a table; `table()` is that table as a DataFrame.

    Args:
        orders: the orders.
        summaries: what the ledger said of each of them, in the same order.
        mine: the account's address (20 bytes).
        now_ms: when it said so (Unix milliseconds).
    """

    def __init__(self, orders: Iterable[Order], summaries: Sequence[OrderSummary], mine: bytes, now_ms: int) -> None:
        super().__init__(orders)
        self._summaries, self._mine, self._now_ms = list(summaries), mine, now_ms

    def table(self) -> pd.DataFrame:
        """One row an order, as when the list was made: `order` (the id's first digits), `title`, `mine`, `window`,
        `claims`, `best` (the leading score in words), `reward_pot`, `train_s`, `age_s`, `left_s` in its window and
        `void` (why it has no model).
        """
        import pandas as pd

        return pd.DataFrame([self._row(each) for each in self._summaries], columns=COLUMNS).set_index("order")

    def __repr__(self) -> str:
        if not self:
            return "no orders"
        return "\n".join(_line(each, self._now_ms) for each in self._summaries)

    def _repr_html_(self) -> str:
        return str(self.table().fillna("").to_html(escape=True)) if self else "no orders"

    def _row(self, each: OrderSummary) -> list[object]:
        began_ms = each.t0_ms or self._now_ms
        left_s = max(0, each.closes_ms - self._now_ms) // 1000 if each.closes_ms and not each.ended_ms else None
        return [
            each.id.hex()[:12], each.title, each.client == self._mine, str(each.window), each.claims, _best(each),
            each.reward_grains / GRAINS_PER_POT, each.train_ms / 1000, (self._now_ms - began_ms) // 1000, left_s,
            each.void_reason,
        ]  # fmt: skip


def _best(each: OrderSummary) -> str:
    score = each.leader_score
    if score is None or not score.valid or not score.count:
        return ""
    return score_text(ScoreSpec(name=each.score_name, version=1), score.total, score.count)


def _line(each: OrderSummary, now_ms: int) -> str:
    left = seconds_text(each.closes_ms - now_ms) if each.closes_ms and not each.ended_ms else ""
    outcome = each.void_reason or _best(each)
    return (
        f"{each.id.hex()[:12]}  {each.window:<14} {left:>10}  {pot(each.reward_grains):>8} POT  {outcome}  {each.title}"
    )


COMPARED = [
    "order", "title", "score", "to_beat", "best", "gain", "claims", "train_s", "took_s", "reward_pot", "winner", "void",
]  # fmt: skip


def compare(views: Sequence[OrderView]) -> pd.DataFrame:
    """Orders beside each other, one row each, indexed by the id's first digits.

    Returns: `title`, `score` (the function), `to_beat` and `best` (per example), `gain` (how much better the winner is
        per example; missing without one), `claims`, `train_s`, `took_s` (from start to end; missing while it runs),
        `reward_pot`, `winner` (address) and `void` (why there is no model).
    """
    import pandas as pd

    return pd.DataFrame([_compared(view) for view in views], columns=COMPARED).set_index("order")


def _compared(view: OrderView) -> list[object]:
    order = view.order
    claim = view.claim_by(view.winner) if view.winner else None
    agreed = claim.agreed if claim is not None else None
    base = order.baseline_total / order.baseline_count if order.baseline_count else None
    best = agreed.total / agreed.count if agreed is not None and agreed.valid and agreed.count else None
    over = view.window in (Window.SETTLED, Window.VOID) and view.ended_ms and view.t0_ms
    return [
        view.id.hex()[:12], order.title, f"{order.score.name}/{order.score.version}", base, best,
        abs(best - base) if best is not None and base is not None else None, len(view.claims),
        order.windows.train_ms / 1000, (view.ended_ms - view.t0_ms) / 1000 if over else None,
        order.reward_grains / GRAINS_PER_POT, format_address(view.winner) if view.winner else "", view.void_reason,
    ]  # fmt: skip
