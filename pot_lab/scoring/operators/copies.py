"""Copies, fills and casts; operators that change nothing as far as a score is concerned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import HostileGraph
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.operators.constants import exact_dtype
from pot_lab.scoring.operators.registry import (
    AnyDtype,
    Ignored,
    Probability,
    operator,
)

_NO_CAST = (
    "casts from floating point to whole numbers do not exist: give whole numbers, such as class numbers, as an input "
    "of their own in int64"
)


def _copyable(arguments: dict[str, Any]) -> None:
    into, source = arguments["x"].tensor.dtype, arguments["src"].tensor.dtype
    if source.is_floating_point and not into.is_floating_point:
        raise HostileGraph(_NO_CAST, seen=f"to {into}")


@operator("aten.copy.default", batch=batch_axis.elementwise, booleans=True, check=_copyable)
def _copy(arithmetic: Arithmetic, x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """src in the type and shape of x."""
    return src.to(x.dtype).expand(x.shape)


@operator("aten.fill.Scalar", batch=batch_axis.elementwise, booleans=True)
def _fill(arithmetic: Arithmetic, x: Tensor, value: float) -> Tensor:
    return torch.full_like(x, value)


@operator("aten.fill.Tensor", batch=batch_axis.elementwise, booleans=True)
def _fill_by_tensor(arithmetic: Arithmetic, x: Tensor, value: Tensor) -> Tensor:
    return value.to(x.dtype).expand(x.shape)


@operator("aten.contiguous.default", "aten.clone.default", batch=batch_axis.elementwise, booleans=True)
def _same_memory_format(arithmetic: Arithmetic, x: Tensor, memory_format: Ignored = None) -> Tensor:
    return x


@operator(
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    batch=batch_axis.elementwise,
    booleans=True,
)
def _same(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x


@operator(
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    batch=batch_axis.elementwise,
    mode="train",
)
def _dropout(arithmetic: Arithmetic, x: Tensor, p: Probability, train: bool) -> Tensor:
    return x


LARGEST_CAST = 2.0**53
"""Up to here binary64 has every whole number."""


@operator("aten.to.dtype", batch=batch_axis.elementwise, booleans=True)
def _to_dtype(
    arithmetic: Arithmetic,
    x: Tensor,
    dtype: AnyDtype,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Ignored = None,
) -> Tensor:
    """Every floating type is float64 while scoring; bool says whether a number is not 0. A whole number is what is left
    of a number without its fraction; -1, outside of every table, where that is no whole number below 2^53."""
    if x.is_floating_point() and dtype == torch.int64:
        return torch.where(x.abs() < LARGEST_CAST, x, -1.0).to(torch.int64)
    return x.to(exact_dtype(dtype))
