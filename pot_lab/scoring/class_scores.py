"""Score functions of classifiers beside accuracy and loss: calibration, weights, tokens and segmentation.

All are sums over examples, so one example shows a claim wrong.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import reductions
from pot_lab.scoring.losses import LOSS_CAP_NATS, micro_nats
from pot_lab.scoring.score_records import MICRO, AcceptedData, Family, ScoreFunction
from pot_lab.scoring.target_checks import (
    LARGEST_WEIGHT,
    NO_TOKEN,
    check_class_range,
    check_classes,
    check_place_range,
    check_places,
    check_token_range,
    check_tokens,
    check_weighted,
    check_weighted_range,
)


def _brier(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of the class probabilities from the target's, summed over classes, in millionths."""
    wanted = F.one_hot(targets, outputs.shape[-1]).to(torch.float64)
    apart = reductions.softmax(outputs, -1) - wanted
    return torch.round(reductions.exact_sum(apart * apart, (1,)) * float(MICRO)).to(torch.int64)


def _weighted_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (reductions.lowest_argmax(outputs, -1) == targets[:, 0]).to(torch.int64) * targets[:, 1]


def _weighted_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return micro_nats(outputs, targets[:, 0]) * targets[:, 1]


def _token_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of an example's tokens in millionths, halves rounded up: (2 10^6 right + n) // (2 n)."""
    rows, wanted = outputs.reshape(len(outputs), -1, outputs.shape[-1]), targets.reshape(len(targets), -1)
    counted = wanted != NO_TOKEN
    right = ((reductions.lowest_argmax(rows, -1) == wanted) & counted).sum(-1)
    count = counted.sum(-1)
    return torch.div(right * (2 * MICRO) + count, count * 2, rounding_mode="floor")


def _mean_iou(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes that an example's target or answer has: floor(sum of floor(10^6 I / U) / classes)."""
    examples, classes = outputs.shape[:2]
    found = reductions.lowest_argmax(outputs, 1).reshape(examples, -1)
    wanted = targets.reshape(examples, -1)
    counted = wanted != NO_TOKEN
    start = torch.arange(examples, device=outputs.device).unsqueeze(1) * classes

    def counts(of: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((of + start)[where], minlength=examples * classes).reshape(examples, classes)

    both = counts(found, counted & (found == wanted))
    union = counts(found, counted) + counts(wanted, counted) - both
    ratios = torch.div(both * MICRO, union.clamp(min=1), rounding_mode="floor")
    return torch.div(ratios.sum(1), (union > 0).sum(1).clamp(min=1), rounding_mode="floor")


BRIER = ScoreFunction(
    name="brier",
    version=1,
    higher_is_better=False,
    unit="millionths, summed over the classes",
    largest=2 * MICRO,
    evaluate=_brier,
    check=check_classes,
    check_targets=check_class_range,
)
WEIGHTED_ACCURACY = ScoreFunction(
    name="weighted_accuracy",
    version=1,
    higher_is_better=True,
    unit="weight of the examples classified rightly",
    largest=LARGEST_WEIGHT,
    evaluate=_weighted_accuracy,
    check=check_weighted,
    check_targets=check_weighted_range,
)
WEIGHTED_CROSS_ENTROPY = ScoreFunction(
    name="weighted_cross_entropy",
    version=1,
    higher_is_better=False,
    unit="micro-nats times weight, at most 50 nats an example",
    largest=LOSS_CAP_NATS * MICRO * LARGEST_WEIGHT,
    evaluate=_weighted_cross_entropy,
    check=check_weighted,
    check_targets=check_weighted_range,
)
TOKEN_ACCURACY = ScoreFunction(
    name="token_accuracy",
    version=1,
    higher_is_better=True,
    unit="millionths: the share of an example's tokens that are right",
    largest=MICRO,
    evaluate=_token_accuracy,
    check=check_tokens,
    check_targets=check_token_range,
)
MEAN_IOU = ScoreFunction(
    name="mean_iou",
    version=1,
    higher_is_better=True,
    unit="millionths: an example's mean intersection over union",
    largest=MICRO,
    evaluate=_mean_iou,
    check=check_places,
    check_targets=check_place_range,
)
_WEIGHTED = AcceptedData("(classes,)", "int64", f"(2,), class number and weight from 0 to {LARGEST_WEIGHT}")
CLASS_SCORES = {
    ("brier", 1): Family(
        make=lambda: BRIER,
        higher_is_better=False,
        value="squared distance of the softmax from the target's, in millionths: the Brier score",
        accepted=AcceptedData("(classes,)", "int64", "(), a class number"),
    ),
    ("weighted_accuracy", 1): Family(
        make=lambda: WEIGHTED_ACCURACY,
        higher_is_better=True,
        value="the example's weight if the largest output is the target's, else 0",
        accepted=_WEIGHTED,
    ),
    ("weighted_cross_entropy", 1): Family(
        make=lambda: WEIGHTED_CROSS_ENTROPY,
        higher_is_better=False,
        value="loss in micro-nats, at most 50 nats, times the example's weight",
        accepted=_WEIGHTED,
    ),
    ("token_accuracy", 1): Family(
        make=lambda: TOKEN_ACCURACY,
        higher_is_better=True,
        value="share of its tokens that are right, in millionths",
        accepted=AcceptedData(
            "(tokens, words) or (words,)", "int64", f"(tokens,) or (), token numbers; {NO_TOKEN} does not count"
        ),
    ),
    ("mean_iou", 1): Family(
        make=lambda: MEAN_IOU,
        higher_is_better=True,
        value="mean intersection over union of the classes in its target or answer, in millionths",
        accepted=AcceptedData(
            "(classes, places, ...)", "int64", f"(places, ...), class numbers; {NO_TOKEN} does not count"
        ),
    ),
}
