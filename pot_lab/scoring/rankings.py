"""Score functions of order and of several labels: AUC, NDCG and F1.

AUC and the F1 functions are no sums over examples: an example's value is what the total needs of it, its place in the
order or its counts, and the total is made of all values at once, in whole numbers.
"""

from __future__ import annotations

import torch
from numpy import searchsorted, sort, uint64
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.scoring import elementwise, reductions
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.graph.model_graph import Output
from pot_lab.scoring.score_records import MICRO, AcceptedData, Bounds, Family, ScoreFunction
from pot_lab.scoring.target_checks import (
    LARGEST_GRADE,
    LARGEST_TOKENS,
    NO_TOKEN,
    check_binary,
    check_binary_range,
    check_grade_range,
    check_items,
    check_label_range,
    check_labels,
)

_LARGEST_FLOAT32 = (2.0 - 2.0**-23) * 2.0**127
_MIDDLE = 1 << 31
_COUNT_BITS = 18
"""Of a number of labels, at most 2^16, twice."""


def order_code(margins: Tensor) -> Tensor:
    """Whole numbers of 32 bits in the order of float64 numbers rounded to float32: int64; equal for +0 and -0."""
    rounded = margins.clamp(-_LARGEST_FLOAT32, _LARGEST_FLOAT32).to(torch.float32) + 0.0
    bits = rounded.view(torch.int32).to(torch.int64)
    return torch.where(bits >= 0, bits + _MIDDLE, _MIDDLE - (bits & (_MIDDLE - 1)))


def _auc_value(outputs: Tensor, targets: Tensor) -> Tensor:
    """Twice the code of how much more class 1 is than class 0, and the target."""
    margins = outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0]
    return order_code(margins) * 2 + targets


def _auc_total(values: NDArray[uint64]) -> int:
    """floor(10^6 n (2 W + T) / (2 P N)): of the P N pairs W have the target 1 above the target 0, T are equal."""
    codes, ones = values >> uint64(1), (values & uint64(1)).astype(bool)
    above, below = codes[ones], sort(codes[~ones])
    if not len(above) or not len(below):
        return 0
    wins = int(searchsorted(below, above, "left").sum())
    reached = int(searchsorted(below, above, "right").sum())
    return MICRO * len(values) * (wins + reached) // (2 * len(above) * len(below))


AUC = ScoreFunction(
    name="auc",
    version=1,
    higher_is_better=True,
    unit="millionths of the area under the ROC curve, times the number of examples",
    largest=(1 << 33) - 1,
    evaluate=_auc_value,
    check=check_binary,
    check_targets=check_binary_range,
    total=_auc_total,
)


def _ndcg(k: int) -> ScoreFunction:
    def evaluate(outputs: Tensor, targets: Tensor) -> Tensor:
        counted = targets != NO_TOKEN
        places = min(k, outputs.shape[1])
        ranks = torch.arange(2.0, places + 2.0, dtype=torch.float64, device=outputs.device)
        discounts = divide(elementwise.log(torch.full_like(ranks, 2.0)), elementwise.log(ranks))
        gains = elementwise.power_of_two(targets.masked_fill(~counted, 0)) - 1.0
        ahead = outputs.masked_fill(~counted, -torch.inf).sort(dim=1, descending=True, stable=True).indices
        best = gains.sort(1, descending=True).values
        found = reductions.exact_sum(gains.gather(1, ahead[:, :places]) * discounts, (1,))
        ideal = reductions.exact_sum(best[:, :places] * discounts, (1,))
        return torch.round(divide(found, ideal) * float(MICRO)).to(torch.int64)

    return ScoreFunction(
        name="ndcg",
        version=1,
        higher_is_better=True,
        unit=f"millionths of an example's normalised discounted gain of the first {k} items",
        largest=MICRO,
        evaluate=evaluate,
        check=check_items,
        check_targets=check_grade_range,
    )


def _named(outputs: Tensor, threshold: int) -> Tensor:
    """Labels whose probability is above the threshold in thousandths."""
    return elementwise.sigmoid(outputs) > threshold / 1000


def _micro_f1(threshold: int) -> ScoreFunction:
    def evaluate(outputs: Tensor, targets: Tensor) -> Tensor:
        counted, found = targets != NO_TOKEN, _named(outputs, threshold)
        wanted = targets == 1
        right = (found & wanted).sum(-1)
        wrong = ((found != wanted) & counted).sum(-1)
        return right * (1 << _COUNT_BITS) + wrong

    def total(values: NDArray[uint64]) -> int:
        right = int((values >> uint64(_COUNT_BITS)).sum())
        wrong = int((values & uint64((1 << _COUNT_BITS) - 1)).sum())
        return 2 * right * MICRO * len(values) // (2 * right + wrong) if right else 0

    return ScoreFunction(
        name="multilabel_micro_f1",
        version=1,
        higher_is_better=True,
        unit="millionths of the F1 over all labels of all examples, times the number of examples",
        largest=(LARGEST_TOKENS << _COUNT_BITS) + LARGEST_TOKENS,
        evaluate=evaluate,
        check=check_labels,
        check_targets=lambda output, targets: check_label_range(output, targets, may_skip=True),
        total=total,
    )


def _macro_f1(labels: int, threshold: int) -> ScoreFunction:
    def evaluate(outputs: Tensor, targets: Tensor) -> Tensor:
        pairs = targets * 2 + _named(outputs, threshold).to(torch.int64)
        return (pairs << (2 * torch.arange(labels, device=outputs.device))).sum(-1)

    def check(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        check_labels(output, dtype, shape, labels)

    def total(values: NDArray[uint64]) -> int:
        """Sum over labels of floor(2 TP 10^6 n / ((2 TP + FP + FN) labels)), 0 for a label without either."""
        sums = 0
        for label in range(labels):
            pairs = (values >> uint64(2 * label)) & uint64(3)
            right, wrong = int((pairs == 3).sum()), int(((pairs == 1) | (pairs == 2)).sum())
            sums += 2 * right * MICRO * len(values) // ((2 * right + wrong) * labels) if right else 0
        return sums

    return ScoreFunction(
        name="multilabel_macro_f1",
        version=1,
        higher_is_better=True,
        unit="millionths of the mean F1 of the labels, times the number of examples",
        largest=(1 << (2 * labels)) - 1,
        evaluate=evaluate,
        check=check,
        check_targets=lambda output, targets: check_label_range(output, targets, may_skip=False),
        total=total,
    )


_THRESHOLD = Bounds(1, 999, 500)
RANKINGS = {
    ("auc", 1): Family(
        make=lambda: AUC,
        higher_is_better=True,
        value="place in the order of all answers, and target; the total is 10^6 times the area under the ROC curve, "
        "times the examples",
        accepted=AcceptedData("(2,) or (1,)", "int64", "(), 0 or 1"),
    ),
    ("ndcg", 1): Family(
        make=_ndcg,
        parameters={"k": Bounds(1, 1000, 10)},
        higher_is_better=True,
        value="normalised discounted gain of the k items with the largest outputs, in millionths",
        accepted=AcceptedData(
            "(items,)", "int64", f"(items,), grades from 0 to {LARGEST_GRADE}; {NO_TOKEN} is no item"
        ),
    ),
    ("multilabel_micro_f1", 1): Family(
        make=_micro_f1,
        parameters={"threshold": _THRESHOLD},
        higher_is_better=True,
        value="counts of right and wrong labels; the total is 10^6 times the F1 of all of them, times the examples",
        accepted=AcceptedData("(labels,)", "int64", f"(labels,), 0 or 1; {NO_TOKEN} does not count"),
    ),
    ("multilabel_macro_f1", 1): Family(
        make=_macro_f1,
        parameters={"labels": Bounds(2, 18, None), "threshold": _THRESHOLD},
        higher_is_better=True,
        value="target and answer of each label; the total is 10^6 times the mean F1 of the labels, times the examples",
        accepted=AcceptedData("(labels,)", "int64", "(labels,), 0 or 1"),
    ),
}
