"""Pools."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import batching, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.batching import Call
from pot_lab.scoring.errors import CostLimit
from pot_lab.scoring.operators.layers import pair
from pot_lab.scoring.operators.registry import Naturals, Positives, operator


def _max_pool(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    dilation: Positives = (1,),
    ceil_mode: bool = False,
) -> Tensor:
    pool = F.max_pool1d if x.dim() == 3 else F.max_pool2d
    return pool(x, list(kernel_size), list(stride) or None, list(padding), list(dilation), ceil_mode)


operator("aten.max_pool1d.default", batch=batching.batch_first(3))(_max_pool)
operator("aten.max_pool2d.default", batch=batching.batch_first(4))(_max_pool)


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


def _window_work(call: Call) -> int:
    return 10 * call.output.numel() + call["x"].tensor.numel() * math.prod(call["kernel_size"])


@operator("aten.avg_pool2d.default", batch=batching.batch_first(4), work=_window_work, check=_few_windows)
def avg_pool2d(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel = pair(kernel_size)
    pads, steps = pair(padding), pair(stride or kernel)
    return reductions.average_pool(x, kernel, steps, pads, ceil_mode, count_include_pad)


@operator("aten.avg_pool1d.default", batch=batching.batch_first(3), work=_window_work, check=_few_windows)
def avg_pool1d(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel, step, pad = [1, kernel_size[0]], [1, (stride or kernel_size)[0]], [0, padding[0]]
    return reductions.average_pool(x.unsqueeze(2), kernel, step, pad, ceil_mode, count_include_pad).squeeze(2)


@operator("aten.adaptive_avg_pool2d.default", batch=batching.batch_first(4), check=_few_cells)
def adaptive_avg_pool2d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> Tensor:
    return reductions.adaptive_average_pool(x, output_size)


@operator("aten.adaptive_avg_pool1d.default", batch=batching.batch_first(3), check=_few_cells)
def adaptive_avg_pool1d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> Tensor:
    return reductions.adaptive_average_pool(x.unsqueeze(2), [1, *output_size]).squeeze(2)


@operator("aten.adaptive_max_pool2d.default", batch=batching.batch_first(4), returns="tensors")
def adaptive_max_pool2d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> tuple[Tensor, Tensor]:
    return F.adaptive_max_pool2d(x, list(output_size), return_indices=True)


@operator("aten.adaptive_max_pool1d.default", batch=batching.batch_first(3), returns="tensors")
def adaptive_max_pool1d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> tuple[Tensor, Tensor]:
    return F.adaptive_max_pool1d(x, list(output_size), return_indices=True)
