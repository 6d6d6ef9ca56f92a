"""How far a training is: what a checkpoint keeps, as tensors and as values."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pot_lab.training.devices import Device
from pot_lab.training.validation import Best


@dataclass(kw_only=True)
class TrainingStanding:
    """How far a training is, over all its runs.

    Attributes:
        step, epoch, place: steps and whole passes so far, and how many examples of this pass.
        batch: examples of a step where their number was left open; None until it is known.
        best, validation_score, elapsed_s: as in `TrainingProgress`.
        best_loss: mean training loss when the best was found.
        restarts: how often the training went back to the best, each time with a smaller learning rate.
        restarted: the step of the last time.
        peak_rate: the learning rate where it was left open; None until it is known.
        resumed: how often the job was resumed.
    """

    step: int = 0
    epoch: int = 0
    place: int = 0
    batch: int | None = None
    best: Best | None = None
    validation_score: float | None = None
    best_loss: float = float("inf")
    restarts: int = 0
    restarted: int = 0
    peak_rate: float | None = None
    elapsed_s: float = 0.0
    resumed: int = 0

    @property
    def best_score(self) -> float | None:
        """Score of the best model on the held-out part; None before the first validation."""
        return None if self.best is None else self.best.score

    @property
    def best_step(self) -> int | None:
        """The step that the best model was found at; None before the first validation."""
        return None if self.best is None else self.best.step

    def values(self) -> dict[str, Any]:
        """All but the best model's weights, as JSON can hold it."""
        best = self.best
        plain = {name: value for name, value in vars(self).items() if name != "best"}
        kept = None if best is None else {"key": best.key, "score": best.score, "loss": best.loss, "step": best.step}
        return {**plain, "best": kept}

    @classmethod
    def of(cls, values: dict[str, Any], weights: Tensor | None) -> TrainingStanding:
        """What `values` gave, and the bytes of the best model's weights."""
        best, kept = values["best"], {**values, "best": None}
        standing = cls(**kept)
        if best is not None and weights is not None:
            first, second = best["key"]
            standing.best = Best(
                key=(first, second),
                score=best["score"],
                loss=best["loss"],
                step=best["step"],
                weights=weights.numpy().tobytes(),
            )
        return standing


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state by name."""
    return {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take over what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def some(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix and a dot, without them."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def bytes_as_tensor(data: bytes) -> Tensor:
    """Bytes as a uint8 tensor that shares their memory; it must not be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bytes cannot be written to, and nobody does
        return torch.frombuffer(data, dtype=torch.uint8)


# --- random numbers
def first_random_state(device: Device, seed: int) -> dict[str, Tensor]:
    """The states of torch's random numbers that a training begins with."""
    with torch.random.fork_rng(gpus_of(device)):
        torch.manual_seed(seed)
        return random_state(device)


def random_state(device: Device) -> dict[str, Tensor]:
    """The states of torch's random numbers now."""
    state = {"cpu": torch.get_rng_state()}
    if device.is_cuda:
        state["cuda"] = torch.cuda.get_rng_state(device.torch_name)
    return state


def set_random_state(device: Device, state: dict[str, Tensor]) -> None:
    """Go on with random numbers in a state that was kept."""
    torch.set_rng_state(state["cpu"])
    if device.is_cuda and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device.torch_name)


def gpus_of(device: Device) -> list[torch.device]:
    """What `torch.random.fork_rng` has to keep besides the CPU's random numbers."""
    return [torch.device(device.torch_name)] if device.is_cuda else []
