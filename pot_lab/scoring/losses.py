"""The loss of a row of class scores, in whole micro-nats."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring import reductions
from pot_lab.scoring.score_records import MICRO

LOSS_CAP_NATS = 50


def micro_nats(outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of each row of scores, at most 50 nats, in whole micro-nats: int64.

    Args:
        outputs: float64 [..., classes].
        targets: int64 [...], in [0, classes).
    """
    chosen = reductions.log_softmax(outputs, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return torch.round((-chosen).clamp(0.0, float(LOSS_CAP_NATS)) * float(MICRO)).to(torch.int64)
