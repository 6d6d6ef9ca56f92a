"""Errors of training."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadSettings(PotLabError):
    """A trainer's settings make no sense.

    What to do: choose a value in the range that the message names.
    """


class BadCheckpoint(PotLabError):
    """A checkpoint is damaged, or belongs to another training.

    What to do: remove the checkpoint folder and train from the beginning.
    """


class TrainingDiverged(PotLabError):
    """The loss is no longer finite; the best model so far is kept.

    What to do: lower the learning rate; the best model so far can be submitted.
    """
