"""Operators that pick elements by places, or put them there."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import BadWeights, HostileGraph, ShapeMismatch
from pot_lab.scoring.graph.batch_axis import (
    UNBOUNDED,
    Axis,
    OperatorCall,
    Traced,
    not_along_batch,
    only_data_is_batched,
)
from pot_lab.scoring.grids import sum_bits, to_grid
from pot_lab.scoring.operators.registry import (
    Places,
    Positive,
    operator,
)


def _whole_places(arguments: dict[str, Any]) -> None:
    """Places are int64 tensors, along axes that stand together."""
    places = [arguments["index"]] if "index" in arguments else arguments["indices"]
    used = [i for i, p in enumerate(places) if p is not None]
    if not used or any(places[i].tensor.dtype != torch.int64 for i in used):
        raise HostileGraph(
            "picking takes int64 places; for truth values use torch.where or masked_fill",
            seen=[p.tensor.dtype for p in places if p is not None],
        )
    if used != list(range(used[0], used[-1] + 1)):
        raise HostileGraph("picking takes places along axes that stand together; permute first", seen=used)


def _counted_classes(arguments: dict[str, Any]) -> None:
    if not 1 <= arguments["num_classes"] <= 1 << 20:
        raise HostileGraph("one_hot needs its number of classes", seen=arguments["num_classes"])


def _picked(x: Tensor, places: Tensor, dim: int) -> Tensor:
    """x at `places` along `dim`, of the places' shape there; a place outside gives NaN.

    Raises: ValueError for whole numbers, which have no NaN, unless the places are known to be inside.
    """
    inside = (places >= -x.shape[dim]) & (places < x.shape[dim])
    picked = x.index_select(dim, places.remainder(x.shape[dim]).reshape(-1))
    shape = [1] * x.dim()
    shape[dim] = -1
    if x.is_floating_point():
        picked = picked.masked_fill_(~inside.reshape(shape), math.nan)
    elif not places.is_meta and not bool(inside.all()):
        raise BadWeights("an index is outside of a tensor of whole numbers, which has no NaN for it")
    return torch.unflatten(picked, dim, places.shape)


def _index_select_axis(call: OperatorCall) -> Axis:
    axis = only_data_is_batched(call, "x")
    if axis is not None and call["dim"] % call.traced("x").rank == axis:
        raise call.mixing("it would pick examples")
    return axis


@operator("aten.index_select.default", batch=_index_select_axis, check=_whole_places, booleans=True)
def _index_select(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor) -> Tensor:
    return _picked(x, index.reshape(-1), dim)


def _indexing_axis(call: OperatorCall) -> Axis:
    """x[:, places]: fixed tensors of places along axes that stand together, not the batch."""
    x, places = call.traced("x"), call["indices"]
    used = [i for i, p in enumerate(places) if p is not None]
    if x.axis is None and all(p is None or p.axis is None for p in places):
        return None
    if x.axis is None or any(p is not None and p.axis is not None for p in places):
        raise call.mixing("index with fixed tensors; gather picks other places in each example")
    if x.axis in used:
        raise call.mixing("it would pick examples")
    return x.axis + (call.output.dim() - x.rank if used[0] < x.axis else 0)


@operator("aten.index.Tensor", batch=_indexing_axis, check=_whole_places, booleans=True)
def _index(arithmetic: Arithmetic, x: Tensor, indices: Places) -> Tensor:
    """Places at the axis where they stand; along several axes together, as one place in all of them."""
    used = [(i, p) for i, p in enumerate(indices) if p is not None]
    dim, places = used[0]
    if len(used) == 1:
        return _picked(x, places, dim)
    lengths = [x.shape[i] for i, _ in used]
    flat = torch.zeros((), dtype=torch.int64, device=x.device)
    for length, (_, p) in zip(lengths, used, strict=True):
        flat = flat * length + p.remainder(length)
    inside = [(p >= -length) & (p < length) for length, (_, p) in zip(lengths, used, strict=True)]
    known = functools.reduce(torch.logical_and, inside)
    return _picked(x.flatten(dim, dim + len(used) - 1), flat.masked_fill(~known, math.prod(lengths)), dim)


def _gather_axis(call: OperatorCall) -> Axis:
    """x and index of one rank, with the batch at one axis that is not gathered along."""
    x, index = call.traced("x"), call.traced("index")
    if x.axis != index.axis:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    if x.axis is None:
        return None
    if call["dim"] % x.rank == x.axis or index.shape[x.axis] != x.shape[x.axis]:
        raise call.mixing("it would gather from other examples")
    return x.axis


@operator("aten.gather.default", batch=_gather_axis, check=_whole_places)
def _gather(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """A place outside gives NaN; among whole numbers -1, which is outside of every table."""
    outside = (index < 0) | (index >= x.shape[dim])
    picked = x.gather(dim, index.masked_fill(outside, 0))
    return picked.masked_fill_(outside, math.nan if x.is_floating_point() else -1)


def _fits_its_place(arguments: dict[str, Any]) -> None:
    x, part, dim = arguments["x"], arguments["src"], arguments["dim"]
    if not -x.rank <= dim < x.rank:
        raise HostileGraph("no such dimension", seen=dim, wanted=f"{-x.rank} to {x.rank - 1}")
    wanted, length = list(x.shape), x.shape[dim]
    if "index" in arguments:
        wanted.pop(dim)
    else:
        wanted[dim] = len(range(*slice(arguments["start"], arguments["end"], arguments["step"]).indices(length)))
    if part.shape != tuple(wanted):
        raise ShapeMismatch("a part does not fit its place", seen=part.shape, wanted=tuple(wanted))


def _slice_scatter_axis(call: OperatorCall) -> Axis:
    """A part put back along any axis but the batch, or in place of the whole of it."""
    whole = call["start"] in (None, 0) and call["end"] in (None, UNBOUNDED) and call["step"] == 1
    axis = call.traced("x").axis if whole else not_along_batch(call)
    if call["src"].axis != axis:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    return axis


@operator("aten.slice_scatter.default", batch=_slice_scatter_axis, booleans=True, check=_fits_its_place)
def _slice_scatter(
    arithmetic: Arithmetic,
    x: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: Positive = 1,
) -> Tensor:
    return torch.slice_scatter(x, src, dim, start, end, step)


def _select_scatter_axis(call: OperatorCall) -> Axis:
    axis = not_along_batch(call)
    wanted = axis if axis is None else axis - (call["dim"] % call.traced("x").rank < axis)
    if call["src"].axis != wanted:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    return axis


@operator("aten.select_scatter.default", batch=_select_scatter_axis, booleans=True, check=_fits_its_place)
def _select_scatter(arithmetic: Arithmetic, x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    return torch.select_scatter(x, src, dim, index)


def _safe_places(x: Tensor, index: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Places inside, and marks of those that were not: floating-point values that go there become NaN, at place 0.

    Raises: BadWeights for whole numbers, which have no NaN.
    """
    outside = (index < 0) | (index >= x.shape[dim])
    if not x.is_floating_point() and not index.is_meta and bool(outside.any()):
        raise BadWeights("an index is outside of a tensor of whole numbers, which has no NaN for it")
    return index.masked_fill(outside, 0), outside


def _fits_its_lines(arguments: dict[str, Any]) -> None:
    _whole_places(arguments)
    x, index, src = arguments["x"], arguments["index"], arguments.get("src")
    dim = arguments["dim"] % x.rank
    fits = index.rank == x.rank and all(
        n <= m or i == dim for i, (n, m) in enumerate(zip(index.shape, x.shape, strict=False))
    )
    if isinstance(src, Traced):
        fits = fits and src.rank == x.rank and all(n <= m for n, m in zip(index.shape, src.shape, strict=True))
    if not fits:
        shapes = [v.shape for v in (x, index, src) if isinstance(v, Traced)]
        raise ShapeMismatch("places do not fit what they put values into, or the values", seen=shapes)


def _put_work(call: OperatorCall) -> int:
    source = call.arguments.get("src")
    return 10 * (call.output.numel() + (source.tensor.numel() if isinstance(source, Traced) else 0))


def _scatter_axis(call: OperatorCall) -> Axis:
    """x, index and src of one rank, with the batch at one axis that is not scattered along."""
    parts = [
        call.traced("x"),
        call.traced("index"),
        *([call["src"]] if isinstance(call.arguments.get("src"), Traced) else []),
    ]
    axes = {t.axis for t in parts}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing("some of its arguments depend on the examples and others do not; expand those to the batch")
    axis: int = parts[0].axis
    if call["dim"] % call.traced("x").rank == axis or any(t.shape[axis] != call.traced("x").shape[axis] for t in parts):
        raise call.mixing("it would put values into other examples")
    return axis


@operator("aten.scatter.value", batch=_scatter_axis, check=_fits_its_lines, work=_put_work, booleans=True)
def _scatter_value(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    places, outside = _safe_places(x, index, dim)
    y = x.scatter(dim, places, value)
    if not x.is_floating_point():
        return y
    spoiled = torch.zeros_like(x).scatter_add_(dim, places, outside.to(x.dtype)) > 0
    return y.masked_fill_(spoiled, math.nan)


@operator("aten.scatter.src", batch=_scatter_axis, check=_fits_its_lines, work=_put_work)
def _scatter(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Of several values for one place the last one stays."""
    places, outside = _safe_places(x, index, dim)
    shape = [1] * index.dim()
    shape[dim] = -1
    order = torch.arange(index.shape[dim], device=x.device).reshape(shape).expand(index.shape)
    last = torch.full(x.shape, -1, dtype=torch.int64, device=x.device)
    last = last.scatter_reduce(dim, places, order, "amax", include_self=True)
    given = src[tuple(slice(n) for n in index.shape)]
    if given.is_floating_point():
        given = given.masked_fill(outside, math.nan)
    padded = F.pad(
        given, [p for n, m in zip(reversed(given.shape), reversed(x.shape), strict=True) for p in (0, max(m - n, 0))]
    )
    front = padded[tuple(slice(None) if i == dim % x.dim() else slice(m) for i, m in enumerate(x.shape))]
    return torch.where(last >= 0, front.gather(dim, last.clamp(min=0)), x)


def _added(x: Tensor, dim: int, places: Tensor, src: Tensor) -> Tensor:
    """x + the exact sums of src at each place; one grid for each line along `dim`."""
    if not x.is_floating_point():
        return x.scatter_add(dim, places, src)
    grid = to_grid(src, (dim,), sum_bits(src.shape[dim]))
    sums = torch.zeros_like(x).scatter_add_(dim, places, grid.values)
    lines = tuple(slice(None) if i == dim % x.dim() else slice(n) for i, n in enumerate(src.shape))
    sums[lines].add_(grid.step * 0.0)  # a bad line is bad everywhere
    return x + sums


@operator("aten.scatter_add.default", batch=_scatter_axis, check=_fits_its_lines, work=_put_work)
def _scatter_add(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    places, outside = _safe_places(x, index, dim)
    given = src[tuple(slice(n) for n in index.shape)]
    return _added(x, dim, places, given.masked_fill(outside, math.nan) if x.is_floating_point() else given)


def _index_add_axis(call: OperatorCall) -> Axis:
    """x and source with the batch at one axis, places that are fixed."""
    x, source = call.traced("x"), call.traced("source")
    if call.traced("index").axis is not None:
        raise call.mixing("its places depend on the examples; use scatter_add")
    if x.axis != source.axis:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    if x.axis is not None and call["dim"] % x.rank == x.axis:
        raise call.mixing("it would put values into other examples")
    return x.axis


@operator("aten.index_add.default", batch=_index_add_axis, check=_whole_places, work=_put_work)
def _index_add(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    shape = [1] * x.dim()
    shape[dim] = -1
    index = index.reshape(shape).expand(source.shape)
    return _scatter_add(arithmetic, x, dim, index, source if alpha == 1 else source * alpha)


def _last_axis_added_axis(call: OperatorCall) -> Axis:
    """one_hot: a new axis behind all others."""
    return call.traced("x").axis


@operator("aten.one_hot.default", batch=_last_axis_added_axis, check=_counted_classes)
def _one_hot(arithmetic: Arithmetic, x: Tensor, num_classes: int = -1) -> Tensor:
    """1 where a class stands and 0 elsewhere, also for a class outside."""
    return (x.unsqueeze(-1) == torch.arange(num_classes, device=x.device)).to(torch.int64)
