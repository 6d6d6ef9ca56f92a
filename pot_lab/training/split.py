"""Train data in two parts: what the model learns from, and what is held out to see whether it improved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pot_lab.scoring import Inputs
from pot_lab.scoring.dataset import each_input
from pot_lab.training.errors import BadSettings
from pot_lab.training.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class SplitData:
    """Both parts on the training device, made by `split_data`.

    Attributes:
        inputs: one tensor [examples, ...] for each input of the model, to learn from.
        targets: [examples, ...], to learn from.
        held_out_inputs, held_out_targets: the same for the held-out part.
        batch_size: examples a step, at most all of them.
        steps_per_epoch: whole batches in the train part; what is left over waits for another order.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    held_out_inputs: tuple[Tensor, ...]
    held_out_targets: Tensor
    batch_size: int
    steps_per_epoch: int


def split_data(inputs: Inputs, targets: Tensor, settings: TrainerSettings, device: str) -> SplitData:
    """Hold out `settings.validation_fraction` of the examples, by a permutation of `settings.seed`.

    Raises: BadSettings where that leaves nothing to learn from.
    """
    count = len(targets)
    held_out = min(max(1, round(count * settings.validation_fraction)), count - 1)
    if held_out < 1:
        raise BadSettings("there are too few examples to hold some out", seen=count, wanted="at least 2")
    order = torch.randperm(count, generator=generator(settings.seed, -1))

    def on_device(examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        return tuple(x[examples].to(device) for x in each_input(inputs)), targets[examples].to(device)

    train_inputs, train_targets = on_device(order[held_out:])
    held_out_inputs, held_out_targets = on_device(order[:held_out])
    batch_size = min(settings.batch_size, count - held_out)
    return SplitData(
        inputs=train_inputs,
        targets=train_targets,
        held_out_inputs=held_out_inputs,
        held_out_targets=held_out_targets,
        batch_size=batch_size,
        steps_per_epoch=(count - held_out) // batch_size,
    )


def generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers that order the examples of an epoch, counted from 0; epoch -1 is the split."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch + 1)
