"""Train data in two parts: what the model learns from, and what is held out to see whether it improved.

No example is copied: both parts are numbers of rows, and a batch is read when it is used. So data may lie in
memory-mapped pages and be larger than memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pot_lab.scoring import Inputs
from pot_lab.scoring.dataset import each_input
from pot_lab.training.errors import BadSettings
from pot_lab.training.memory import free_bytes
from pot_lab.training.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class SplitData:
    """Both parts, made by `split_data`.

    Attributes:
        inputs: one tensor [examples, ...] for each input of the model.
        targets: [examples, ...].
        train_rows: int64, which examples to learn from.
        held_out_rows: int64, which are held out.
        device: the training device, where batches are brought.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    train_rows: Tensor
    held_out_rows: Tensor
    device: str

    def take(self, rows: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs and targets of some examples, on the training device."""
        rows = rows.to(self.targets.device)
        inputs = tuple(x[rows].to(self.device, non_blocking=True) for x in self.inputs)
        return inputs, self.targets[rows].to(self.device, non_blocking=True)


def split_data(inputs: Inputs, targets: Tensor, settings: TrainerSettings, device: str) -> SplitData:
    """Hold out `settings.validation_fraction` of the examples, by a permutation of `settings.seed`.

    Data that take less than a quarter of a GPU's free memory are copied to it at once.

    Raises: BadSettings where that leaves nothing to learn from.
    """
    count = len(targets)
    held_out = min(max(1, round(count * settings.validation_fraction)), count - 1)
    if held_out < 1:
        raise BadSettings("there are too few examples to hold some out", seen=count, wanted="at least 2")
    order = torch.randperm(count, generator=generator(settings.seed, -1))
    tensors = (*each_input(inputs), targets)
    if device != "cpu" and sum(x.numel() * x.element_size() for x in tensors) < free_bytes(device) // 4:
        tensors = tuple(x.to(device) for x in tensors)
    return SplitData(
        inputs=tensors[:-1],
        targets=tensors[-1],
        train_rows=order[held_out:],
        held_out_rows=order[:held_out],
        device=device,
    )


def generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers that order the examples of an epoch, counted from 0; epoch -1 is the split."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch + 1)
