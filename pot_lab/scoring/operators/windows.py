"""Windows of an image or along one axis, and their sums."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import HostileGraph
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.grids import sum_bits, to_grid
from pot_lab.scoring.operators.registry import (
    Naturals,
    Positive,
    Positives,
    operator,
)


def _window_arguments(arguments: dict[str, Any]) -> None:
    for name in ("output_size", "kernel_size", "dilation", "padding", "stride"):
        if name in arguments and len(arguments[name]) != 2:
            raise HostileGraph("windows have two sizes each", seen=f"{name} {arguments[name]}")


def _window_along(arguments: dict[str, Any]) -> None:
    x, dim = arguments["x"], arguments["dimension"]
    if not -x.rank <= dim < x.rank:
        raise HostileGraph("no such dimension", seen=dim, wanted=f"{-x.rank} to {x.rank - 1}")
    arguments["dim"] = dim


@operator("aten.im2col.default", batch=batch_axis.batch_first(4), check=_window_arguments)
def _im2col(
    arithmetic: Arithmetic, x: Tensor, kernel_size: Positives, dilation: Positives, padding: Naturals, stride: Positives
) -> Tensor:
    return F.unfold(x, tuple(kernel_size), tuple(dilation), tuple(padding), tuple(stride))


@operator(
    "aten.col2im.default",
    batch=batch_axis.batch_first(3),
    check=_window_arguments,
    work=lambda call: 10 * (call.output.numel() + call.traced("x").tensor.numel()),
)
def _col2im(
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


@operator("aten.unfold.default", batch=batch_axis.cut, booleans=True, check=_window_along)
def _unfold(arithmetic: Arithmetic, x: Tensor, dimension: int, size: Positive, step: Positive) -> Tensor:
    return x.unfold(dimension, size, step)
