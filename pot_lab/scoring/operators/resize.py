"""Upsampling: nearest, and linear between neighbours.

Places in the source are plain Python numbers from sizes alone, so they are the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import CostLimit
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.operators.registry import Floats, Positives, operator


def _sizes(x: Tensor, output_size: Positives | None, scale_factors: Floats | None) -> list[tuple[int, int, float]]:
    """For each axis of the image: length before, length after, and how far apart the places lie in the source.

    Raises: ValueError.
    """
    lengths = list(x.shape[2:])
    if output_size is not None and scale_factors is None:
        _one_each(output_size, lengths)
        return [(n, int(m), n / int(m)) for n, m in zip(lengths, output_size, strict=True)]
    if output_size is None and scale_factors is not None:
        _one_each(scale_factors, lengths)
        return [(n, math.floor(n * f), 1.0 / f) for n, f in zip(lengths, scale_factors, strict=True)]
    raise ValueError("either sizes or factors must be given")


def _one_each(given: Sequence[float], lengths: Sequence[int]) -> None:
    if len(given) != len(lengths):
        raise ValueError(f"{len(given)} sizes for {len(lengths)} axes")


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
    factors: Sequence[float | None] = scale_factors or [None] * (x.dim() - 2)
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


def _nearest_exact(
    arithmetic: Arithmetic, x: Tensor, output_size: Positives | None = None, scale_factors: Floats | None = None
) -> Tensor:
    """Place i takes floor((i + 0.5) apart), at most L - 1."""
    for dim, (before, after, apart) in enumerate(_sizes(x, output_size, scale_factors), 2):
        places = [min(math.floor((i + 0.5) * apart), before - 1) for i in range(after)]
        x = x.index_select(dim, torch.tensor(places, dtype=torch.int64, device=x.device))
    return x


CUBIC = -0.75
"""How much a cubic overshoots; torch's and OpenCV's number."""


def cubic_weights(t: float) -> list[float]:
    """Weights of the four neighbours of a place at distance t behind the second; plain float64 arithmetic, each step
    rounded."""

    def near(d: float) -> float:
        return ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0

    def far(d: float) -> float:
        return ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC

    return [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]


def _cubic(
    arithmetic: Arithmetic,
    x: Tensor,
    output_size: Positives | None,
    align_corners: bool,
    scale_factors: Floats | None = None,
) -> Tensor:
    """Of four neighbours a, b, c, d with their weights: ((a wa + b wb) + c wc) + d wd; the last axis first. Neighbours
    beyond the border are the border's."""
    sizes = _sizes(x, output_size, scale_factors)
    for dim, (before, after, apart) in reversed(list(enumerate(sizes, 2))):
        if align_corners:
            apart = (before - 1) / (after - 1) if after > 1 else 0.0
        places = [i * apart if align_corners else (i + 0.5) * apart - 0.5 for i in range(after)]
        first = [math.floor(p) for p in places]
        weights = [cubic_weights(p - f) for p, f in zip(places, first, strict=True)]
        shape = [1] * x.dim()
        shape[dim] = -1
        parts = []
        for neighbour in range(4):
            index = [min(max(f - 1 + neighbour, 0), before - 1) for f in first]
            w = torch.tensor([four[neighbour] for four in weights], dtype=torch.float64, device=x.device)
            parts.append(x.index_select(dim, torch.tensor(index, device=x.device)).mul_(w.reshape(shape)))
        a, b, c, d = parts
        x = a.add_(b).add_(c).add_(d)
    return x


operator("aten.upsample_nearest1d.vec", batch=batch_axis.batch_first(3), check=_check)(_nearest)
operator("aten.upsample_nearest2d.vec", batch=batch_axis.batch_first(4), check=_check)(_nearest)
operator("aten.upsample_linear1d.vec", batch=batch_axis.batch_first(3), check=_check)(_linear)
operator("aten.upsample_bilinear2d.vec", batch=batch_axis.batch_first(4), check=_check)(_linear)
operator("aten.upsample_nearest3d.vec", batch=batch_axis.batch_first(5), check=_check)(_nearest)
operator("aten.upsample_trilinear3d.vec", batch=batch_axis.batch_first(5), check=_check)(_linear)
operator("aten.upsample_bicubic2d.vec", batch=batch_axis.batch_first(4), check=_check)(_cubic)
for _dims in (1, 2, 3):
    operator(f"aten._upsample_nearest_exact{_dims}d.vec", batch=batch_axis.batch_first(_dims + 2), check=_check)(
        _nearest_exact
    )
