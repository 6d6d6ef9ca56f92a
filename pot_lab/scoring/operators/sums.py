"""Sums, means, spreads and extremes over dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring import batching, elementwise, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.operators.registry import AnyDtype, Dtype, Ints, Positive, operator


@operator("aten.mean.dim", batch=batching.reduction)
def mean(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: Dtype | None = None
) -> Tensor:
    return reductions.exact_mean(x, dims, keepdim)


@operator("aten.sum.dim_IntList", batch=batching.reduction, booleans=True)
def sum_(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: AnyDtype | None = None
) -> Tensor:
    """Whole numbers and truth values are added in int64."""
    if x.is_floating_point() or (dtype is not None and dtype.is_floating_point):
        return reductions.exact_sum(x, dims, keepdim)
    return torch.sum(x, reductions.normal_dims(dims, x.dim()), keepdim, dtype=torch.int64)


@operator("aten.amax.default", batch=batching.reduction)
def amax(arithmetic: Arithmetic, x: Tensor, dims: Ints = (), keepdim: bool = False) -> Tensor:
    return torch.amax(x, tuple(dims), keepdim)


@operator("aten.amin.default", batch=batching.reduction)
def amin(arithmetic: Arithmetic, x: Tensor, dims: Ints = (), keepdim: bool = False) -> Tensor:
    return torch.amin(x, tuple(dims), keepdim)


@operator("aten.max.dim", batch=batching.any_dim, returns="tensors")
def max_dim(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Values and the lowest of their places."""
    return x.amax(dim, keepdim), _place(x, dim, keepdim)


@operator("aten.min.dim", batch=batching.any_dim, returns="tensors")
def min_dim(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.amin(dim, keepdim), _place(-x, dim, keepdim)


@operator("aten.argmax.default", batch=batching.any_dim)
def argmax(arithmetic: Arithmetic, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        return _place(x.reshape(-1), 0, False)
    return _place(x, dim, keepdim)


def _place(x: Tensor, dim: int, keepdim: bool) -> Tensor:
    """The lowest place of the largest value; past the end where nothing is the largest, beside NaN."""
    place = reductions.lowest_argmax(x, dim).clamp(max=x.shape[dim] - 1)
    return place.unsqueeze(dim) if keepdim else place


@operator("aten.var.correction", batch=batching.reduction)
def var(
    arithmetic: Arithmetic,
    x: Tensor,
    dims: Ints | None = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return reductions.variance(x, dims, 1.0 if correction is None else float(correction), keepdim)


@operator("aten.std.correction", batch=batching.reduction)
def std(
    arithmetic: Arithmetic,
    x: Tensor,
    dims: Ints | None = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return elementwise.sqrt(var(arithmetic, x, dims, correction, keepdim))


@operator("aten.cumsum.default", batch=batching.along(lambda call: (call["dim"],)), booleans=True)
def cumsum(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: AnyDtype | None = None) -> Tensor:
    """Sums from the front; whole numbers in int64."""
    if x.is_floating_point() or (dtype is not None and dtype.is_floating_point):
        return reductions.running_sum(x, dim)
    return torch.cumsum(x, dim, dtype=torch.int64)


@operator("aten.topk.default", batch=batching.along(lambda call: (call["dim"],)), returns="tensors")
def topk(
    arithmetic: Arithmetic, x: Tensor, k: Positive, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """Values in order, equal ones by their place; NaN counts as the largest."""
    values, places = torch.sort(x, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, k), places.narrow(dim, 0, k)
