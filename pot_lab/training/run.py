"""What belongs to one call of `Trainer.train_until`: its time, who is told of what, and where it is in the data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from pot_lab.training.background import Background
from pot_lab.training.pacing import Pace
from pot_lab.training.records import TrainingProgress
from pot_lab.training.validation import Best


@dataclass(kw_only=True)
class TrainingRun:
    """One call of `train_until`.

    Attributes:
        pace: its time.
        on_progress, on_improved: whom it tells.
        reports: tells of better models beside the training.
        epoch, order: the pass that `order` is of, and the order of its examples.
        loss: mean training loss since the last report.
        looks: how many looks found nothing better since the last that did.
    """

    pace: Pace
    on_progress: Callable[[TrainingProgress], None] | None
    on_improved: Callable[[bytes, float, int], None] | None
    reports: Background = field(default_factory=lambda: Background("pot-lab-report"))
    epoch: int = -1
    order: Tensor | None = None
    loss: float = math.nan
    looks: int = 0

    def tell(self, best: Best) -> None:
        """Report a better model: beside the training where time counts, and at once where it does not."""
        if self.on_improved is None:
            return
        report = functools.partial(self.on_improved, best.weights, best.score, best.step)
        if self.pace.deadline is None:
            report()
        else:
            self.reports.put(report)
            self.pace.report_s = max(self.pace.report_s, self.reports.cost_s)
