"""Operators that only move numbers, and those that do nothing as far as a score is concerned."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import BadWeights, HostileGraph, ShapeMismatch
from pot_lab.scoring.exact_product import sum_bits, to_grid
from pot_lab.scoring.graph import batch_axis as batching
from pot_lab.scoring.graph.batch_axis import OperatorCall, Traced
from pot_lab.scoring.operators.constants import exact_dtype
from pot_lab.scoring.operators.registry import (
    AnyDtype,
    Ignored,
    Ints,
    Naturals,
    Places,
    Positive,
    Positives,
    Probability,
    Sizes,
    Tensors,
    Text,
    operator,
)


def _length(x: Traced, dim: int) -> int:
    return x.shape[dim] if -x.rank <= dim < x.rank else 0


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


def _window_arguments(arguments: dict[str, Any]) -> None:
    for name in ("output_size", "kernel_size", "dilation", "padding", "stride"):
        if name in arguments and len(arguments[name]) != 2:
            raise HostileGraph("windows have two sizes each", seen=f"{name} {arguments[name]}")


def _window_along(arguments: dict[str, Any]) -> None:
    x, dim = arguments["x"], arguments["dimension"]
    if not -x.rank <= dim < x.rank:
        raise HostileGraph("no such dimension", seen=dim, wanted=f"{-x.rank} to {x.rank - 1}")
    arguments["dim"] = dim


@operator("aten.view.default", "aten.reshape.default", batch=batching.reshape, booleans=True)
def reshape(arithmetic: Arithmetic, x: Tensor, sizes: Sizes) -> Tensor:
    return x.reshape(list(sizes))


@operator("aten.flatten.using_ints", batch=batching.reshape, booleans=True)
def flatten(arithmetic: Arithmetic, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    return x.flatten(start_dim, end_dim)


@operator("aten.unflatten.int", batch=batching.reshape, booleans=True)
def unflatten(arithmetic: Arithmetic, x: Tensor, dim: int, sizes: Sizes) -> Tensor:
    return torch.unflatten(x, dim, list(sizes))


@operator("aten.permute.default", batch=batching.permute, booleans=True)
def permute(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.permute(list(dims))


@operator("aten.transpose.int", batch=batching.transpose, booleans=True)
def transpose(arithmetic: Arithmetic, x: Tensor, first: int, second: int) -> Tensor:
    return x.transpose(first, second)


@operator("aten.t.default", batch=batching.matrix_transpose, booleans=True)
def matrix_transpose(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x.t()


@operator("aten.unsqueeze.default", batch=batching.unsqueeze, booleans=True)
def unsqueeze(arithmetic: Arithmetic, x: Tensor, dim: int) -> Tensor:
    return x.unsqueeze(dim)


@operator("aten.squeeze.dim", batch=batching.squeeze, booleans=True)
def squeeze(arithmetic: Arithmetic, x: Tensor, dims: int) -> Tensor:
    return x.squeeze(dims)


@operator("aten.squeeze.dims", batch=batching.squeeze, booleans=True)
def squeeze_dims(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.squeeze(tuple(dims))


@operator("aten.expand.default", batch=batching.expand, booleans=True)
def expand(arithmetic: Arithmetic, x: Tensor, sizes: Sizes, implicit: bool = False) -> Tensor:
    return x.expand(list(sizes))


@operator("aten.cat.default", batch=batching.concatenation, booleans=True)
def cat(arithmetic: Arithmetic, parts: Tensors, dim: int = 0) -> Tensor:
    return torch.cat(list(parts), dim)


@operator("aten.stack.default", batch=batching.stack, booleans=True)
def stack(arithmetic: Arithmetic, parts: Tensors, dim: int = 0) -> Tensor:
    return torch.stack(list(parts), dim)


def _split_pieces(arguments: dict[str, Any]) -> int:
    size: int = arguments["split_size"]
    return -(-_length(arguments["x"], arguments["dim"]) // size)


@operator("aten.chunk.default", batch=batching.cut, returns="tensors", pieces=lambda arguments: arguments["chunks"])
def chunk(arithmetic: Arithmetic, x: Tensor, chunks: Positive, dim: int = 0) -> Tensors:
    return x.chunk(chunks, dim)


@operator("aten.split.Tensor", batch=batching.cut, returns="tensors", pieces=_split_pieces)
def split(arithmetic: Arithmetic, x: Tensor, split_size: Positive, dim: int = 0) -> Tensors:
    return torch.split(x, split_size, dim)


@operator("aten.split_with_sizes.default", batch=batching.cut, returns="tensors")
def split_with_sizes(arithmetic: Arithmetic, x: Tensor, split_sizes: Naturals, dim: int = 0) -> Tensors:
    return torch.split(x, list(split_sizes), dim)


@operator("aten.select.int", batch=batching.select, booleans=True)
def select(arithmetic: Arithmetic, x: Tensor, dim: int, index: int) -> Tensor:
    return x.select(dim, index)


@operator("aten.slice.Tensor", batch=batching.slicing, booleans=True)
def slice_(
    arithmetic: Arithmetic,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: Positive = 1,
) -> Tensor:
    cut: Tensor = torch.ops.aten.slice.Tensor(x, dim, start, end, step)
    return cut


@operator("aten.constant_pad_nd.default", batch=batching.padding)
def constant_pad(arithmetic: Arithmetic, x: Tensor, pads: Ints, value: float = 0) -> Tensor:
    return F.pad(x, list(pads), value=value)


@operator("aten.pad.default", batch=batching.padding)
def pad(arithmetic: Arithmetic, x: Tensor, pads: Ints, mode: Text = "constant", value: float | None = None) -> Tensor:
    return F.pad(x, list(pads), mode, value if mode == "constant" else None)


@operator("aten.sym_size.int", batch=lambda call: call.traced("x").axis, returns="int")
def size(arithmetic: Arithmetic, x: Tensor, dim: int) -> int:
    return x.shape[dim]


@operator("aten.expand_as.default", batch=batching.expand_as, booleans=True)
def expand_as(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return x.expand_as(other)


@operator("aten.repeat.default", batch=batching.repeat, booleans=True)
def repeat(arithmetic: Arithmetic, x: Tensor, repeats: Sizes) -> Tensor:
    return x.repeat(list(repeats))


@operator("aten.repeat_interleave.self_int", batch=batching.repeat_interleave, booleans=True)
def repeat_interleave(
    arithmetic: Arithmetic, x: Tensor, repeats: Positive, dim: int | None = None, output_size: Ignored = None
) -> Tensor:
    return x.repeat_interleave(repeats, dim)


@operator("aten.flip.default", batch=batching.flipping, booleans=True)
def flip(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.flip(list(dims))


@operator("aten.roll.default", batch=batching.flipping, booleans=True)
def roll(arithmetic: Arithmetic, x: Tensor, shifts: Ints, dims: Ints = ()) -> Tensor:
    return x.roll(list(shifts), list(dims))


@operator(
    "aten.unbind.int",
    batch=batching.select,
    returns="tensors",
    pieces=lambda arguments: _length(arguments["x"], arguments["dim"]),
    booleans=True,
)
def unbind(arithmetic: Arithmetic, x: Tensor, dim: int = 0) -> Tensors:
    return x.unbind(dim)


@operator("aten.pixel_shuffle.default", batch=batching.before_image)
def pixel_shuffle(arithmetic: Arithmetic, x: Tensor, factor: Positive) -> Tensor:
    return F.pixel_shuffle(x, factor)


@operator("aten.pixel_unshuffle.default", batch=batching.before_image)
def pixel_unshuffle(arithmetic: Arithmetic, x: Tensor, factor: Positive) -> Tensor:
    return F.pixel_unshuffle(x, factor)


@operator("aten.channel_shuffle.default", batch=batching.batch_first(0))
def channel_shuffle(arithmetic: Arithmetic, x: Tensor, groups: Positive) -> Tensor:
    return torch.unflatten(x, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)


# ---------------------------------------------------------------------------------- picking by places


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
        raise BadWeights("a place outside of a tensor of whole numbers was asked for")
    return torch.unflatten(picked, dim, places.shape)


@operator("aten.index_select.default", batch=batching.index_select, check=_whole_places)
def index_select(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor) -> Tensor:
    return _picked(x, index.reshape(-1), dim)


@operator("aten.index.Tensor", batch=batching.indexing, check=_whole_places)
def index(arithmetic: Arithmetic, x: Tensor, indices: Places) -> Tensor:
    """Places at the axis where they stand; along several axes together, as one place in all of them."""
    used = [(i, p) for i, p in enumerate(indices) if p is not None]
    dim, places = used[0]
    if len(used) == 1:
        return _picked(x, places, dim)
    lengths = [x.shape[i] for i, _ in used]
    flat, known = torch.zeros((), dtype=torch.int64, device=x.device), None
    for length, (_, p) in zip(lengths, used, strict=True):
        inside = (p >= -length) & (p < length)
        known = inside if known is None else known & inside
        flat = flat * length + p.remainder(length)
    assert known is not None
    return _picked(x.flatten(dim, dim + len(used) - 1), flat.masked_fill(~known, math.prod(lengths)), dim)


@operator("aten.gather.default", batch=batching.gather, check=_whole_places)
def gather(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """A place outside gives NaN."""
    outside = (index < 0) | (index >= x.shape[dim])
    return x.to(torch.float64).gather(dim, index.masked_fill(outside, 0)).masked_fill_(outside, math.nan)


# ---------------------------------------------------------------------------------- parts put into wholes


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


@operator("aten.slice_scatter.default", batch=batching.slice_scatter, booleans=True, check=_fits_its_place)
def slice_scatter(
    arithmetic: Arithmetic,
    x: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: Positive = 1,
) -> Tensor:
    return torch.slice_scatter(x, src, dim, start, end, step)


@operator("aten.select_scatter.default", batch=batching.select_scatter, booleans=True, check=_fits_its_place)
def select_scatter(arithmetic: Arithmetic, x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    return torch.select_scatter(x, src, dim, index)


def _copyable(arguments: dict[str, Any]) -> None:
    into, source = arguments["x"].tensor.dtype, arguments["src"].tensor.dtype
    if source.is_floating_point and not into.is_floating_point:
        raise HostileGraph("casts from floating point to whole numbers do not exist", seen=f"to {into}")


@operator("aten.copy.default", batch=batching.elementwise, booleans=True, check=_copyable)
def copy(arithmetic: Arithmetic, x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """src in the type and shape of x."""
    return src.to(x.dtype).expand(x.shape)


@operator("aten.fill.Scalar", batch=batching.elementwise, booleans=True)
def fill(arithmetic: Arithmetic, x: Tensor, value: float) -> Tensor:
    return torch.full_like(x, value)


@operator("aten.fill.Tensor", batch=batching.elementwise, booleans=True)
def fill_by_tensor(arithmetic: Arithmetic, x: Tensor, value: Tensor) -> Tensor:
    return value.to(x.dtype).expand(x.shape)


# -------------------------------------------------------------------------------------- putting to places


def _safe_places(x: Tensor, index: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Places inside, and marks of those that were not: floating-point values that go there become NaN, at place 0.

    Raises: BadWeights for whole numbers, which have no NaN.
    """
    outside = (index < 0) | (index >= x.shape[dim])
    if not x.is_floating_point() and not index.is_meta and bool(outside.any()):
        raise BadWeights("a place outside of a tensor of whole numbers was asked for")
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


@operator("aten.scatter.value", batch=batching.scatter, check=_fits_its_lines, work=_put_work, booleans=True)
def scatter_value(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    places, outside = _safe_places(x, index, dim)
    y = x.scatter(dim, places, value)
    if not x.is_floating_point():
        return y
    spoiled = torch.zeros_like(x).scatter_add_(dim, places, outside.to(x.dtype)) > 0
    return y.masked_fill_(spoiled, math.nan)


@operator("aten.scatter.src", batch=batching.scatter, check=_fits_its_lines, work=_put_work)
def scatter(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
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


@operator("aten.scatter_add.default", batch=batching.scatter, check=_fits_its_lines, work=_put_work)
def scatter_add(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    places, outside = _safe_places(x, index, dim)
    given = src[tuple(slice(n) for n in index.shape)]
    return _added(x, dim, places, given.masked_fill(outside, math.nan) if x.is_floating_point() else given)


@operator("aten.index_add.default", batch=batching.index_add, check=_whole_places, work=_put_work)
def index_add(arithmetic: Arithmetic, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    shape = [1] * x.dim()
    shape[dim] = -1
    index = index.reshape(shape).expand(source.shape)
    return scatter_add(arithmetic, x, dim, index, source if alpha == 1 else source * alpha)


# --------------------------------------------------------------------------------------------- windows


@operator("aten.im2col.default", batch=batching.batch_first(4), check=_window_arguments)
def im2col(
    arithmetic: Arithmetic, x: Tensor, kernel_size: Positives, dilation: Positives, padding: Naturals, stride: Positives
) -> Tensor:
    return F.unfold(x, tuple(kernel_size), tuple(dilation), tuple(padding), tuple(stride))


@operator(
    "aten.col2im.default",
    batch=batching.batch_first(3),
    check=_window_arguments,
    work=lambda call: 10 * (call.output.numel() + call.traced("x").tensor.numel()),
)
def col2im(
    arithmetic: Arithmetic,
    x: Tensor,
    output_size: Positives,
    kernel_size: Positives,
    dilation: Positives,
    padding: Naturals,
    stride: Positives,
) -> Tensor:
    """Exact sums of what windows have at a place; one grid for each sample."""
    grid = to_grid(x, (1, 2), sum_bits(math.prod(kernel_size)))
    sizes, kernel, spaced, pads, steps = (tuple(v) for v in (output_size, kernel_size, dilation, padding, stride))
    return F.fold(grid.values, sizes, kernel, spaced, pads, steps)


@operator("aten.unfold.default", batch=batching.cut, booleans=True, check=_window_along)
def unfold(arithmetic: Arithmetic, x: Tensor, dimension: int, size: Positive, step: Positive) -> Tensor:
    return x.unfold(dimension, size, step)


@operator("aten.one_hot.default", batch=batching.last_axis_added, check=_counted_classes)
def one_hot(arithmetic: Arithmetic, x: Tensor, num_classes: int = -1) -> Tensor:
    """1 where a class stands and 0 elsewhere, also for a class outside."""
    return (x.unsqueeze(-1) == torch.arange(num_classes, device=x.device)).to(torch.int64)


# ------------------------------------------------------------ nothing, as far as a score is concerned
@operator("aten.contiguous.default", "aten.clone.default", batch=batching.elementwise, booleans=True)
def same_memory_format(arithmetic: Arithmetic, x: Tensor, memory_format: Ignored = None) -> Tensor:
    return x


@operator(
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    batch=batching.elementwise,
    booleans=True,
)
def same(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x


@operator(
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    batch=batching.elementwise,
    mode="train",
)
def dropout(arithmetic: Arithmetic, x: Tensor, p: Probability, train: bool) -> Tensor:
    return x


def _castable(arguments: dict[str, Any]) -> None:
    if arguments["x"].tensor.dtype.is_floating_point and arguments["dtype"] == torch.int64:
        raise HostileGraph("casts from floating point to whole numbers do not exist", seen="to int64")


@operator("aten.to.dtype", batch=batching.elementwise, check=_castable, booleans=True)
def to_dtype(
    arithmetic: Arithmetic,
    x: Tensor,
    dtype: AnyDtype,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Ignored = None,
) -> Tensor:
    """Every floating type is float64 while scoring; bool says whether a number is not 0."""
    return x.to(exact_dtype(dtype))
