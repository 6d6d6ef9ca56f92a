"""What answers without a model would score: the right ones, and the right ones of other examples.

A score that is no better for the right answers than for the same answers in another order says nothing about a model,
whatever its definition promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pot_lab.cards.scores import DISTANCES, LABELS, WEIGHTED
from pot_lab.notebook.errors import BadArgument

if TYPE_CHECKING:
    from torch import Tensor

    from pot_lab.scoring import ScoreFunction
    from pot_lab.scoring.graph.model_graph import Output

_SURE = 100.0
"""Score of the class that an answer names, above 0 of all others: a loss of less than a micro-nat."""
_LARGEST_BLOCK, _LARGEST_LOOK = 1 << 22, 1 << 28
"""Elements of answers at once, and in all."""
_ORDERS = 8


@dataclass(frozen=True, kw_only=True)
class Predictors:
    """Exact totals over the first `count` test examples, in the unit of the score function.

    Attributes:
        right: of the right answers.
        shuffled: of the right answers, given to other examples.
        count: examples looked at; all, unless their answers would be very large.
    """

    right: int
    shuffled: int
    count: int


def right_outputs(function: ScoreFunction, output: Output, targets: Tensor) -> Tensor:
    """Outputs of a model that gives the right answers: float64 [examples, *output.shape].

    Args:
        function: the score function.
        output: the model's output for one example.
        targets: [examples, ...].
    """
    import torch

    name = function.name
    if name in DISTANCES or name == "ndcg":
        return targets.to(torch.float64)
    if name in LABELS:
        return (targets.clamp(min=0) * 2.0 - 1.0).to(torch.float64) * _SURE
    if name == "auc" and output.shape == (1,):
        return targets.unsqueeze(1).to(torch.float64)
    axis = 1 if name == "mean_iou" else -1
    if name in WEIGHTED:
        targets = targets[:, 0]
    places = targets.clamp(min=0).unsqueeze(axis)
    outputs = torch.zeros((len(targets), *output.shape), dtype=torch.float64)
    return outputs.scatter_(axis, places, _SURE)


def predictors(function: ScoreFunction, output: Output, targets: Tensor) -> Predictors:
    """Score the right answers, in their order and in another.

    Args:
        function: the score function.
        output: the model's output for one example.
        targets: of the test data, which fit both.
    """
    each = max(1, int(np.prod(output.shape)))
    count = min(len(targets), max(2, _LARGEST_LOOK // each))
    own = targets[:count].cpu()
    other = own[_another_order(own)]
    return Predictors(
        right=_total(function, output, own, own), shuffled=_total(function, output, own, other), count=count
    )


def _another_order(targets: Tensor) -> Tensor:
    """Of some orders the one that gives most examples another target, the same each time."""
    import torch

    rows = targets.reshape(len(targets), -1)
    generator = torch.Generator().manual_seed(0)
    tried = [torch.randperm(len(targets), generator=generator) for _ in range(_ORDERS)]
    return max(tried, key=lambda order: int((rows[order] != rows).any(1).sum()))


def _total(function: ScoreFunction, output: Output, targets: Tensor, answers: Tensor) -> int:
    rows = max(1, _LARGEST_BLOCK // max(1, int(np.prod(output.shape))))
    values = [
        function.evaluate(
            right_outputs(function, output, answers[start : start + rows]), targets[start : start + rows]
        ).numpy()
        for start in range(0, len(targets), rows)
    ]
    return function.total_of(np.concatenate(values))


def total_of_constant(function: ScoreFunction, answer: Tensor, targets: Tensor) -> int:
    """The total of a model that gives one answer, its outputs for one example, for all examples."""
    rows = max(1, _LARGEST_BLOCK // max(1, answer.numel()))
    parts = [targets[start : start + rows] for start in range(0, len(targets), rows)]
    values = [function.evaluate(answer.expand(len(part), *answer.shape), part).numpy() for part in parts]
    return function.total_of(np.concatenate(values))


def check_order_matters(function: ScoreFunction, output: Output, targets: Tensor) -> Predictors:
    """Refuse a score that the right answers do not improve.

    Raises: BadArgument, with what to use instead.
    """
    found = predictors(function, output, targets)
    sign = 1 if function.higher_is_better else -1
    if (found.right - found.shuffled) * sign <= 0:
        raise BadArgument(
            f"{function.identifier} of these test data is no better for the right answers than for the same answers in "
            "another order, so it says nothing about a model",
            seen=f"a total of {found.right} and of {found.shuffled}, over {found.count} examples",
            wanted="test targets that differ between examples, or another score function",
        )
    return found
