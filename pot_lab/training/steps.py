"""One training step: in parts that fit into memory, whose gradients add up, and which a deadline may cut short."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from pot_lab.scoring import ScoreFunction, TrainableModel
from pot_lab.training.averaging import Average
from pot_lab.training.devices import Device
from pot_lab.training.errors import BadSettings
from pot_lab.training.losses import summed_loss, weight_of
from pot_lab.training.memory import is_out_of_memory
from pot_lab.training.settings import TrainerSettings
from pot_lab.training.split import SplitData

_LEAST_BATCH_NORM_ROWS = 2
"""Batch norm of one value a channel is refused by torch."""


def make_optimizer(model: TrainableModel, settings: TrainerSettings) -> torch.optim.Optimizer:
    """The settings' optimizer; Adam in its fused form, four times as fast on a CPU. Raises: BadSettings."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise BadSettings("the model has no parameter that training may change", seen=0, wanted="at least 1")
    rate, decay = settings.usual_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, rate, weight_decay=decay, fused=all(p.is_floating_point() for p in parameters))


class Stepper:
    """Trains a model step by step.

    Args:
        model: the model.
        optimizer: of its parameters.
        data: the train data.
        function: what the model is trained for.
        settings: label smoothing and the bound of the gradient's norm.
        device: where the model is, and in which precision it runs.
        part_rows: how many examples go through at once; halved when memory does not suffice.

    Attributes:
        average: of the model over its last steps; None without one.
    """

    def __init__(
        self,
        model: TrainableModel,
        optimizer: torch.optim.Optimizer,
        data: SplitData,
        function: ScoreFunction,
        settings: TrainerSettings,
        device: Device,
        part_rows: int,
    ) -> None:
        self.model, self.optimizer, self.part_rows = model, optimizer, part_rows
        self._data, self._function, self._settings, self._device = data, function, settings, device
        self._scaler = torch.amp.GradScaler("cuda", enabled=device.precision == "float16 autocast")
        norms = ("aten.batch_norm.default", "aten.instance_norm.default")
        self._least_rows = _LEAST_BATCH_NORM_ROWS if any(n.op in norms for n in model.graph.nodes) else 1
        self._queued: torch.cuda.Event | None = None
        self.average = Average(model) if settings.average and Average.suits(model) else None

    def take(
        self,
        rows: Tensor,
        rate: float,
        cut: Callable[[int, int], bool] = lambda done, coming: False,
        *,
        at_once: int | None = None,
    ) -> tuple[Tensor, int]:
        """Take one step.

        Args:
            rows: int64, the numbers of its examples.
            rate: the learning rate.
            cut: asked between parts with the numbers of examples so far and of the next part; True leaves out the rest.
            at_once: the most examples of a part beside what memory allows; None for any number.
        Returns: the mean loss of its examples, on the device, and how many examples it had.
        """
        while True:
            try:
                return self._take(rows, rate, cut, min(self.part_rows, at_once or self.part_rows))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.part_rows <= self._least_rows:
                    raise
                self.part_rows = max(self._least_rows, self.part_rows // 2)
            if self._device.is_cuda:
                torch.cuda.empty_cache()

    def _take(self, rows: Tensor, rate: float, cut: Callable[[int, int], bool], most: int) -> tuple[Tensor, int]:
        self._wait_for_device()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        whole, done = self._weight(rows), 0
        total = torch.zeros((), device=self._device.torch_name)
        for part in parts_of(rows, most, self._least_rows):
            if done and cut(done, len(part)):
                break
            inputs, targets = self._data.take(part)
            with self._device.autocast():
                outputs = self.model(*inputs)
            loss = summed_loss(self._function, outputs, targets, self._settings.label_smoothing) / whole
            torch.autograd.backward(self._scaler.scale(loss))
            total += loss.detach()
            done += len(part)
        if done < len(rows):  # as if the step had only had these examples
            ratio = whole / self._weight(rows[:done])
            total *= ratio
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad *= ratio.to(parameter.grad.dtype)
        self._update()
        return total, done

    def go_back(self, weights: bytes) -> None:
        """Go on from other weights, with nothing kept of the steps that led here."""
        self.model.load_weights(weights)
        self.optimizer.state.clear()
        if self.average is not None:
            self.average.restart()

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the model is its average, if there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def _weight(self, rows: Tensor) -> Tensor:
        return weight_of(self._function, self._data.targets[rows.to(self._data.targets.device)]).to(
            self._device.torch_name
        )

    def _update(self) -> None:
        if self._settings.clip_norm is not None:
            self._scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._settings.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._device.is_cuda:
            self._queued = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._queued.record()

    def _wait_for_device(self) -> None:
        """A GPU works behind the program: without this, steps would be queued past a deadline."""
        if self._queued is not None:
            self._queued.synchronize()


def parts_of(rows: Tensor, most: int, least: int) -> list[Tensor]:
    """Rows in parts of about equal length, of at most `most` rows where `least` allows."""
    count = min(math.ceil(len(rows) / most), max(1, len(rows) // least))
    return list(torch.tensor_split(rows, count))
