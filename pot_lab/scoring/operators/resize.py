"""Upsampling: nearest, and linear between neighbours.

Places in the source are plain Python numbers from sizes alone, so they are the same everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring import batching
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import CostLimit
from pot_lab.scoring.operators.registry import Floats, Positives, operator


def _sizes(x: Tensor, output_size: Positives | None, scale_factors: Floats | None) -> list[tuple[int, int, float]]:
    """For each axis of the image: length before, length after, and how far apart the places lie in the source.

    Raises: ValueError.
    """
    lengths = list(x.shape[2:])
    if (output_size is None) == (scale_factors is None):
        raise ValueError("either sizes or factors must be given")
    given = output_size if output_size is not None else scale_factors
    assert given is not None
    if len(given) != len(lengths):
        raise ValueError(f"{len(given)} sizes for {len(lengths)} axes")
    if scale_factors is None:
        return [(n, int(m), n / int(m)) for n, m in zip(lengths, given, strict=True)]
    return [(n, math.floor(n * f), 1.0 / f) for n, f in zip(lengths, scale_factors, strict=True)]


LARGEST_LENGTH = 1 << 14


def _check(arguments: dict[str, Any]) -> None:
    """Places are made one by one, so there may not be too many."""
    lengths = arguments["output_size"]
    if lengths is None:
        lengths = [n * f for n, f in zip(arguments["x"].shape[2:], arguments["scale_factors"] or (), strict=False)]
    if any(not 1 <= n <= LARGEST_LENGTH for n in lengths):
        raise CostLimit("an image is resized too far", seen=lengths, wanted=f"axes of 1 to {LARGEST_LENGTH}")


def _nearest(
    arithmetic: Arithmetic, x: Tensor, output_size: Positives | None = None, scale_factors: Floats | None = None
) -> Tensor:
    """Place i takes floor(i L / M), with factors floor(i / factor), at most L - 1."""
    factors = scale_factors or [None] * (x.dim() - 2)
    for dim, ((before, after, _), factor) in enumerate(
        zip(_sizes(x, output_size, scale_factors), factors, strict=True), 2
    ):
        places = [i * before // after if factor is None else math.floor(i / factor) for i in range(after)]
        index = torch.tensor([min(p, before - 1) for p in places], dtype=torch.int64, device=x.device)
        x = x.index_select(dim, index)
    return x


def _linear(
    arithmetic: Arithmetic,
    x: Tensor,
    output_size: Positives | None = None,
    align_corners: bool = False,
    scale_factors: Floats | None = None,
) -> Tensor:
    """Between two neighbours a, b at distance t: a (1 - t) + b t; the last axis first."""
    sizes = _sizes(x, output_size, scale_factors)
    for dim, (before, after, apart) in reversed(list(enumerate(sizes, 2))):
        if align_corners:
            apart = (before - 1) / (after - 1) if after > 1 else 0.0
            places = [i * apart for i in range(after)]
        else:
            places = [max((i + 0.5) * apart - 0.5, 0.0) for i in range(after)]
        first = [min(math.floor(p), before - 1) for p in places]
        distance = [p - f for p, f in zip(places, first, strict=True)]
        shape = [1] * x.dim()
        shape[dim] = -1
        t = torch.tensor(distance, dtype=torch.float64, device=x.device).reshape(shape)
        a = x.index_select(dim, torch.tensor(first, device=x.device))
        b = x.index_select(dim, torch.tensor([min(f + 1, before - 1) for f in first], device=x.device))
        x = a.mul_(1.0 - t).add_(b.mul_(t))
    return x


operator("aten.upsample_nearest1d.vec", batch=batching.batch_first(3), check=_check)(_nearest)
operator("aten.upsample_nearest2d.vec", batch=batching.batch_first(4), check=_check)(_nearest)
operator("aten.upsample_linear1d.vec", batch=batching.batch_first(3), check=_check)(_linear)
operator("aten.upsample_bilinear2d.vec", batch=batching.batch_first(4), check=_check)(_linear)
