"""The average of a model over its last steps: better on data it has not seen than the model of any one step.

The average forgets with a power of the step (Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion
Models", 2024, section 3.1), so it covers about the last sixteenth of the training, however long that will be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pot_lab.scoring import TrainableModel

POWER = 16.0
_LONG_TYPES = (torch.float32, torch.float64)


class Average:
    """Averages of a model's parameters and running statistics.

    Args:
        model: is averaged from where it stands.
    """

    def __init__(self, model: TrainableModel) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        buffers = [b for b in model.buffers() if b.dtype.is_floating_point]
        self._current: list[Tensor] = [*parameters, *buffers]
        self._averages = [t.detach().clone() for t in self._current]

    @staticmethod
    def suits(model: TrainableModel) -> bool:
        """Whether a model's numbers are long enough: in bfloat16, small changes of an average are lost."""
        return all(p.dtype in _LONG_TYPES for p in model.parameters() if p.requires_grad)

    def update(self, step: int) -> None:
        """Take the model after step number `step`, counted from 1, into the average."""
        share = 1.0 - (1.0 - 1.0 / step) ** (1.0 + POWER)
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._current, share)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model has the average's numbers; the two change places without a copy."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for current, average in zip(self._current, self._averages, strict=True):
            current.data, average.data = average.data, current.data

    def tensors(self) -> Mapping[str, Tensor]:
        """The averages, for a checkpoint. Not copied."""
        return {str(number): average for number, average in enumerate(self._averages)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the averages of a checkpoint."""
        for name, average in self.tensors().items():
            average.copy_(tensors[name])

    def restart(self) -> None:
        """Begin again with the model as it is."""
        with torch.no_grad():
            torch._foreach_copy_(self._averages, self._current)
