"""What training makes small for scores of regression in their own scale, weights, places, rankings and labels.

One loss for each example, of which a batch's is the sum; and what a mean is divided by.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import ScoreFunction
from pot_lab.scoring.distances import scale_of
from pot_lab.scoring.score_records import MICRO
from pot_lab.scoring.target_checks import NO_TOKEN

_SCALED = ("scaled_mse", "scaled_mae")
_WEIGHTED = ("weighted_accuracy", "weighted_cross_entropy")
_LABELS = ("multilabel_micro_f1", "multilabel_macro_f1")
OTHERS = (*_SCALED, *_WEIGHTED, *_LABELS, "quantile_loss", "brier", "token_accuracy", "mean_iou", "auc", "ndcg")
"""The functions that have their losses here."""


def example_losses(function: ScoreFunction, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """A loss for each example: float32 or float64 [examples], with a gradient.

    Args:
        function: one of `OTHERS`.
        outputs: the model's, [examples, ...].
        targets: as the function takes them, [examples, ...].
        smoothing: of labels, from 0 to below 1.
    """
    outputs = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    return _each(function, outputs, targets, smoothing).reshape(len(outputs), -1).sum(1)


def _each(function: ScoreFunction, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    name, given = function.name, dict(function.parameters)
    if name in _SCALED:
        apart = outputs - targets.to(outputs.dtype)
        return (apart * apart if name == "scaled_mse" else apart.abs()) / float(
            scale_of(given["exponent"], given["scale"])
        )
    if name == "quantile_loss":
        quantile, apart = given.get("permille", 500) / 1000, targets.to(outputs.dtype) - outputs
        return torch.maximum(apart * quantile, apart * (quantile - 1))
    if name in _WEIGHTED:
        losses = F.cross_entropy(outputs, targets[:, 0], reduction="none", label_smoothing=smoothing)
        return losses * targets[:, 1].to(outputs.dtype)
    if name in _LABELS:
        losses = F.binary_cross_entropy_with_logits(outputs, (targets == 1).to(outputs.dtype), reduction="none")
        return losses * (targets != NO_TOKEN).to(outputs.dtype)
    if name == "ndcg":
        counted = targets != NO_TOKEN
        gains = torch.where(counted, 2.0**targets - 1.0, 0.0).to(outputs.dtype)
        chances = F.log_softmax(outputs.masked_fill(~counted, -1e9), -1)
        return -(gains / gains.sum(-1, keepdim=True) * chances)
    if name == "auc" and outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], targets.to(outputs.dtype), reduction="none")
    rows = outputs.movedim(1, -1) if name == "mean_iou" else outputs
    return F.cross_entropy(
        rows.reshape(-1, rows.shape[-1]),
        targets.reshape(-1),
        ignore_index=NO_TOKEN,
        label_smoothing=smoothing,
        reduction="none",
    )


def loss_weight(function: ScoreFunction, targets: Tensor) -> Tensor:
    """By what a sum of these losses is divided to be a mean: weights, numbers, places, labels or examples."""
    if function.name in _WEIGHTED:
        return targets[:, 1].sum().clamp(min=1).float()
    if function.name in (*_SCALED, "quantile_loss"):
        return torch.tensor(float(targets.numel()), device=targets.device)
    if function.name in (*_LABELS, "token_accuracy", "mean_iou"):
        return (targets != NO_TOKEN).sum().clamp(min=1).float()
    return torch.tensor(float(len(targets)), device=targets.device)


def unit_of(function: ScoreFunction) -> float:
    """How many units of a total make 1: a whole share, a nat, the scale of the targets."""
    if function.name == "weighted_accuracy":
        return 1.0
    if function.name == "quantile_loss":
        return float(10 ** dict(function.parameters).get("decimals", 6))
    return float(MICRO)
