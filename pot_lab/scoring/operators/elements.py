"""Arithmetic of tensors, element by element."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring import batching
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.operators.registry import Operand, operator


def meeting(x: Tensor, *others: Operand | None) -> Tensor:
    """x in float64 if it meets a floating-point value; torch's own promotion would follow its default type."""
    floating = any(isinstance(o, float) or (isinstance(o, Tensor) and o.is_floating_point()) for o in others)
    return x.to(torch.float64) if floating else x


@operator("aten.add.Tensor", batch=batching.elementwise)
def add(arithmetic: Arithmetic, x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    return torch.add(meeting(x, other, alpha), other if alpha == 1 else other * alpha)


@operator("aten.sub.Tensor", batch=batching.elementwise)
def sub(arithmetic: Arithmetic, x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    return torch.sub(meeting(x, other, alpha), other if alpha == 1 else other * alpha)


@operator("aten.rsub.Scalar", batch=batching.elementwise)
def rsub(arithmetic: Arithmetic, x: Tensor, other: float, alpha: float = 1) -> Tensor:
    x = meeting(x, other, alpha)
    return torch.sub(other, x if alpha == 1 else x * alpha)


@operator("aten.mul.Tensor", batch=batching.elementwise)
def mul(arithmetic: Arithmetic, x: Tensor, other: Operand) -> Tensor:
    return torch.mul(meeting(x, other), other)


@operator("aten.div.Tensor", batch=batching.elementwise)
def div(arithmetic: Arithmetic, x: Tensor, other: Operand) -> Tensor:
    return divide(x, other)


@operator("aten.maximum.default", batch=batching.elementwise)
def maximum(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(x, other)


@operator("aten.minimum.default", batch=batching.elementwise)
def minimum(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return torch.minimum(x, other)
