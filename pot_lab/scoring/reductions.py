"""Sums, means, variances, softmax and average pools: integers too, so their order is free.

Specification version 1 (scoring-spec.md, "4. Reductions"): a sum of n values takes them to whole numbers of
52 - ceil(log2 n) bits on one power-of-two grid for each result (for pools: for each sample), adds those exactly, and
scales back. Nothing here sees the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import elementwise
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.grids import sum_bits, to_grid


def normal_dims(dims: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Dimensions counted from the front; None or an empty list means all, as in ATen."""
    return tuple(sorted({d % rank for d in dims})) if dims else tuple(range(rank))


def exact_sum(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor:
    """Sum over `dims` (None or empty: all) as float64; NaN where an addend is not finite, or 2**200 or more in size."""
    dims = normal_dims(dims, x.dim())
    if not dims:
        return x.to(torch.float64)
    grid = to_grid(x.to(torch.float64), dims, sum_bits(math.prod(x.shape[d] for d in dims)))
    total = torch.sum(grid.values, dims, keepdim=True)
    return total if keepdim else total.squeeze(dims)


def exact_mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor:
    """`exact_sum` divided by the number of addends."""
    over = normal_dims(dims, x.dim())
    return divide(exact_sum(x, over, keepdim), math.prod(x.shape[d] for d in over))


def softmax(x: Tensor, dim: int) -> Tensor:
    """Softmax; a row of nothing but -inf gives zeros."""
    e = elementwise.exp(_centred(x, dim))
    s = exact_sum(e, (dim,), True)
    return torch.div(e, torch.where(s == 0, torch.ones_like(s), s))


def log_softmax(x: Tensor, dim: int) -> Tensor:
    """d - log(sum(exp(d))) along `dim`, d the distance to the largest value."""
    d = _centred(x, dim)
    return d - elementwise.log(exact_sum(elementwise.exp(d), (dim,), True))


def _centred(x: Tensor, dim: int) -> Tensor:
    largest = x.amax(dim, keepdim=True)
    return x - largest.masked_fill(largest == -math.inf, 0.0)


def normalised(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over `dims`, biased variance, two passes."""
    d = x - exact_mean(x, dims, True)
    return d * elementwise.rsqrt(exact_mean(d * d, dims, True) + eps)


def average_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_padding: bool,
) -> Tensor:
    """Average pool of x [N, C, ...] over one to three axes; one grid for each sample.

    The divisor of a window is the number of its places inside the data, with `count_padding` inside data and padding.
    """
    if x.dim() == 3:
        args = [1, *kernel], [1, *stride], [0, *padding]
        return average_pool(x.unsqueeze(2), *args, ceil_mode, count_padding).squeeze(2)
    grid = to_grid(x, tuple(range(1, x.dim())), sum_bits(math.prod(kernel)))
    pool = F.avg_pool2d if x.dim() == 4 else F.avg_pool3d
    sums = pool(grid.values, list(kernel), list(stride), list(padding), ceil_mode, True, 1)
    counts = torch.ones((), dtype=torch.float64, device=x.device)
    for length, windows, k, step, pad in zip(x.shape[2:], sums.shape[2:], kernel, stride, padding, strict=True):
        places = _window_places(length, windows, k, step, pad, count_padding)
        counts = counts.unsqueeze(-1) * torch.tensor(places, dtype=torch.float64, device=x.device)
    return torch.div(sums, counts)


def _window_places(length: int, windows: int, kernel: int, stride: int, padding: int, count_padding: bool) -> list[int]:
    low, high = (-padding, length + padding) if count_padding else (0, length)
    return [min(i * stride - padding + kernel, high) - max(i * stride - padding, low) for i in range(windows)]


def adaptive_average_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    """Average pool of x [N, C, ...] to `size`; output cell i of n covers floor(i L / n) up to ceil((i + 1) L / n).

    Cells are boxes, and their sums exact, so one axis is added up after the other.
    """
    edges = [
        [((i * length) // n, -((-(i + 1) * length) // n)) for i in range(n)]
        for length, n in zip(x.shape[2:], size, strict=True)
    ]
    largest = math.prod(max(stop - start for start, stop in side) for side in edges)
    sums = to_grid(x, tuple(range(1, x.dim())), sum_bits(largest)).values
    counts = torch.ones((), dtype=torch.float64, device=x.device)
    for axis, side in enumerate(edges, 2):
        sums = torch.cat([sums.narrow(axis, start, stop - start).sum(axis, keepdim=True) for start, stop in side], axis)
        lengths = [float(stop - start) for start, stop in side]
        counts = counts.unsqueeze(-1) * torch.tensor(lengths, dtype=torch.float64, device=x.device)
    return torch.div(sums, counts)


def lowest_argmax(x: Tensor, dim: int) -> Tensor:
    """Index of the largest value along `dim`; ties take the lowest index."""
    shape = [1] * x.dim()
    shape[dim] = -1
    index = torch.arange(x.shape[dim], device=x.device).reshape(shape)
    return torch.where(x == x.amax(dim, keepdim=True), index, x.shape[dim]).amin(dim)


def attention_weights(scores: Tensor, keys: int) -> Tensor:
    """Softmax over the last axis of a sum of `keys` terms, of which those behind the axis's end are exactly 0."""
    e = elementwise.exp(_centred(scores, -1))
    grid = to_grid(e, (-1,), sum_bits(keys))
    s = torch.sum(grid.values, -1, keepdim=True)
    return torch.div(e, torch.where(s == 0, torch.ones_like(s), s))


def variance(x: Tensor, dims: Sequence[int] | None, correction: float, keepdim: bool) -> Tensor:
    """Mean square distance from the mean, two passes; divided by n - correction, at least 0."""
    over = normal_dims(dims, x.dim())
    d = x - exact_mean(x, over, True)
    count = math.prod(x.shape[i] for i in over)
    return divide(exact_sum(d * d, over, keepdim), max(0.0, count - correction))


def running_sum(x: Tensor, dim: int) -> Tensor:
    """Sums of the first elements along `dim`, on the grid of the whole sum."""
    grid = to_grid(x.to(torch.float64), (dim,), sum_bits(x.shape[dim]))
    return torch.cumsum(grid.values, dim)
