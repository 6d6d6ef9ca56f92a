"""Tensors that a forward makes itself: zeros, numbers in order, triangles of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.graph import batch_axis as batching
from pot_lab.scoring.operators.registry import AnyDtype, Ignored, Sizes, Whole, operator


def exact_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """Every floating type is float64 while scoring; None is floating."""
    return torch.float64 if dtype is None or dtype.is_floating_point else dtype


def _full(name: str, value: float) -> None:
    def kernel(
        arithmetic: Arithmetic,
        sizes: Sizes,
        dtype: AnyDtype | None = None,
        layout: Ignored = None,
        device: Ignored = None,
        pin_memory: Ignored = None,
    ) -> Tensor:
        return torch.full(list(sizes), value, dtype=exact_dtype(dtype), device=arithmetic.device)

    operator(f"aten.{name}.default", batch=batching.made)(kernel)


_full("zeros", 0)
_full("ones", 1)


def _value_dtype(value: float | bool, dtype: torch.dtype | None) -> torch.dtype:
    """Without a type, the type of the value, as in ATen."""
    if dtype is None and not isinstance(value, float):
        return torch.bool if isinstance(value, bool) else torch.int64
    return exact_dtype(dtype)


@operator("aten.full.default", batch=batching.made)
def full(
    arithmetic: Arithmetic,
    sizes: Sizes,
    value: float,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return torch.full(list(sizes), value, dtype=_value_dtype(value, dtype), device=arithmetic.device)


def _full_like(name: str, value: float) -> None:
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

    operator(f"aten.{name}_like.default", batch=batching.like, booleans=True)(kernel)


_full_like("zeros", 0)
_full_like("ones", 1)


@operator("aten.full_like.default", batch=batching.like, booleans=True)
def full_like(
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


@operator("aten.arange.default", batch=batching.fixed)
def arange(
    arithmetic: Arithmetic,
    end: Whole,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return _range(arithmetic, 0, end, 1, dtype)


@operator("aten.arange.start", batch=batching.fixed)
def arange_from(
    arithmetic: Arithmetic,
    start: Whole,
    end: Whole,
    dtype: AnyDtype | None = None,
    layout: Ignored = None,
    device: Ignored = None,
    pin_memory: Ignored = None,
) -> Tensor:
    return _range(arithmetic, start, end, 1, dtype)


@operator("aten.arange.start_step", batch=batching.fixed)
def arange_by(
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


@operator("aten.tril.default", batch=batching.triangle, booleans=True)
def tril(arithmetic: Arithmetic, x: Tensor, diagonal: int = 0) -> Tensor:
    return x.tril(diagonal)


@operator("aten.triu.default", batch=batching.triangle, booleans=True)
def triu(arithmetic: Arithmetic, x: Tensor, diagonal: int = 0) -> Tensor:
    return x.triu(diagonal)
