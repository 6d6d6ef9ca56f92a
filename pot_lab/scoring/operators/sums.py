"""Sums, means, spreads and extremes over dimensions."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring import elementwise, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import CostLimit
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.graph.batch_axis import Axis, OperatorCall
from pot_lab.scoring.operators.registry import AnyDtype, Dtype, Ints, Positive, operator


@operator("aten.mean.dim", batch=batch_axis.reduction)
def _mean(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: Dtype | None = None
) -> Tensor:
    return reductions.exact_mean(x, dims, keepdim)


@operator("aten.sum.dim_IntList", batch=batch_axis.reduction, booleans=True)
def _sum(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: AnyDtype | None = None
) -> Tensor:
    """Whole numbers and truth values are added in int64."""
    if x.is_floating_point() or (dtype is not None and dtype.is_floating_point):
        return reductions.exact_sum(x, dims, keepdim)
    return torch.sum(x, reductions.normal_dims(dims, x.dim()), keepdim, dtype=torch.int64)


@operator("aten.amax.default", batch=batch_axis.reduction)
def _amax(arithmetic: Arithmetic, x: Tensor, dims: Ints = (), keepdim: bool = False) -> Tensor:
    return torch.amax(x, tuple(dims), keepdim)


@operator("aten.amin.default", batch=batch_axis.reduction)
def _amin(arithmetic: Arithmetic, x: Tensor, dims: Ints = (), keepdim: bool = False) -> Tensor:
    return torch.amin(x, tuple(dims), keepdim)


def _any_dim_axis(call: OperatorCall) -> Axis:
    """One dimension `dim` that is reduced (`keepdim` or not), not the batch; `dim` None reduces all."""
    x = call.traced("x")
    if x.axis is None:
        return None
    if call["dim"] is None or call["dim"] % x.rank == x.axis:
        raise call.mixing("it would reduce the batch axis; name another dimension")
    return x.axis if call["keepdim"] else x.axis - (call["dim"] % x.rank < x.axis)


@operator("aten.max.dim", batch=_any_dim_axis, returns="tensors")
def _max_dim(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Values and the lowest of their places."""
    return x.amax(dim, keepdim), _place(x, dim, keepdim)


@operator("aten.min.dim", batch=_any_dim_axis, returns="tensors")
def _min_dim(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.amin(dim, keepdim), _place(-x, dim, keepdim)


@operator("aten.argmax.default", batch=_any_dim_axis)
def _argmax(arithmetic: Arithmetic, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        return _place(x.reshape(-1), 0, False)
    return _place(x, dim, keepdim)


@operator("aten.argmin.default", batch=_any_dim_axis)
def _argmin(arithmetic: Arithmetic, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _argmax(arithmetic, -x, dim, keepdim)


def _place(x: Tensor, dim: int, keepdim: bool) -> Tensor:
    """The lowest place of the largest value; past the end where nothing is the largest, beside NaN."""
    place = reductions.lowest_argmax(x, dim).clamp(max=x.shape[dim] - 1)
    return place.unsqueeze(dim) if keepdim else place


@operator("aten.var.correction", batch=batch_axis.reduction)
def _var(
    arithmetic: Arithmetic,
    x: Tensor,
    dims: Ints | None = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return reductions.variance(x, dims, 1.0 if correction is None else float(correction), keepdim)


@operator("aten.std.correction", batch=batch_axis.reduction)
def _std(
    arithmetic: Arithmetic,
    x: Tensor,
    dims: Ints | None = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    return elementwise.sqrt(_var(arithmetic, x, dims, correction, keepdim))


@operator("aten.cumsum.default", batch=batch_axis.along(lambda call: (call["dim"],)), booleans=True)
def _cumsum(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: AnyDtype | None = None) -> Tensor:
    """Sums from the front; whole numbers in int64."""
    if x.is_floating_point() or (dtype is not None and dtype.is_floating_point):
        return reductions.running_sum(x, dim)
    return torch.cumsum(x, dim, dtype=torch.int64)


@operator("aten.topk.default", batch=batch_axis.along(lambda call: (call["dim"],)), returns="tensors")
def _topk(
    arithmetic: Arithmetic, x: Tensor, k: Positive, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Tensor, Tensor]:
    """Values in order, equal ones by their place; NaN counts as the largest."""
    values, places = torch.sort(x, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, k), places.narrow(dim, 0, k)


def _sort_work(call: OperatorCall) -> int:
    return 40 * sum(t.numel() for t in call.outputs)


def _line_work(call: OperatorCall) -> int:
    return 10 * int(call["x"].tensor.numel())


_LINE = batch_axis.along(lambda call: (call["dim"],))


@operator("aten.sort.default", batch=_LINE, returns="tensors", work=_sort_work)
def _sort(arithmetic: Arithmetic, x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Values in order, equal ones by their place; NaN counts as the largest."""
    values, places = torch.sort(x, dim=dim, descending=descending, stable=True)
    return values, places


@operator("aten.sort.stable", batch=_LINE, returns="tensors", work=_sort_work)
def _sort_stable(
    arithmetic: Arithmetic, x: Tensor, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    return _sort(arithmetic, x, dim, descending)


@operator("aten.argsort.default", batch=_LINE, work=_sort_work)
def _argsort(arithmetic: Arithmetic, x: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    return _sort(arithmetic, x, dim, descending)[1]


@operator("aten.argsort.stable", batch=_LINE, work=_sort_work)
def _argsort_stable(arithmetic: Arithmetic, x: Tensor, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    return _sort(arithmetic, x, dim, descending)[1]


@operator("aten.median.dim", batch=_any_dim_axis, returns="tensors", work=_sort_work)
def _median(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of the two in the middle, and its place; NaN where there is one."""
    values, places = torch.sort(x, dim=dim, stable=True)
    middle, place = (t.narrow(dim, (x.shape[dim] - 1) // 2, 1) for t in (values, places))
    if x.is_floating_point():
        middle = middle.masked_fill(torch.isnan(values.narrow(dim, x.shape[dim] - 1, 1)), math.nan)
    return (middle, place) if keepdim else (middle.squeeze(dim), place.squeeze(dim))


LARGEST_FACTORS = 4096


def _few_factors(arguments: dict[str, Any]) -> None:
    x, dim = arguments["x"], arguments["dim"]
    length = x.shape[dim] if -x.rank <= dim < x.rank else 0
    if length > LARGEST_FACTORS:
        raise CostLimit("a product has too many factors", seen=length, wanted=f"at most {LARGEST_FACTORS}")


@operator("aten.prod.dim_int", batch=_any_dim_axis, check=_few_factors, work=_line_work)
def _prod(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False, dtype: AnyDtype | None = None) -> Tensor:
    """Factors from the front, each product rounded; whole numbers in int64."""
    factors = _addable(x, dtype).unbind(dim)
    y = functools.reduce(torch.mul, factors)
    return y.unsqueeze(dim) if keepdim else y


@operator("aten.cumprod.default", batch=_LINE, check=_few_factors)
def _cumprod(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: AnyDtype | None = None) -> Tensor:
    return torch.stack(list(itertools.accumulate(_addable(x, dtype).unbind(dim), torch.mul)), dim)


def _addable(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    floating = x.is_floating_point() or (dtype is not None and dtype.is_floating_point)
    return x.to(torch.float64 if floating else torch.int64)


@operator("aten.any.dim", batch=_any_dim_axis, booleans=True)
def _any(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    return x.any(dim, keepdim)


@operator("aten.all.dim", batch=_any_dim_axis, booleans=True)
def _all(arithmetic: Arithmetic, x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    return x.all(dim, keepdim)
