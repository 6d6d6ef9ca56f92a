"""The learning rate: its course over a training, which peaks are tried, and when a training has learned by heart."""

from __future__ import annotations

import math

from pot_lab.training.settings import TrainerSettings
from pot_lab.training.validation import Best, Look

TRIED = (0.3, 1.0, 3.0, 10.0)
"""Multiples of the usual rate that are tried, the smallest first."""
TRIAL_SHARE = 0.03
"""Each is tried for this part of the window."""
LEAST_TRIAL_STEPS = 20
HOPELESS = 2.0
"""No larger rate is tried after one whose loss is so many times that of the best."""
RESTART_FACTOR = 0.3
LEAST_LOOKS = 5
LEAST_SHARE = 0.05
"""A training has learned by heart at the earliest after this part of the window, and LEAST_LOOKS, without a better
model."""
_WORSE = 1.02
_LOWEST_RATE = 0.01
_WARM_UP_SHARE = 0.02


def learning_rate(settings: TrainerSettings, peak: float, step: int, fraction: float) -> float:
    """The learning rate of a step.

    Args:
        settings: schedule and warm-up.
        peak: the largest rate.
        step: the number of steps before.
        fraction: how much of the training is over, from 0 to 1.
    """
    rate = peak
    if settings.schedule == "cosine":
        rate *= _LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))
    if settings.warmup_steps is None:
        rate *= min(1.0, max(fraction, 0.0) / _WARM_UP_SHARE + 0.1)
    elif step < settings.warmup_steps:
        rate *= (step + 1) / settings.warmup_steps
    return rate


def learned_by_heart(look: Look, best: Best, loss: float, best_loss: float) -> bool:
    """Whether the held-out part got worse while the train part got better.

    Args:
        look: the newest.
        best: the best so far.
        loss, best_loss: training loss now, and when the best was found.
    """
    return look.loss > _WORSE * best.loss and loss < best_loss
