"""The score function that a user's word means, where it depends on the test targets.

`r2`, `scaled_mse` and `scaled_mae` without parameters count in the targets' own spread: their variance, or their mean
distance from the median. The order names the number, so that everybody computes the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pot_lab.cards.scores import SCALED
from pot_lab.notebook.errors import BadArgument

if TYPE_CHECKING:
    from torch import Tensor

_WORDS = {"r2": "scaled_mse"}
_DIGITS = 6
_LARGEST_EXPONENT = 40


def depends_on_targets(score: str) -> bool:
    """Whether a score's name is completed by the test targets."""
    return _WORDS.get(score, score) in SCALED


def completed(score: str, targets: Tensor | None = None) -> str:
    """The score's full name.

    Args:
        score: as `Lab.order` takes it.
        targets: of the test data; None gives a name of the same function, to check other arguments with.
    Raises: BadArgument where the targets have no spread that a name can hold.
    """
    import torch

    name = _WORDS.get(score, score)
    if name not in SCALED:
        return score
    if targets is None:
        return f"{name}[exponent=15,scale=100000]"
    rows = targets.reshape(len(targets), -1).to(torch.float64)
    apart = rows - (rows.mean(0) if name == "scaled_mse" else rows.median(0).values)
    spread = float((apart * apart).mean() if name == "scaled_mse" else apart.abs().mean())
    if not 0.0 < spread < math.inf:
        raise BadArgument(
            f"{score} of these test data has no scale", seen=f"a spread of {spread:g}", wanted="targets that differ"
        )
    digits, _, power = f"{spread:.{_DIGITS - 1}e}".partition("e")
    exponent = int(power) - (_DIGITS - 1) + 15
    if not 0 <= exponent <= _LARGEST_EXPONENT:
        raise BadArgument(
            f"{score} of these test data has no scale that a name can hold",
            seen=f"a spread of {spread:g}",
            wanted="targets divided by their standard deviation",
        )
    return f"{name}[exponent={exponent},scale={digits.replace('.', '')}]"
