"""The setting in which exact kernels run: which way to multiply, and what is prepared once for a whole run.

Weights are quantised once; their grids are kept by the identity of the tensor, which this object also keeps alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from pot_lab.scoring import backends, exact_product, grids
from pot_lab.scoring.backends import BACKENDS, Backend
from pot_lab.scoring.grids import Grid

T = TypeVar("T")


class Arithmetic:
    """Args:
    backend: a way to multiply or its name; None takes the fastest on this machine. All give the same bits.
    device: where the tensors are.
    slices: 1, about as accurate as float32, or 2, close to float64; part of what a score is.
    """

    def __init__(
        self, backend: str | Backend | None = None, device: torch.device | str = "cpu", slices: int = 1
    ) -> None:
        if slices not in (1, 2):
            raise ValueError(f"slices must be 1 or 2, not {slices}")
        self.device = torch.device(device)
        if self.device.type == "cuda":
            backends.forbid_emulation()
        chosen = backends.fastest(str(self.device)) if backend is None else backend
        self.backend: Backend = BACKENDS[chosen] if isinstance(chosen, str) else chosen
        self.slices = slices
        self._fixed: dict[int, Tensor] = {}
        self._prepared: dict[tuple[int, str], object] = {}

    def fix(self, tensor: Tensor) -> Tensor:
        """Declare that `tensor` never changes, so what is prepared from it may be kept."""
        self._fixed[id(tensor)] = tensor
        return tensor

    def prepared(self, tensor: Tensor, form: str, make: Callable[[Tensor], T]) -> T:
        """`make(tensor)`, kept under the name `form` if the tensor is fixed."""
        if id(tensor) not in self._fixed:
            return make(tensor)
        key = (id(tensor), form)
        if key not in self._prepared:
            self._prepared[key] = make(tensor)
        return self._prepared[key]  # type: ignore[return-value]

    # Every product of a kernel goes through these, so that slices and backends are chosen in one place.

    def rows(self, a: Tensor, length: int | None = None) -> Grid:
        """Left operand [..., M, K] of `product`, kept if fixed; `length` as for `row_grid`."""
        return self.prepared(a, "rows", lambda t: self._left(grids.row_grid(t, self.slices, length)))

    def columns(self, b: Tensor) -> Grid:
        """Right operand [..., K, N] of `product`, kept if fixed."""
        return self.prepared(b, "columns", lambda t: self._right(grids.column_grid(t, self.slices)))

    def transposed(self, weight: Tensor) -> Grid:
        """A layer's weight [N, K] as the right operand [K, N] of `product`, kept if fixed."""
        return self.prepared(weight, "transposed", lambda w: self._right(grids.column_grid(w.t(), self.slices)))

    def _left(self, grid: Grid) -> Grid:
        return exact_product.left_form(self.backend, grid)

    def _right(self, grid: Grid) -> Grid:
        return exact_product.right_form(self.backend, grid)

    def product(self, rows: Grid, columns: Grid) -> Tensor:
        """[..., M, K] times [..., K, N]."""
        return exact_product.product(self.backend, rows, columns)

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [..., K] times the transpose of weight [N, K]."""
        y = self.product(self.rows(x.reshape(-1, x.shape[-1])), self.transposed(weight))
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def convolution(
        self,
        x: Tensor,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        groups: int,
        *,
        form: str = "convolution",
        shaped: Callable[[Tensor], Tensor] = lambda w: w,
    ) -> Tensor:
        """Cross-correlation of x [N, C, H, W] with `shaped(weight)` [O, C/groups, kh, kw]; `padding` is (before, after)
        for H and W. The weight's grid is kept under the name `form` if the weight is fixed."""
        channels = self.prepared(weight, form, lambda w: grids.channel_grid(shaped(w), self.slices))
        samples = grids.sample_grid(x, channels.bits, self.slices)
        return exact_product.convolution(self.backend, samples, channels, stride, padding, dilation, groups)

    def transposed_convolution(
        self,
        x: Tensor,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        *,
        turned: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Transposed convolution of x [N, C, H, W]; `turned(weight)` is [O, C/groups, kh, kw]."""
        channels = self.prepared(weight, f"turned {groups}", lambda w: grids.channel_grid(turned(w), self.slices))
        samples = grids.sample_grid(x, channels.bits, self.slices)
        return exact_product.transposed_convolution(
            self.backend, samples, channels, stride, padding, output_padding, dilation, groups
        )
