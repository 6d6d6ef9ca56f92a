"""Score functions of regression: how far an example's outputs are from its targets, in a unit that the name declares.

The scaled ones count in millionths of a number that an order derives from its test targets, their variance or their
mean distance from the median, so that one name fits prices and probabilities alike: 1 - R2 is the scaled squared error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from pot_lab.scoring import reductions
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.score_records import MICRO, AcceptedData, Bounds, Family, ScoreFunction
from pot_lab.scoring.target_checks import accept_all_values, check_same_shape

LARGEST_DISTANCE = 10**10
SCALE_EXPONENT = 15
"""What is taken from the parameter `exponent`: a scale is `scale * 10^(exponent - 15)`."""
_ANY = AcceptedData("any", "float32, float64 or int64", "the shape of the outputs")
_DECIMALS = Bounds(0, 12, 6)


def _squares(d: Tensor) -> Tensor:
    return d * d


def _whole(mean: Tensor) -> Tensor:
    """Rounded half to even, at most `LARGEST_DISTANCE`; a distance whose square is no number any more is as far as can
    be."""
    return torch.round(mean.nan_to_num(math.inf).clamp(0.0, float(LARGEST_DISTANCE))).to(torch.int64)


def _mean(distances: Tensor) -> Tensor:
    return reductions.exact_mean(distances.reshape(len(distances), -1), (1,))


def _made(name: str, unit: str, evaluate: Callable[[Tensor, Tensor], Tensor]) -> ScoreFunction:
    return ScoreFunction(
        name=name,
        version=1,
        higher_is_better=False,
        unit=f"{unit}, the mean of an example's outputs, at most {LARGEST_DISTANCE} units",
        largest=LARGEST_DISTANCE,
        evaluate=evaluate,
        check=check_same_shape,
        check_targets=accept_all_values,
    )


def _distance(name: str, apart: Callable[[Tensor], Tensor]) -> Callable[..., ScoreFunction]:
    def make(decimals: int) -> ScoreFunction:
        return _made(
            name,
            f"10^-{decimals}",
            lambda outputs, targets: _whole(_mean(apart(outputs - targets.to(torch.float64))) * float(10**decimals)),
        )

    return make


def scale_of(exponent: int, scale: int) -> Fraction:
    """What a scaled distance is divided by, exactly: `scale * 10^(exponent - 15)`."""
    return Fraction(scale) * Fraction(10) ** (exponent - SCALE_EXPONENT)


def _scaled(name: str, apart: Callable[[Tensor], Tensor]) -> Callable[..., ScoreFunction]:
    def make(exponent: int, scale: int) -> ScoreFunction:
        divisor = float(scale_of(exponent, scale))
        return _made(
            name,
            f"millionths of {divisor:g}",
            lambda outputs, targets: _whole(
                divide(_mean(apart(outputs - targets.to(torch.float64))), divisor) * float(MICRO)
            ),
        )

    return make


def _quantile_loss(decimals: int, permille: int) -> ScoreFunction:
    above, below = permille / 1000, (permille - 1000) / 1000

    def evaluate(outputs: Tensor, targets: Tensor) -> Tensor:
        d = targets.to(torch.float64) - outputs
        return _whole(_mean(torch.maximum(d * above, d * below)) * float(10**decimals))

    return _made("quantile_loss", f"10^-{decimals}", evaluate)


_SCALE = {"exponent": Bounds(0, 40, None), "scale": Bounds(100_000, 999_999, None)}
DISTANCES = {
    ("mse", 1): Family(
        make=_distance("mse", _squares),
        parameters={"decimals": _DECIMALS},
        higher_is_better=False,
        value="mean squared difference in units of 10^-decimals",
        accepted=_ANY,
    ),
    ("mae", 1): Family(
        make=_distance("mae", torch.abs),
        parameters={"decimals": _DECIMALS},
        higher_is_better=False,
        value="mean absolute difference in units of 10^-decimals",
        accepted=_ANY,
    ),
    ("scaled_mse", 1): Family(
        make=_scaled("scaled_mse", _squares),
        parameters=_SCALE,
        higher_is_better=False,
        value="mean squared difference in millionths of scale 10^(exponent - 15), the targets' variance: 1 - R2",
        accepted=_ANY,
    ),
    ("scaled_mae", 1): Family(
        make=_scaled("scaled_mae", torch.abs),
        parameters=_SCALE,
        higher_is_better=False,
        value="mean absolute difference in millionths of scale 10^(exponent - 15), the targets' mean distance from the "
        "median",
        accepted=_ANY,
    ),
    ("quantile_loss", 1): Family(
        make=_quantile_loss,
        parameters={"decimals": _DECIMALS, "permille": Bounds(1, 999, 500)},
        higher_is_better=False,
        value="mean pinball loss of the quantile permille/1000 in units of 10^-decimals",
        accepted=_ANY,
    ),
}
