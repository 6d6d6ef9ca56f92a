"""What an order's winner must be better than: by default the exact score of the first weights, or that of the best
constant answer where it is better.

Without it a provider could return the client's own first weights, or a model that has learnt nothing but the most
frequent class, and win the reward. Both scores are computed on the test data before it is encrypted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from pot_lab.cards.scores import base_name, decimals_of, parameter_of, score_text
from pot_lab.notebook.arguments import check_winnable
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.posting import OrderTerms, PreparedOrder
from pot_lab.protocol.parameters import Direction, score_direction
from pot_lab.protocol.records import MICRO, ScoreSpec

if TYPE_CHECKING:
    from torch import Tensor

_MEDIAN_OF = {"mae"}
_CAP_NATS = 50.0
_CAP_DISTANCE = 10**10
_UNCOUNTED = -100


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where an order's race begins: totals over `count` test examples, in the unit of the score function.

    Attributes:
        weights_total: of the first weights, exact; None where their score is invalid, e.g. not finite.
        constant_total: of the best constant answer; computed in float64 for losses and distances.
        count: test examples.
        spec: the score function.
    """

    weights_total: int | None
    constant_total: int
    count: int
    spec: ScoreSpec

    @property
    def total(self) -> int:
        """The better of the two."""
        if self.weights_total is None:
            return self.constant_total
        best = max if _direction(self.spec) is Direction.HIGHER else min
        return best(self.weights_total, self.constant_total)


def start_of(prepared: PreparedOrder) -> Start:
    """Score the first weights and the best constant answer on the test data, exactly."""
    from pot_lab.scoring import score, unpack_dataset

    inputs, targets = unpack_dataset(prepared.test)
    spec = prepared.score
    own = score((prepared.graph, prepared.weights), inputs, targets, f"{spec.name}/{spec.version}")
    return Start(
        weights_total=own.total if own.valid else None,
        constant_total=constant_total(spec, targets),
        count=own.count,
        spec=spec,
    )


def constant_total(spec: ScoreSpec, targets: Tensor) -> int:
    """The total of the best answer that is the same for every example, found with the targets at hand.

    Args:
        spec: the score function.
        targets: as the function takes them, [examples, ...].
    """
    import torch

    from pot_lab.notebook.constants import best_constant

    name, examples = base_name(spec.name), len(targets)
    best = best_constant(f"{spec.name}/{spec.version}", targets)
    if best is not None:
        return best
    if name in ("mse", "mae"):
        rows = targets.reshape(examples, -1).to(torch.float64)
        middle = rows.median(0).values if name in _MEDIAN_OF else rows.mean(0)
        apart = (rows - middle).abs() if name in _MEDIAN_OF else (rows - middle) ** 2
        each = (apart.mean(1) * 10.0 ** decimals_of(spec.name)).clamp(0, _CAP_DISTANCE)
        return int(each.round().to(torch.int64).sum())
    flat = targets.reshape(examples, -1)
    counted = flat != _UNCOUNTED
    named = torch.bincount(flat[counted])
    if name == "accuracy":
        return int(named.max())
    if name == "top_k_accuracy":
        return int(named.sort(descending=True).values[: parameter_of(spec.name, "k", 5)].sum())
    if name == "macro_f1":
        most, classes = int(named.max()), parameter_of(spec.name, "classes", len(named))
        return 2 * most * MICRO * examples // ((most + examples) * classes)
    nats = (-(named.to(torch.float64) / max(1, int(named.sum()))).log()).clamp(0, _CAP_NATS)
    losses = torch.where(counted, nats[flat.clamp(min=0)], 0.0)
    if name == "perplexity":
        losses = losses.sum(1) / counted.sum(1).clamp(min=1)
    return math.floor(float(losses.sum()) * MICRO)


def with_baseline(terms: OrderTerms, start: Start) -> OrderTerms:
    """The terms with the baseline that they lack; one that the client gave is checked against the first weights.

    Raises:
        BadArgument: the first weights would win themselves, or no model could.
    """
    spec = start.spec
    gain = Fraction(terms.margin_micro, MICRO)
    if not terms.baseline_count:
        base = Fraction(start.total, start.count)
        check_winnable(spec.name, spec.version, base, gain, "the first weights' or a constant answer's")
        return replace(terms, baseline_total=start.total, baseline_count=start.count)
    if start.weights_total is not None:
        given = Fraction(terms.baseline_total, terms.baseline_count)
        first = Fraction(start.weights_total, start.count)
        if (first - given) * _direction(spec) > 0:
            raise BadArgument(
                "the first weights are better than `baseline`, so they would win themselves",
                seen=f"{float(given):g}, and {score_text(spec, start.weights_total, start.count)} for the weights",
                wanted=f"at least {float(first):g} for an example, or no baseline",
            )
    return terms


def _direction(spec: ScoreSpec) -> Direction:
    return score_direction(spec.name, spec.version) or Direction.HIGHER
