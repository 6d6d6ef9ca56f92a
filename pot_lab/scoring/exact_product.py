"""Matrix products and convolutions as integer mathematics, so that their result does not depend on the order of
addition.

Specification version 1 (scoring-spec.md, "3. Products"): each row (left), column (right), sample (convolution input)
or output channel (convolution weight) goes to integers of p bits on a power-of-two grid of its own. Sums longer than
1024 products are cut into chunks, added in order; p is the most that keeps a chunk's sum within 2**52 (21 bits where it
has 1024 products, 22 with 256), where float64 holds every integer, so any order, blocking, thread count or library
gives the same sum.

With two slices an operand is `q1 + q2 * 2**-(p + 1)` on the same grid, q2 again a whole number of p bits, and a product
is the exact `q1 r1` plus 2**-(p + 1) times the exact `q1 r2 + q2 r1`: three products instead of one, and errors of
1e-13 instead of 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring.backends import BACKENDS, Backend
from pot_lab.scoring.grids import CHUNK, LARGEST_KERNEL, Grid, channels_at_once


def left_form(backend: Backend, a: Grid) -> Grid:
    """A grid of rows in the form that the backend's products take."""
    backend = _fit_for(backend, a)
    return _formed(backend, backend.left, a)


def right_form(backend: Backend, b: Grid) -> Grid:
    """A grid of columns in the form that the backend's products take."""
    backend = _fit_for(backend, b)
    return _formed(backend, backend.right, b)


def _formed(backend: Backend, form: Callable[[Tensor], Tensor], grid: Grid) -> Grid:
    if not backend.whole or grid.values.dtype != torch.float64:
        return grid
    second = None if grid.second is None else form(torch.div(grid.second, grid.step * grid.second_slice))
    return grid._replace(values=form(torch.div(grid.values, grid.step)), second=second)


def _fit_for(backend: Backend, grid: Grid) -> Backend:
    """The backend, or float64 for what is too wide for it."""
    return backend if grid.bits <= backend.most_bits else BACKENDS["float64"]


def product(backend: Backend, a: Grid, b: Grid) -> Tensor:
    """a [..., M, K] times b [..., K, N] as float64, from `row_grid` and `column_grid`."""
    a, b, backend = left_form(backend, a), right_form(backend, b), _fit_for(backend, a)
    length = a.values.shape[-1]
    parts = [slice(start, min(start + CHUNK, length)) for start in range(0, length, CHUNK)]

    def part(piece: slice) -> Tensor:
        def multiply(left: Tensor, right: Tensor) -> Tensor:
            return backend.matmul(left[..., piece], right[..., piece, :])

        return _sliced(backend, multiply, a, b)

    total = _summed(part, parts)
    return total.mul_(a.step).mul_(b.step) if backend.whole else total


def convolution(
    backend: Backend,
    x: Grid,
    w: Grid,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """2-d cross-correlation of x [N, C, H, W] with w [O, C/groups, kh, kw]; `padding` is (before, after) for H and W.

    The sum over one kernel window is cut by input channels of a group: as many whole channels as fit into a chunk.
    """
    backend = _fit_for(backend, w)
    images, kernels = (_formed(backend, lambda q: q, grid) for grid in (x, w))
    pads = [*padding[1], *padding[0]]
    if any(pads):
        second = images.second
        second = None if second is None else F.pad(second, pads)
        images = images._replace(values=F.pad(images.values, pads), second=second)

    total = _by_channels(images, kernels, groups, backend, lambda a, b: backend.conv2d(a, b, stride, dilation, groups))
    if backend.whole:
        return total.mul_(x.step).mul_(w.step.reshape(1, -1, 1, 1))
    if any(d > 1 or max(p) >= k for d, p, k in zip(dilation, padding, w.values.shape[2:], strict=True)):
        total.add_(x.step * 0.0)  # a window of nothing but padding: still NaN for a bad sample
    return total


def transposed_convolution(
    backend: Backend,
    x: Grid,
    w: Grid,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """2-d transposed convolution of x [N, C, H, W]; w [O, C/groups, kh, kw] is the turned weight."""
    backend = _fit_for(backend, w)
    images, kernels = (_formed(backend, lambda q: q, grid) for grid in (x, w))

    def multiply(image: Tensor, kernel: Tensor) -> Tensor:
        return backend.conv_transpose2d(image, kernel, stride, padding, output_padding, dilation, groups)

    total = _by_channels(images, kernels, groups, backend, multiply)
    if backend.whole:
        return total.mul_(x.step).mul_(w.step.reshape(1, -1, 1, 1))
    return total.add_(x.step * 0.0)  # also where no place of x reaches: NaN for a bad sample


def _by_channels(
    x: Grid, w: Grid, groups: int, backend: Backend, multiply: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The sum over windows, cut by input channels of a group: as many whole channels as fit into a chunk."""
    per_group, area = w.values.shape[1], math.prod(w.values.shape[2:])
    if area > LARGEST_KERNEL:
        raise ValueError(f"a kernel of {area} places has no exact rule; at most {LARGEST_KERNEL}")
    step = channels_at_once(area)
    parts = [slice(start, min(start + step, per_group)) for start in range(0, per_group, step)]

    def part(piece: slice) -> Tensor:
        def convolve(image: Tensor, kernel: Tensor) -> Tensor:
            if len(parts) > 1:
                grouped = image.reshape(image.shape[0], groups, per_group, *image.shape[2:])
                image, kernel = grouped[:, :, piece].flatten(1, 2), kernel[:, piece]
            return multiply(image, kernel)

        return _sliced(backend, convolve, x, w)

    return _summed(part, parts)


def _sliced(backend: Backend, multiply: Callable[[Tensor, Tensor], Tensor], a: Grid, b: Grid) -> Tensor:
    """One chunk of a product. `q1 r2 + q2 r1` stays within 2**53, so it too is exact in any order."""
    total = multiply(a.values, b.values)
    if a.second is None or b.second is None:
        return total
    cross = multiply(a.values, b.second).add_(multiply(a.second, b.values))
    return total.add_(cross.mul_(a.second_slice) if backend.whole else cross)


def _summed(part: Callable[[slice], Tensor], pieces: Sequence[slice]) -> Tensor:
    """Chunks added from the front, each addition rounded."""
    total = part(pieces[0])
    for piece in pieces[1:]:
        total.add_(part(piece))
    return total
