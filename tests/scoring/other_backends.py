"""Other ways to get the exact integer products: another library, and the same sums in other orders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pot_lab.scoring.backends import BACKENDS, Backend


class PermutedBackend(Backend):
    """float64 with the places of every sum shuffled."""

    name = "permuted K"

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        order = torch.randperm(a.shape[-1])
        return torch.matmul(a[..., order], b[..., order, :])


class SplitBackend(Backend):
    """float64, a few places at a time, from the back."""

    name = "split K"

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        step = max(13, a.shape[-1] // 7)
        starts = range(0, a.shape[-1], step)
        return sum(torch.matmul(a[..., i : i + step], b[..., i : i + step, :]) for i in reversed(starts))  # type: ignore[return-value]


class OpenBLASBackend(Backend):
    """numpy, whose wheels carry OpenBLAS where torch's carry MKL."""

    name = "OpenBLAS"

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.from_numpy(a.contiguous().numpy() @ b.contiguous().numpy())


ALL: dict[str, Callable[[], Backend]] = {
    **{name: (lambda backend=backend: backend) for name, backend in BACKENDS.items()},
    **{b.name: b for b in (PermutedBackend, SplitBackend, OpenBLASBackend)},
}
