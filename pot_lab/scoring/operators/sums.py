"""Sums, means and extremes over dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring import batching, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.operators.registry import Dtype, Ints, operator


@operator("aten.mean.dim", batch=batching.reduction)
def mean(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: Dtype | None = None
) -> Tensor:
    return reductions.exact_mean(x, dims, keepdim)


@operator("aten.sum.dim_IntList", batch=batching.reduction)
def sum_(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: Dtype | None = None
) -> Tensor:
    return reductions.exact_sum(x, dims, keepdim)


@operator("aten.amax.default", batch=batching.reduction)
def amax(arithmetic: Arithmetic, x: Tensor, dims: Ints = (), keepdim: bool = False) -> Tensor:
    return torch.amax(x, tuple(dims), keepdim)
