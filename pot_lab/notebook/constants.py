"""The best answer that is the same for every example, for the score functions that have no formula for its total.

Each gives its outputs, which the score function then scores exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pot_lab.cards.scores import LABELS, SCALED, WEIGHTED
from pot_lab.notebook.predictors import total_of_constant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from pot_lab.scoring import ScoreFunction

_UNCOUNTED = -100
_TRIED_CLASSES = 4
_SURE = 100.0
_RAREST = 1e-12
"""Probability of a class that no test target has."""


def best_constant(identifier: str, targets: Tensor) -> int | None:
    """The total of the best of some constant answers; None for functions that have a formula for it.

    Args:
        identifier: the score function.
        targets: as the function takes them, [examples, ...].
    """
    from pot_lab.scoring import score_function

    function = score_function(identifier)
    totals = [total_of_constant(function, answer, targets) for answer in _answers(function, targets)]
    if not totals:
        return None
    return max(totals) if function.higher_is_better else min(totals)


def _answers(function: ScoreFunction, targets: Tensor) -> Iterator[Tensor]:
    import torch

    name = function.name
    if name in SCALED or name == "quantile_loss":
        rows = targets.to(torch.float64)
        if name == "scaled_mse":
            yield rows.mean(0)
        elif name == "scaled_mae":
            yield rows.median(0).values
        else:
            yield rows.quantile(dict(function.parameters).get("permille", 500) / 1000, 0, interpolation="lower")
            yield rows.quantile(dict(function.parameters).get("permille", 500) / 1000, 0, interpolation="higher")
    elif name in ("brier", *WEIGHTED):
        yield from _of_classes(name, targets)
    elif name in ("token_accuracy", "mean_iou"):
        yield from _at_all_places(name, targets)
    elif name == "auc":
        yield torch.zeros(2, dtype=torch.float64)
    elif name == "ndcg":
        counted = targets != _UNCOUNTED
        yield torch.where(counted, 2.0**targets - 1.0, 0.0).sum(0) / counted.sum(0).clamp(min=1).to(torch.float64)
    elif name in LABELS:
        yield from _of_labels(name, targets)


def _of_classes(name: str, targets: Tensor) -> Iterator[Tensor]:
    import torch

    weighted = name in WEIGHTED
    numbers = targets[:, 0] if weighted else targets
    weights = targets[:, 1].to(torch.float64) if weighted else torch.ones(len(targets), dtype=torch.float64)
    sums = torch.bincount(numbers, weights, minlength=int(numbers.max()) + 2)
    if name == "weighted_accuracy":
        yield torch.nn.functional.one_hot(sums.argmax(), len(sums)).to(torch.float64)
    else:
        yield (sums / sums.sum().clamp(min=1.0)).clamp(min=_RAREST).log()


def _at_all_places(name: str, targets: Tensor) -> Iterator[Tensor]:
    """One class at all places, of the most frequent ones."""
    import torch

    counts = torch.bincount(targets[targets != _UNCOUNTED])
    for number in counts.argsort(descending=True)[:_TRIED_CLASSES]:
        answer = torch.zeros((len(counts) + 1, *targets.shape[1:]), dtype=torch.float64)
        answer[number] = _SURE
        yield answer if name == "mean_iou" else answer.movedim(0, -1)


def _of_labels(name: str, targets: Tensor) -> Iterator[Tensor]:
    """All labels; for F1 over all of them the most frequent ones, as many as are best."""
    import torch

    yield torch.full(targets.shape[1:], _SURE, dtype=torch.float64)
    if name == "multilabel_micro_f1":
        ones, zeros = (targets == 1).sum(0), (targets == 0).sum(0)
        order = ones.argsort(descending=True)
        right, wrong = ones[order].cumsum(0), zeros[order].cumsum(0)
        f1 = 2 * right / (right + wrong + ones.sum()).clamp(min=1)
        answer = torch.full(targets.shape[1:], -_SURE, dtype=torch.float64)
        answer[order[: int(f1.argmax()) + 1]] = _SURE
        yield answer
