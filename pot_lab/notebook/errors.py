"""Errors of the researcher's side."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadArgument(PotLabError):
    """An argument of `Lab.order` cannot be used as it is."""


class BadQuantity(PotLabError):
    """A duration, an amount of POT or a score cannot be read."""


class NoModel(PotLabError):
    """The order has no winning model or no released test data, or not yet."""


class ScoreDiffers(PotLabError):
    """A score computed here is not the one that the ledger agreed on: one of the two machines is wrong."""
