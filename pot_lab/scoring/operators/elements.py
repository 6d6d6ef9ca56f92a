"""Arithmetic, comparisons and selection of tensors, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.errors import HostileGraph
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.graph.batch_axis import Traced
from pot_lab.scoring.operators.registry import Operand, Text, operator


def meeting(x: Tensor, *others: Operand | None) -> Tensor:
    """x in float64 if it meets a floating-point value; torch's own promotion would follow its default type."""
    floating = any(isinstance(o, float) or (isinstance(o, Tensor) and o.is_floating_point()) for o in others)
    return x.to(torch.float64) if floating else x


def not_only_truth(arguments: dict[str, Any]) -> None:
    """Truth values may select numbers, such as x * mask, but are no numbers among themselves."""
    types = [v.tensor.dtype if isinstance(v, Traced) else type(v) for v in (arguments["x"], arguments["other"])]
    if all(t in (torch.bool, bool) for t in types):
        raise HostileGraph("two truth values have no arithmetic; use logical operators", seen=types)


@operator("aten.add.Tensor", batch=batch_axis.elementwise, booleans=True, check=not_only_truth)
def _add(arithmetic: Arithmetic, x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    return torch.add(meeting(x, other, alpha), other if alpha == 1 else other * alpha)


@operator("aten.sub.Tensor", batch=batch_axis.elementwise, booleans=True, check=not_only_truth)
def _sub(arithmetic: Arithmetic, x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    return torch.sub(meeting(x, other, alpha), other if alpha == 1 else other * alpha)


@operator("aten.rsub.Scalar", batch=batch_axis.elementwise)
def _rsub(arithmetic: Arithmetic, x: Tensor, other: float, alpha: float = 1) -> Tensor:
    x = meeting(x, other, alpha)
    return torch.sub(other, x if alpha == 1 else x * alpha)


@operator("aten.mul.Tensor", batch=batch_axis.elementwise, booleans=True, check=not_only_truth)
def _mul(arithmetic: Arithmetic, x: Tensor, other: Operand) -> Tensor:
    return torch.mul(meeting(x, other), other)


@operator("aten.div.Tensor", batch=batch_axis.elementwise, booleans=True, check=not_only_truth)
def _div(arithmetic: Arithmetic, x: Tensor, other: Operand) -> Tensor:
    return divide(x, other)


def _no_zero(arguments: dict[str, Any]) -> None:
    """Whole numbers have no quotient by 0, and no NaN in its place."""
    other = arguments["other"]
    whole = not arguments["x"].tensor.dtype.is_floating_point
    if whole and not isinstance(other, float) and (other == 0 or (isinstance(other, Traced) and _is_whole(other))):
        raise HostileGraph("whole numbers are divided by fixed numbers other than 0", seen=other)


def _is_whole(x: Traced) -> bool:
    return not x.tensor.dtype.is_floating_point


def _divisible(arguments: dict[str, Any]) -> None:
    not_only_truth(arguments)
    _no_zero(arguments)


@operator("aten.div.Tensor_mode", batch=batch_axis.elementwise, check=_divisible)
def _div_whole(arithmetic: Arithmetic, x: Tensor, other: Operand, rounding_mode: Text | None) -> Tensor:
    """x / other, rounded down or towards 0; of whole numbers in whole numbers."""
    if rounding_mode is None:
        return divide(x, other)
    if not _floating(x, other):
        return torch.div(x, other, rounding_mode=rounding_mode)
    y = divide(x, other)
    return torch.floor(y) if rounding_mode == "floor" else torch.trunc(y)


def _floating(*values: Operand) -> bool:
    return any(v.is_floating_point() if isinstance(v, Tensor) else isinstance(v, float) for v in values)


@operator("aten.remainder.Scalar", batch=batch_axis.elementwise, check=_no_zero)
def _remainder(arithmetic: Arithmetic, x: Tensor, other: float) -> Tensor:
    """x - floor(x / other) other."""
    if not _floating(x, other):
        return torch.remainder(x, other)
    return meeting(x, other) - torch.floor(divide(x, other)) * other


@operator("aten.maximum.default", batch=batch_axis.elementwise)
def _maximum(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(x, other)


@operator("aten.minimum.default", batch=batch_axis.elementwise)
def _minimum(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return torch.minimum(x, other)


@operator("aten.rsub.Tensor", batch=batch_axis.elementwise)
def _rsub_tensor(arithmetic: Arithmetic, x: Tensor, other: Tensor, alpha: float = 1) -> Tensor:
    return _sub(arithmetic, other, x, alpha)


# --------------------------------------------------------------------- comparisons and truth values


def _comparison(name: str, compare: Callable[[Tensor, Operand], Tensor]) -> None:
    def with_number(arithmetic: Arithmetic, x: Tensor, other: float) -> Tensor:
        return compare(meeting(x, other), other)

    def with_tensor(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
        return compare(meeting(x, other), other)

    operator(f"aten.{name}.Scalar", batch=batch_axis.elementwise, booleans=True)(with_number)
    operator(f"aten.{name}.Tensor", batch=batch_axis.elementwise, booleans=True)(with_tensor)


_comparison("eq", torch.eq)
_comparison("ne", torch.ne)
_comparison("lt", torch.lt)
_comparison("le", torch.le)
_comparison("gt", torch.gt)
_comparison("ge", torch.ge)


def _only_truth(arguments: dict[str, Any]) -> None:
    for name, value in arguments.items():
        if isinstance(value, Traced) and value.tensor.dtype != torch.bool:
            raise HostileGraph("bits of numbers have no rule; compare first", seen=f"{name}: {value.tensor.dtype}")


@operator("aten.logical_not.default", batch=batch_axis.elementwise, booleans=True)
def _logical_not(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x.logical_not()


operator("aten.bitwise_not.default", batch=batch_axis.elementwise, booleans=True, check=_only_truth)(_logical_not)


def _logical(name: str, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
    def kernel(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
        return combine(x, other)

    operator(f"aten.logical_{name}.default", batch=batch_axis.elementwise, booleans=True)(kernel)
    operator(f"aten.bitwise_{name}.Tensor", batch=batch_axis.elementwise, booleans=True, check=_only_truth)(kernel)


_logical("and", torch.logical_and)
_logical("or", torch.logical_or)


@operator("aten.masked_fill.Scalar", batch=batch_axis.elementwise, booleans=True)
def _masked_fill(arithmetic: Arithmetic, x: Tensor, mask: Tensor, value: float) -> Tensor:
    return x.masked_fill(mask, value)


@operator("aten.masked_fill.Tensor", batch=batch_axis.elementwise, booleans=True)
def _masked_fill_tensor(arithmetic: Arithmetic, x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    return torch.where(mask, value.to(x.dtype), x)


@operator("aten.where.self", batch=batch_axis.elementwise, booleans=True)
def _where(arithmetic: Arithmetic, condition: Tensor, x: Tensor, other: Tensor) -> Tensor:
    return torch.where(condition, meeting(x, other), meeting(other, x))


@operator("aten.where.ScalarOther", batch=batch_axis.elementwise, booleans=True)
def _where_other(arithmetic: Arithmetic, condition: Tensor, x: Tensor, other: float) -> Tensor:
    return torch.where(condition, meeting(x, other), other)


@operator("aten.where.ScalarSelf", batch=batch_axis.elementwise, booleans=True)
def _where_self(arithmetic: Arithmetic, condition: Tensor, x: float, other: Tensor) -> Tensor:
    return torch.where(condition, x, meeting(other, x))


@operator("aten.where.Scalar", batch=batch_axis.elementwise, booleans=True)
def _where_numbers(arithmetic: Arithmetic, condition: Tensor, x: float, other: float) -> Tensor:
    return torch.where(condition, torch.tensor(x, dtype=torch.float64, device=condition.device), float(other))


# ------------------------------------------------------------------------------ compositions of these


@operator("aten.addcmul.default", batch=batch_axis.elementwise)
def _addcmul(arithmetic: Arithmetic, x: Tensor, a: Tensor, b: Tensor, value: float = 1) -> Tensor:
    product = a * b
    return meeting(x, a, b, value) + (product if value == 1 else product * value)


@operator("aten.lerp.Tensor", batch=batch_axis.elementwise)
def _lerp(arithmetic: Arithmetic, x: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """x + weight (end - x)."""
    return x + (end - x) * weight


@operator("aten.lerp.Scalar", batch=batch_axis.elementwise)
def _lerp_by_number(arithmetic: Arithmetic, x: Tensor, end: Tensor, weight: float) -> Tensor:
    return x + (end - x) * weight
