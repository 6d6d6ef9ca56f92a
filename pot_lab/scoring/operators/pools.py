"""Pools."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import CostLimit
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.graph.batch_axis import OperatorCall
from pot_lab.scoring.operators.layers import spread
from pot_lab.scoring.operators.registry import Naturals, Positives, operator

_MAX_POOLS = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}
_ADAPTIVE_MAX_POOLS = {3: F.adaptive_max_pool1d, 4: F.adaptive_max_pool2d, 5: F.adaptive_max_pool3d}


def _max_pool(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    dilation: Positives = (1,),
    ceil_mode: bool = False,
) -> Tensor:
    pool = _MAX_POOLS[x.dim()]
    return pool(x, list(kernel_size), list(stride) or None, list(padding), list(dilation), ceil_mode)


for _dims in (1, 2, 3):
    operator(f"aten.max_pool{_dims}d.default", batch=batch_axis.batch_first(_dims + 2))(_max_pool)


LARGEST_PLACES, LARGEST_CELLS = 1 << 20, 1 << 14
"""Places of data whose windows are counted one by one, and cells that are added up one by one."""


def _few_windows(arguments: dict[str, Any]) -> None:
    places = math.prod(arguments["x"].shape[2:])
    if places > LARGEST_PLACES:
        raise CostLimit("a pool has too many places", seen=places, wanted=f"at most {LARGEST_PLACES}")


def _few_cells(arguments: dict[str, Any]) -> None:
    cells = math.prod(arguments["output_size"])
    if cells > LARGEST_CELLS:
        raise CostLimit("an adaptive pool has too many cells", seen=cells, wanted=f"at most {LARGEST_CELLS}")


def _window_work(call: OperatorCall) -> int:
    places: int = math.prod(call["kernel_size"])
    return 10 * call.output.numel() + call.traced("x").tensor.numel() * places


def _average_pool(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel = spread(kernel_size, x.dim() - 2)
    steps, pads = spread(stride or kernel, x.dim() - 2), spread(padding, x.dim() - 2)
    return reductions.average_pool(x, kernel, steps, pads, ceil_mode, count_include_pad)


def _adaptive_average_pool(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> Tensor:
    return reductions.adaptive_average_pool(x, output_size)


def _adaptive_max_pool(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _ADAPTIVE_MAX_POOLS[x.dim()](x, list(output_size), return_indices=True)
    return found


for _dims in (1, 2, 3):
    _rule = batch_axis.batch_first(_dims + 2)
    operator(f"aten.avg_pool{_dims}d.default", batch=_rule, work=_window_work, check=_few_windows)(_average_pool)
    operator(f"aten.adaptive_avg_pool{_dims}d.default", batch=_rule, check=_few_cells)(_adaptive_average_pool)
    operator(f"aten.adaptive_max_pool{_dims}d.default", batch=_rule, returns="tensors")(_adaptive_max_pool)
