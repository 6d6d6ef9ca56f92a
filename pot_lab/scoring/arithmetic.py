"""The setting in which exact kernels run: which way to multiply, and what is prepared once for a whole run.

Weights are quantised once; their grids are kept by the identity of the tensor, which this object also keeps alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from pot_lab.scoring.exact_product import BACKENDS, Backend

T = TypeVar("T")


class Arithmetic:
    """Args: backend: "float64" or "int64"; both give the same bits. device: where the tensors are."""

    def __init__(self, backend: str = "float64", device: torch.device | str = "cpu") -> None:
        self.backend: Backend = BACKENDS[backend]()
        self.device = torch.device(device)
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
