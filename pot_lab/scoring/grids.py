"""Grids: float64 numbers rounded to whole multiples of a power of two, so that sums of them are exact in any order.

Specification version 1 (scoring-spec.md, "2. Grids"). A grid may see one row, column, sample or channel, never the
batch. A row with a value that is not finite, or of 2**200 or more, gets the scale NaN, so everything computed from it
is NaN and its example ends as invalid.

A grid's values are kept as multiples of its step, a power of two, and not as whole numbers: the same float64 sums are
exact, and need no scaling after. Backends that need whole numbers divide by the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 1024
"""The most products whose sum is taken as one integer, where a convolution's kernel is no larger."""
LARGEST_KERNEL = 4096
"""Places; a channel's window is never cut."""
SUM_BITS = 52
_SMALLEST_EXACT = 2.0**-201
_TO_THE_TOP = 2.0**824
_EXPONENT_BITS = 0x7FF << 52


class Grid(NamedTuple):
    """`values`, and with two slices `second` beside it: multiples of `step` and of `step * second_slice`, at most
    2**bits times as large. A bad row has the step infinity, and values that are all NaN."""

    values: Tensor
    step: Tensor
    bits: int
    second: Tensor | None = None

    @property
    def second_slice(self) -> float:
        """What one unit of the second slice is worth in units of the first."""
        return 2.0 ** -(self.bits + 1)


def sum_bits(count: int) -> int:
    """Bits of each addend so that `count` of them stay within 2**52."""
    return SUM_BITS - max(0, (count - 1).bit_length())


def product_bits(count: int) -> int:
    """Bits of each operand so that `count` products stay within 2**52."""
    return sum_bits(count) // 2


def window_length(weight: Tensor) -> int:
    """Products in one chunk of a convolution with a weight [O, C/groups, ...]: of whole channels, one at least."""
    area = math.prod(weight.shape[2:])
    return min(weight.shape[1], channels_at_once(area)) * area


def channels_at_once(area: int) -> int:
    """Whole input channels in one chunk of a convolution whose kernel has `area` places; at least one."""
    return max(1, CHUNK // max(1, area))


def to_grid(x: Tensor, dims: Sequence[int], bits: int, slices: int = 1) -> Grid:
    """Round x to multiples of a step, a power of two for each index outside `dims`, of which `2**bits` are more than
    the largest. Steps are bounded by 2**-(200 + bits) and 2**(200 - bits); NaN and what is larger make a bad row.

    Up to 51 bits, adding a number so large that the step is its last bit rounds half to even, and subtracting it again
    is exact: two kernels for each slice.
    """
    dims = tuple(dims)
    largest = torch.maximum(x.amax(dims, keepdim=True), x.amin(dims, keepdim=True).neg_())
    # 2**200 and more becomes infinite; of the rest only the exponent stays.
    largest = largest.clamp_(min=_SMALLEST_EXACT).mul_(_TO_THE_TOP).contiguous()
    largest.view(torch.int64).bitwise_and_(_EXPONENT_BITS)
    step = largest.mul_(2.0 ** (1 - bits) / _TO_THE_TOP)
    if bits > 51:
        return Grid(torch.div(x, step).round_().mul_(step), step, bits)
    anchor = step * (1.5 * 2.0**52)
    values = torch.add(x, anchor).sub_(anchor)
    if slices == 1:
        return Grid(values, step, bits)
    anchor.mul_(2.0 ** -(bits + 1))
    return Grid(values, step, bits, torch.sub(x, values).add_(anchor).sub_(anchor))


def row_grid(a: Tensor, slices: int = 1, length: int | None = None) -> Grid:
    """Grid of a left operand [..., M, K]: one scale for each row. `length` is K where `a` is cut off behind its last
    numbers that are not 0."""
    return to_grid(a, (-1,), product_bits(min(length or a.shape[-1], CHUNK)), slices)


def column_grid(b: Tensor, slices: int = 1) -> Grid:
    """Grid of a right operand [..., K, N]: one scale for each column."""
    return to_grid(b, (-2,), product_bits(min(b.shape[-2], CHUNK)), slices)


def sample_grid(x: Tensor, bits: int, slices: int = 1) -> Grid:
    """Grid of a convolution's input [N, C, ...], of the weight's bits: one scale for each sample."""
    return to_grid(x, tuple(range(1, x.dim())), bits, slices)


def channel_grid(w: Tensor, slices: int = 1) -> Grid:
    """Grid of a convolution's weight [O, I/groups, ...]: one scale for each output channel."""
    return to_grid(w, tuple(range(1, w.dim())), product_bits(window_length(w)), slices)
