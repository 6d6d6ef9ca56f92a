"""Tensors that a forward makes itself: zeros, numbers in order, triangles of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.graph.batch_axis import Axis, OperatorCall, TracedInt
from pot_lab.scoring.operators.registry import AnyDtype, Ignored, Sizes, Whole, operator


def exact_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """Every floating type is float64 while scoring; None is floating."""
    return torch.float64 if dtype is None or dtype.is_floating_point else dtype


def _made_axis(call: OperatorCall) -> Axis:
    """A tensor of one repeated value: at most one of its sizes may follow the batch."""
    grown = [i for i, n in enumerate(call["sizes"]) if isinstance(n, TracedInt) and n.batched]
    if len(grown) > 1:
        raise call.mixing("only one axis may have the batch's size")
    return grown[0] if grown else None


def _filled(name: str, value: float) -> None:
    def kernel(
        arithmetic: Arithmetic,
        sizes: Sizes,
        dtype: AnyDtype | None = None,
        layout: Ignored = None,
        device: Ignored = None,
        pin_memory: Ignored = None,
    ) -> Tensor:
        return torch.full(list(sizes), value, dtype=exact_dtype(dtype), device=arithmetic.device)

    operator(f"aten.{name}.default", batch=_made_axis)(kernel)


_filled("zeros", 0)
_filled("ones", 1)


def _value_dtype(value: float | bool, dtype: torch.dtype | None) -> torch.dtype:
    """Without a type, the type of the value, as in ATen."""
    if dtype is None and not isinstance(value, float):
        return torch.bool if isinstance(value, bool) else torch.int64
    return exact_dtype(dtype)


@operator("aten.full.default", batch=_made_axis)
def _full(
    arithmetic: Arithmetic,
    sizes: Sizes,
    value: float,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return torch.full(list(sizes), value, dtype=_value_dtype(value, dtype), device=arithmetic.device)


def _like_axis(call: OperatorCall) -> Axis:
    """A tensor of one repeated value, of another's shape."""
    return call.traced("x").axis


def _filled_like(name: str, value: float) -> None:
    def kernel(
        arithmetic: Arithmetic,
        x: Tensor,
        dtype: AnyDtype | None = None,
        layout: Ignored = None,
        device: Ignored = None,
        pin_memory: Ignored = None,
        memory_format: Ignored = None,
    ) -> Tensor:
        return torch.full_like(x, value, dtype=x.dtype if dtype is None else exact_dtype(dtype))

    operator(f"aten.{name}_like.default", batch=_like_axis, booleans=True)(kernel)


_filled_like("zeros", 0)
_filled_like("ones", 1)


@operator("aten.full_like.default", batch=_like_axis, booleans=True)
def _full_like(
    arithmetic: Arithmetic,
    x: Tensor,
    value: float,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
    memory_format: Ignored = None,
) -> Tensor:
    return torch.full_like(x, value, dtype=x.dtype if dtype is None else exact_dtype(dtype))


def _range(arithmetic: Arithmetic, start: float, end: float, step: float, dtype: torch.dtype | None) -> Tensor:
    """Whole numbers, made as int64 and then converted; a graph's `Whole` arguments are all whole."""
    numbers = torch.arange(int(start), int(end), int(step), dtype=torch.int64, device=arithmetic.device)
    return numbers if dtype is None else numbers.to(exact_dtype(dtype))


def _fixed_axis(call: OperatorCall) -> Axis:
    """A tensor that depends on nothing."""
    return None


@operator("aten.arange.default", batch=_fixed_axis)
def _arange(
    arithmetic: Arithmetic,
    end: Whole,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return _range(arithmetic, 0, end, 1, dtype)


@operator("aten.arange.start", batch=_fixed_axis)
def _arange_from(
    arithmetic: Arithmetic,
    start: Whole,
    end: Whole,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return _range(arithmetic, start, end, 1, dtype)


@operator("aten.arange.start_step", batch=_fixed_axis)
def _arange_by(
    arithmetic: Arithmetic,
    start: Whole,
    end: Whole,
    step: Whole = 1,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return _range(arithmetic, start, end, step, dtype)


def _triangle_axis(call: OperatorCall) -> Axis:
    """tril, triu: the last two axes are rows and columns."""
    x = call.traced("x")
    if x.axis is not None and x.axis >= x.rank - 2:
        raise call.mixing("it would treat the batch axis as rows or columns")
    return x.axis


@operator("aten.tril.default", batch=_triangle_axis, booleans=True)
def _tril(arithmetic: Arithmetic, x: Tensor, diagonal: int = 0) -> Tensor:
    return x.tril(diagonal)


@operator("aten.triu.default", batch=_triangle_axis, booleans=True)
def _triu(arithmetic: Arithmetic, x: Tensor, diagonal: int = 0) -> Tensor:
    return x.triu(diagonal)
