"""What training makes small for the sake of a score function, and what a look at the held-out part sums up.

Scores of words may be gigabytes: their losses go some rows at a time, so that no second copy of all is made.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import ScoreFunction
from pot_lab.scoring.target_checks import NO_TOKEN
from pot_lab.training.other_losses import OTHERS, example_losses, loss_weight

CHUNK_ELEMENTS = 1 << 22
"""Rows of scores are taken at once up to this many elements, 16 MiB of float32."""
DISTANCES = ("mse", "mae")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose gradient is made with it, rows by rows: one copy of the scores, not three."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        gradient = torch.empty_like(outputs)
        total = torch.zeros((), dtype=torch.float32, device=outputs.device)
        for rows in chunks(outputs):
            with torch.enable_grad():
                some = outputs[rows].detach().float().requires_grad_()
                loss = F.cross_entropy(
                    some, targets[rows], ignore_index=NO_TOKEN, label_smoothing=smoothing, reduction="sum"
                )
            gradient[rows] = torch.autograd.grad(loss, some)[0].to(gradient.dtype)
            total += loss.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None


def chunks(rows_of_scores: Tensor) -> list[slice]:
    """Rows of a tensor [rows, words] in parts of at most CHUNK_ELEMENTS elements, but of one row at least."""
    step = max(1, CHUNK_ELEMENTS // max(1, rows_of_scores[0].numel() if len(rows_of_scores) else 1))
    return [slice(start, start + step) for start in range(0, len(rows_of_scores), step)]


def weight_of(function: ScoreFunction, targets: Tensor) -> Tensor:
    """By what a summed loss of these targets is divided to be a mean: tokens that count, numbers or examples."""
    if function.name in OTHERS:
        return loss_weight(function, targets)
    if function.name in DISTANCES:
        return torch.tensor(float(targets.numel()), device=targets.device)
    return (targets != NO_TOKEN).sum().clamp(min=1).float()


def summed_loss(function: ScoreFunction, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The loss to make small, summed over what `weight_of` counts: float32, nats or the targets' unit.

    Args:
        outputs: the model's, [examples, ...].
        targets: [examples, ...].
        smoothing: of labels, from 0 to below 1.
    """
    if function.name in OTHERS:
        return example_losses(function, outputs, targets, smoothing).sum()
    if function.name in DISTANCES:
        apart = F.mse_loss if function.name == "mse" else F.l1_loss
        outputs = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
        return apart(outputs, targets.to(outputs.dtype), reduction="sum")
    outputs, targets = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    if outputs.numel() > CHUNK_ELEMENTS:
        return _ChunkedCrossEntropy.apply(outputs, targets, smoothing)  # type: ignore[no-any-return,no-untyped-call]
    return F.cross_entropy(outputs.float(), targets, ignore_index=NO_TOKEN, label_smoothing=smoothing, reduction="sum")


def row_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats of each row of scores [..., words]; 0 where the target does not count. No gradient."""
    flat, labels = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    losses = torch.empty(len(flat), dtype=torch.float32, device=flat.device)
    for rows in chunks(flat):
        losses[rows] = F.cross_entropy(flat[rows].float(), labels[rows], ignore_index=NO_TOKEN, reduction="none")
    return losses.reshape(targets.shape)
