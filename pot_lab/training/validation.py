"""How good a model is on the held-out part, in the sense of the order's score function."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pot_lab.scoring import ScoreFunction, TrainableModel
from pot_lab.training.devices import Device
from pot_lab.training.split import SplitData

_VALIDATION_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best model so far.

    Attributes:
        key: larger for the better model; ties of accuracy go by loss.
        score: accuracy as a fraction, mean nats, or what the score function gives an example on average.
        step: the step after which it was found.
        weights: safetensors bytes.
    """

    key: tuple[float, float]
    score: float
    step: int
    weights: bytes


def validate(
    model: TrainableModel, data: SplitData, function: ScoreFunction, device: Device
) -> tuple[float, tuple[float, float]]:
    """(score, key) of a model on the held-out part, as in `Best`. Leaves the model in eval mode."""
    correct, loss, count = 0, 0.0, len(data.held_out_targets)
    classes = function.name in ("accuracy", "cross_entropy")
    values, finite = [], True
    model.eval()
    with torch.inference_mode(), device.autocast():
        for start in range(0, count, _VALIDATION_BATCH):
            rows = slice(start, start + _VALIDATION_BATCH)
            outputs = model(*(x[rows] for x in data.held_out_inputs)).float()
            targets = data.held_out_targets[rows]
            if classes:
                correct += int((outputs.argmax(-1) == targets).sum())
                loss += float(F.cross_entropy(outputs, targets, reduction="sum"))
            else:
                finite = finite and bool(torch.isfinite(outputs).all())
                values.append(function.evaluate(outputs.double().nan_to_num(), targets).cpu().numpy())
    sign = 1.0 if function.higher_is_better else -1.0
    if not classes:
        mean = function.total_of(np.concatenate(values)) / count if finite else -sign * math.inf
        return mean, (sign * mean, 0.0)
    mean_loss = loss / count if math.isfinite(loss) else math.inf
    if function.higher_is_better:
        return correct / count, (float(correct), -mean_loss)
    return mean_loss, (-mean_loss, float(correct))
