"""How good a model is on the held-out part, in the sense of the order's score function, in float32.

A look is bounded by memory (some examples at a time), by rows, and by a share of the training's time: the first look
fixes how many examples all looks take, so that their results can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pot_lab.scoring import ScoreFunction, TrainableModel
from pot_lab.scoring.distances import LARGEST_DISTANCE
from pot_lab.scoring.losses import LOSS_CAP_NATS
from pot_lab.scoring.score_records import MICRO
from pot_lab.scoring.target_checks import NO_TOKEN
from pot_lab.training.losses import DISTANCES, row_losses
from pot_lab.training.other_losses import OTHERS, example_losses, unit_of
from pot_lab.training.split import SplitData

MOST_ROWS = 10_000
"""A look takes at most this many examples: more would tell little more."""
LEAST_ROWS = 4
_TOKENS = ("perplexity", "next_token_loss")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at the held-out part found.

    Attributes:
        key: larger for the better model; ties of accuracy go by loss.
        score: as `TrainingProgress.validation_score`.
        loss: mean loss of an example, by which overfitting is seen.
    """

    key: tuple[float, float]
    score: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best model so far.

    Attributes:
        key, score, loss: as in `Look`.
        step: the step after which it was found.
        weights: safetensors bytes.
    """

    key: tuple[float, float]
    score: float
    loss: float
    step: int
    weights: bytes


class HeldOut:
    """Looks at the held-out part.

    Args:
        data: the train data in their two parts.
        function: what "better" means.
        batch_rows: examples at once, by memory.
        rows: how many examples each look takes; None lets the first look find out.
    """

    def __init__(self, data: SplitData, function: ScoreFunction, batch_rows: int, rows: int | None = None) -> None:
        self._data, self._function, self._batch_rows = data, function, batch_rows
        self.rows = rows

    def look(
        self,
        model: TrainableModel,
        *,
        left_s: Callable[[], float] = lambda: math.inf,
        out_of_time: Callable[[], bool] = lambda: False,
    ) -> Look | None:
        """Score a model on the held-out part. Leaves the model in eval mode.

        Args:
            model: the model.
            left_s: how much time the first look has left, in seconds; with it, it fixes the number of examples.
            out_of_time: asked before each batch; True gives up.
        Returns: what was found, None if the time was over before.
        """
        first = self.rows is None
        limit = min(len(self._data.held_out_rows), MOST_ROWS) if self.rows is None else self.rows
        parts: list[Tensor] = []
        losses: list[Tensor] = []
        finite, start = True, 0
        size = min(LEAST_ROWS, self._batch_rows) if first else self._batch_rows
        model.eval()
        with torch.inference_mode():
            while start < limit:
                if out_of_time():
                    return None
                stop = min(limit, start + size)
                before_s = left_s()
                inputs, targets = self._data.take(self._data.held_out_rows[start:stop])
                outputs = model(*inputs)
                finite = finite and bool(torch.isfinite(outputs).all())
                value, loss = self._values(outputs, targets)
                parts.append(value.cpu())
                losses.append(loss.cpu())
                rows, start, size = stop - start, stop, min(2 * size, self._batch_rows)
                if first and math.isfinite(before_s):
                    now_s = left_s()
                    size = min(size, int(now_s * rows / max(before_s - now_s, 1e-9)))
                    if size < 1 and start >= LEAST_ROWS:
                        break
                    size = max(1, size)
        self.rows = start
        return self._summed(torch.cat(parts), torch.cat(losses), finite)

    def _values(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """For each example what the score function counts, in nats or its own unit, and the loss that breaks ties."""
        function = self._function
        if function.name in OTHERS:
            found = function.evaluate(outputs.double().nan_to_num(), targets)
            return found, example_losses(function, outputs, targets).double()
        if function.name in DISTANCES:
            between = (outputs.float() - targets.float()).reshape(len(outputs), -1)
            mean = (between * between if function.name == "mse" else between.abs()).double().mean(1)
            return mean, mean
        losses = row_losses(outputs, targets).clamp(max=float(LOSS_CAP_NATS)).reshape(len(targets), -1).double().sum(1)
        if function.name == "perplexity":
            return losses / (targets != NO_TOKEN).reshape(len(targets), -1).sum(1).clamp(min=1), losses
        if not function.higher_is_better:
            return losses, losses
        return function.evaluate(outputs.double().nan_to_num(), targets), losses

    def _summed(self, values: Tensor, losses: Tensor, finite: bool) -> Look:
        function, count = self._function, len(values)
        sign = 1.0 if function.higher_is_better else -1.0
        if not finite:
            return Look(key=(-math.inf, -math.inf), score=-sign * math.inf, loss=math.inf)
        if function.name in OTHERS:
            score = function.total_of(values.numpy().astype(np.int64)) / count / unit_of(function)
        elif function.higher_is_better:
            score = function.total_of(values.numpy().astype(np.int64)) / count
            score /= MICRO if function.total is not None else 1
        else:
            score = float(values.mean())
            if function.name in DISTANCES:
                decimals = dict(function.parameters).get("decimals", 6)
                score = min(score, LARGEST_DISTANCE / 10.0**decimals)
        loss = float(losses.mean())
        return Look(key=(sign * score, -loss), score=score, loss=loss)
