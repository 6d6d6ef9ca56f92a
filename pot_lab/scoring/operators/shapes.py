"""Operators that only move numbers: views, joins, cuts, pads, copies along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.graph.batch_axis import (
    UNBOUNDED,
    Axis,
    Interleaved,
    OperatorCall,
    Traced,
    TracedInt,
    broadcast,
    not_along_batch,
    only_data_is_batched,
)
from pot_lab.scoring.operators.registry import (
    Ignored,
    Ints,
    Naturals,
    Positive,
    Sizes,
    Tensors,
    Text,
    operator,
)


def _length(x: Traced, dim: int) -> int:
    return x.shape[dim] if -x.rank <= dim < x.rank else 0


@batch_axis.takes_interleaved
def _reshape_axis(call: OperatorCall) -> Axis | Interleaved:
    """The batch stays a factor of one axis, behind the same elements as before."""
    x, shape = call.traced("x"), tuple(call.output.shape)
    if x.axis is None:
        _no_batched_sizes(call)
        return None
    return _regrouped(call, x, x.axis, shape)


def _regrouped(call: OperatorCall, x: Traced, axis: int, after: Sequence[int]) -> Axis | Interleaved:
    """Axis of the batch after a reshape.

    Row-major, the example of an element is (place // inner) % batch, with `front` groups before it in all: any axis
    of the new shape that these numbers divide may hold it.
    """
    front = math.prod(x.shape[:axis]) * x.front
    found: Axis | Interleaved = None
    for place, size in enumerate(after):
        before = math.prod(after[:place])
        if front == before and size % call.batch == 0:
            return place
        if before and front % before == 0 and size % (front // before * call.batch) == 0:
            found = Interleaved(place, front // before)
    if found is None:
        raise call.mixing(
            f"the batch axis {axis} of shape {x.shape} would be torn apart by the new shape {tuple(after)}"
        )
    return found


def _no_batched_sizes(call: OperatorCall) -> None:
    for value in call.arguments.values():
        if isinstance(value, list | tuple) and any(isinstance(v, TracedInt) and v.batched for v in value):
            raise call.mixing("a fixed tensor would be given a shape that depends on the batch's size")


@operator("aten.view.default", "aten.reshape.default", batch=_reshape_axis, booleans=True)
def _reshape(arithmetic: Arithmetic, x: Tensor, sizes: Sizes) -> Tensor:
    return x.reshape(list(sizes))


@operator("aten.flatten.using_ints", batch=_reshape_axis, booleans=True)
def _flatten(arithmetic: Arithmetic, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    return x.flatten(start_dim, end_dim)


@operator("aten.unflatten.int", batch=_reshape_axis, booleans=True)
def _unflatten(arithmetic: Arithmetic, x: Tensor, dim: int, sizes: Sizes) -> Tensor:
    return torch.unflatten(x, dim, list(sizes))


def _permute_axis(call: OperatorCall) -> Axis:
    x = call.traced("x")
    return None if x.axis is None else [d % x.rank for d in call["dims"]].index(x.axis)


@operator("aten.permute.default", batch=_permute_axis, booleans=True)
def _permute(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.permute(list(dims))


def _transpose_axis(call: OperatorCall) -> Axis:
    x = call.traced("x")
    if x.axis is None:
        return None
    first, second = (int(call[name]) % x.rank for name in ("first", "second"))
    swapped = {first: second, second: first}
    return swapped.get(x.axis, x.axis)


@operator("aten.transpose.int", batch=_transpose_axis, booleans=True)
def _transpose(arithmetic: Arithmetic, x: Tensor, first: int, second: int) -> Tensor:
    return x.transpose(first, second)


def _matrix_transpose_axis(call: OperatorCall) -> Axis:
    x = call.traced("x")
    return x.axis if x.axis is None or x.rank < 2 else 1 - x.axis


@operator("aten.t.default", batch=_matrix_transpose_axis, booleans=True)
def _matrix_transpose(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x.t()


def _unsqueeze_axis(call: OperatorCall) -> Axis:
    x = call.traced("x")
    return None if x.axis is None else x.axis + (call["dim"] % (x.rank + 1) <= x.axis)


@operator("aten.unsqueeze.default", batch=_unsqueeze_axis, booleans=True)
def _unsqueeze(arithmetic: Arithmetic, x: Tensor, dim: int) -> Tensor:
    return x.unsqueeze(dim)


def _squeeze_axis(call: OperatorCall) -> Axis:
    x = call.traced("x")
    if x.axis is None:
        return None
    gone: set[int] = {d % x.rank for d in (call["dims"] if isinstance(call["dims"], list | tuple) else [call["dims"]])}
    if x.axis in gone:
        raise call.mixing("it would drop the batch axis when the batch is one example")
    return x.axis - sum(d < x.axis and x.shape[d] == 1 for d in gone)


@operator("aten.squeeze.dim", batch=_squeeze_axis, booleans=True)
def _squeeze(arithmetic: Arithmetic, x: Tensor, dims: int) -> Tensor:
    return x.squeeze(dims)


@operator("aten.squeeze.dims", batch=_squeeze_axis, booleans=True)
def _squeeze_dims(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.squeeze(tuple(dims))


def _expand_axis(call: OperatorCall) -> Axis:
    x, rank = call.traced("x"), call.output.dim()
    if x.axis is not None:
        return x.axis + rank - x.rank
    grown = [i for i, size in enumerate(call["sizes"]) if isinstance(size, TracedInt) and size.batched]
    if not grown:
        return None
    place = grown[0] - (rank - x.rank)
    if len(grown) > 1 or (place >= 0 and x.shape[place] != 1):
        raise call.mixing("only one axis of size 1 may be expanded to the batch")
    return grown[0]


@operator("aten.expand.default", batch=_expand_axis, booleans=True)
def _expand(arithmetic: Arithmetic, x: Tensor, sizes: Sizes, implicit: bool = False) -> Tensor:
    return x.expand(list(sizes))


def _concatenation_axis(call: OperatorCall) -> Axis:
    """cat: all parts hold the batch at one axis, and are joined along another."""
    parts = call["parts"]
    axes = {t.axis for t in parts}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing(
            "some of the joined tensors depend on the examples and others do not; expand those to the batch first"
        )
    axis: int = parts[0].axis
    if call["dim"] % parts[0].rank == axis:
        raise call.mixing("it would join along the batch axis")
    return axis


@operator("aten.cat.default", batch=_concatenation_axis, booleans=True)
def _cat(arithmetic: Arithmetic, parts: Tensors, dim: int = 0) -> Tensor:
    return torch.cat(list(parts), dim)


def _stack_axis(call: OperatorCall) -> Axis:
    parts = call["parts"]
    axes = {t.axis for t in parts}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing(
            "some of the stacked tensors depend on the examples and others do not; expand those to the batch first"
        )
    axis, rank = int(parts[0].axis), int(parts[0].rank)
    return axis + (int(call["dim"]) % (rank + 1) <= axis)


@operator("aten.stack.default", batch=_stack_axis, booleans=True)
def _stack(arithmetic: Arithmetic, parts: Tensors, dim: int = 0) -> Tensor:
    return torch.stack(list(parts), dim)


def _split_pieces(arguments: dict[str, Any]) -> int:
    size: int = arguments["split_size"]
    return -(-_length(arguments["x"], arguments["dim"]) // size)


@operator("aten.chunk.default", batch=batch_axis.cut, returns="tensors", pieces=lambda arguments: arguments["chunks"])
def _chunk(arithmetic: Arithmetic, x: Tensor, chunks: Positive, dim: int = 0) -> Tensors:
    return x.chunk(chunks, dim)


@operator("aten.split.Tensor", batch=batch_axis.cut, returns="tensors", pieces=_split_pieces)
def _split(arithmetic: Arithmetic, x: Tensor, split_size: Positive, dim: int = 0) -> Tensors:
    return torch.split(x, split_size, dim)


@operator("aten.split_with_sizes.default", batch=batch_axis.cut, returns="tensors")
def _split_with_sizes(arithmetic: Arithmetic, x: Tensor, split_sizes: Naturals, dim: int = 0) -> Tensors:
    return torch.split(x, list(split_sizes), dim)


def _select_axis(call: OperatorCall) -> Axis:
    """select, unbind: an axis that is not the batch goes away."""
    axis = not_along_batch(call)
    return axis if axis is None else axis - (call["dim"] % call.traced("x").rank < axis)


@operator("aten.select.int", batch=_select_axis, booleans=True)
def _select(arithmetic: Arithmetic, x: Tensor, dim: int, index: int) -> Tensor:
    return x.select(dim, index)


def _slicing_axis(call: OperatorCall) -> Axis:
    """slice: along any axis but the batch, or the whole of it, as in `x[:, 1]`."""
    whole = call["start"] in (None, 0) and call["end"] in (None, UNBOUNDED) and call["step"] == 1
    if whole:
        axis: Axis = call.traced("x").axis
        return axis
    return not_along_batch(call)


@operator("aten.slice.Tensor", batch=_slicing_axis, booleans=True)
def _slice(
    arithmetic: Arithmetic,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: Positive = 1,
) -> Tensor:
    cut: Tensor = torch.ops.aten.slice.Tensor(x, dim, start, end, step)
    return cut


def _padding_axis(call: OperatorCall) -> Axis:
    """Pads count from the last axis, two numbers each."""
    x = call.traced("x")
    place = 2 * (x.rank - 1 - x.axis) if x.axis is not None else 0
    if x.axis is not None and any(call["pads"][place : place + 2]):
        raise call.mixing("it would pad the batch axis")
    return x.axis


@operator("aten.constant_pad_nd.default", batch=_padding_axis)
def _constant_pad(arithmetic: Arithmetic, x: Tensor, pads: Ints, value: float = 0) -> Tensor:
    return F.pad(x, list(pads), value=value)


@operator("aten.pad.default", batch=_padding_axis)
def _pad(arithmetic: Arithmetic, x: Tensor, pads: Ints, mode: Text = "constant", value: float | None = None) -> Tensor:
    return F.pad(x, list(pads), mode, value if mode == "constant" else None)


@operator("aten.sym_size.int", batch=lambda call: call.traced("x").axis, returns="int")
def _size(arithmetic: Arithmetic, x: Tensor, dim: int) -> int:
    return x.shape[dim]


def _expand_as_axis(call: OperatorCall) -> Axis:
    x, other, rank = call.traced("x"), call.traced("other"), call.output.dim()
    return broadcast(call, [x, other], rank)


@operator("aten.expand_as.default", batch=_expand_as_axis, booleans=True)
def _expand_as(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return x.expand_as(other)


def _repeat_axis(call: OperatorCall) -> Axis:
    """Copies along axes: the batch's own axis stays as it is, or a fixed axis grows to the batch, which stands before
    what was there."""
    x, rank = call.traced("x"), call.output.dim()
    grown = [i for i, n in enumerate(call["repeats"]) if isinstance(n, TracedInt) and n.batched]
    if x.axis is not None:
        axis = x.axis + rank - x.rank
        if grown or call["repeats"][axis] != 1:
            raise call.mixing("it would repeat the batch axis")
        return axis
    if not grown:
        return None
    if len(grown) > 1:
        raise call.mixing("only one axis may be repeated to the batch")
    return grown[0]


@operator("aten.repeat.default", batch=_repeat_axis, booleans=True)
def _repeat(arithmetic: Arithmetic, x: Tensor, repeats: Sizes) -> Tensor:
    return x.repeat(list(repeats))


def _repeat_interleave_axis(call: OperatorCall) -> Axis:
    x = call.traced("x")
    if x.axis is not None and (call["dim"] is None or call["dim"] % x.rank == x.axis):
        raise call.mixing("it would repeat the batch axis")
    return x.axis


@operator("aten.repeat_interleave.self_int", batch=_repeat_interleave_axis, booleans=True)
def _repeat_interleave(
    arithmetic: Arithmetic, x: Tensor, repeats: Positive, dim: int | None = None, output_size: Ignored = None
) -> Tensor:
    return x.repeat_interleave(repeats, dim)


def _flipping_axis(call: OperatorCall) -> Axis:
    """flip, roll: along any axes but the batch; none means all."""
    x = call.traced("x")
    if x.axis is not None and (not call["dims"] or x.axis in {d % x.rank for d in call["dims"]}):
        raise call.mixing("it would move examples")
    return x.axis


@operator("aten.flip.default", batch=_flipping_axis, booleans=True)
def _flip(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.flip(list(dims))


@operator("aten.roll.default", batch=_flipping_axis, booleans=True)
def _roll(arithmetic: Arithmetic, x: Tensor, shifts: Ints, dims: Ints = ()) -> Tensor:
    return x.roll(list(shifts), list(dims))


@operator(
    "aten.unbind.int",
    batch=_select_axis,
    returns="tensors",
    pieces=lambda arguments: _length(arguments["x"], arguments["dim"]),
    booleans=True,
)
def _unbind(arithmetic: Arithmetic, x: Tensor, dim: int = 0) -> Tensors:
    return x.unbind(dim)


def _before_image_axis(call: OperatorCall) -> Axis:
    """Pixel shuffles: the batch stands before channels, height and width."""
    axis = only_data_is_batched(call, "x")
    if axis is not None and axis >= call.traced("x").rank - 3:
        raise call.mixing("the batch must stand before channels, height and width")
    return axis


@operator("aten.pixel_shuffle.default", batch=_before_image_axis)
def _pixel_shuffle(arithmetic: Arithmetic, x: Tensor, factor: Positive) -> Tensor:
    return F.pixel_shuffle(x, factor)


@operator("aten.pixel_unshuffle.default", batch=_before_image_axis)
def _pixel_unshuffle(arithmetic: Arithmetic, x: Tensor, factor: Positive) -> Tensor:
    return F.pixel_unshuffle(x, factor)


@operator("aten.channel_shuffle.default", batch=batch_axis.batch_first(0))
def _channel_shuffle(arithmetic: Arithmetic, x: Tensor, groups: Positive) -> Tensor:
    return torch.unflatten(x, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)
