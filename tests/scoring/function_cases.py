"""Outputs and targets for every score function of regression, calibration, segmentation, ranking and labels."""

from __future__ import annotations

import torch
from torch import Tensor

COUNT = 24
NO = -100


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(COUNT, *shape, generator=_generator(seed)) * 3


def whole(high: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, high, (COUNT, *shape), generator=_generator(seed))


def some_skipped(targets: Tensor) -> Tensor:
    """Targets with a third of the places that do not count, never the first."""
    skipped = torch.rand(targets.shape, generator=_generator(2)) < 0.34
    skipped.reshape(COUNT, -1)[:, 0] = False
    return targets.masked_fill(skipped, NO)


def graded(items: int) -> Tensor:
    grades = some_skipped(whole(4, items))
    grades[:, 0] = 2
    return grades


def with_weights(classes: int) -> Tensor:
    return torch.stack([whole(classes), whole(1001, seed=3)], 1)


def cases() -> dict[str, tuple[Tensor, Tensor]]:
    """Outputs and targets by identifier, with ties and places that do not count."""
    ties = numbers(5).round(decimals=0)
    return {
        "scaled_mse[exponent=15,scale=123456]/1": (numbers(3) * 900, numbers(3, seed=4) * 900),
        "scaled_mse[exponent=6,scale=100000]/1": (numbers(), numbers(seed=4)),
        "scaled_mae[exponent=12,scale=987654]/1": (numbers(2, 2) * 90, whole(300, 2, 2)),
        "scaled_mae[exponent=12,scale=987654,slices=2]/1": (numbers(2) * 90, numbers(2, seed=4)),
        "quantile_loss/1": (numbers(3), numbers(3, seed=4)),
        "quantile_loss[decimals=3,permille=900]/1": (numbers(), whole(9)),
        "brier/1": (numbers(5), whole(5)),
        "weighted_accuracy/1": (ties, with_weights(5)),
        "weighted_cross_entropy/1": (numbers(5), with_weights(5)),
        "token_accuracy/1": (numbers(7, 4).round(), some_skipped(whole(4, 7))),
        "mean_iou/1": (numbers(3, 4, 5).round(), some_skipped(whole(3, 4, 5))),
        "auc/1": (ties[:, :2], whole(2)),
        "auc[slices=2]/1": (ties[:, :1], whole(2)),
        "ndcg/1": (numbers(6).round(), graded(6)),
        "ndcg[k=3]/1": (numbers(12).round(), graded(12)),
        "multilabel_micro_f1/1": (numbers(6), some_skipped(whole(2, 6))),
        "multilabel_micro_f1[threshold=200]/1": (numbers(6), whole(2, 6)),
        "multilabel_macro_f1[labels=6]/1": (numbers(6), whole(2, 6)),
        "multilabel_macro_f1[labels=18,threshold=900]/1": (numbers(18), whole(2, 18)),
    }
