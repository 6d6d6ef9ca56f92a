"""What a training reports: where it stands, and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Where a training stands.

    Attributes:
        step, epoch: steps and whole passes so far.
        loss: mean training loss (nats) since the last report.
        learning_rate: of the last step.
        validation_score: last score on the held-out part, None before the first: accuracy, top-k accuracy and macro F1
            as a fraction, losses in nats (of an example, or of a token for perplexity), distances in the targets' unit.
        best_score, best_step: the best so far.
        elapsed_s: time spent training, over all runs of this job.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    validation_score: float | None
    best_score: float | None
    best_step: int | None
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training's best model.

    Attributes:
        weights: safetensors bytes.
        validation_score: its score on the held-out part, as in `TrainingProgress`; NaN where the time was over before
            anything could be scored.
        step: the step after which it was found; 0 are the initial weights.
        reason: why the training ended: "deadline", "steps", "epochs", "stopped", or "overfitted" where more time would
            only have made the model learn by heart.
    """

    weights: bytes
    validation_score: float
    step: int
    reason: str
