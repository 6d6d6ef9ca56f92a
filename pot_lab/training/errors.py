"""What the training room refuses."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadSettings(PotLabError):
    """A trainer's settings make no sense."""


class BadCheckpoint(PotLabError):
    """A checkpoint is damaged, or belongs to another training."""


class TrainingDiverged(PotLabError):
    """The loss is no longer finite; the best model so far is kept."""
