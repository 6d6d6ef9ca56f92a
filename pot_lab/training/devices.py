"""Which device trains, and in which precision: chosen automatically, and always named in the evidence."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

FIRST_BFLOAT16 = (8, 0)
"""NVIDIA's compute capability that has bfloat16 in hardware; before it torch emulates it, slower than float32."""
FIRST_TENSOR_CORES = (7, 0)
"""The one that has float16 matrix products."""


@dataclass(frozen=True)
class Device:
    """Where a training runs, and how accurately.

    Attributes:
        torch_name: "cpu", or "cuda:0" and so on.
        description: the hardware's own name.
        precision: "float32", "bfloat16 autocast", or "float16 autocast", whose gradients are scaled.
    """

    torch_name: str
    description: str
    precision: str

    @property
    def is_cuda(self) -> bool:
        """Whether this is an NVIDIA GPU."""
        return self.torch_name.startswith("cuda")

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a training step's forward runs, by `precision`."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self.precision == "bfloat16 autocast" else torch.float16
        return torch.autocast("cuda" if self.is_cuda else "cpu", dtype=kind)


def pick_device(wanted: str | None = None) -> Device:
    """The device to train on: `wanted`, else CUDA where there is one, in what its hardware has, else the CPU in
    float32."""
    name = wanted or ("cuda:0" if torch.cuda.is_available() else "cpu")
    if not name.startswith("cuda"):
        return Device(name, "CPU" if name == "cpu" else name, "float32")
    return Device(name, torch.cuda.get_device_name(name), precision_of(torch.cuda.get_device_capability(name)))


def precision_of(capability: tuple[int, int]) -> str:
    """The precision for an NVIDIA GPU of this compute capability.

    >>> precision_of((9, 0)), precision_of((7, 5)), precision_of((6, 1))
    ('bfloat16 autocast', 'float16 autocast', 'float32')
    """
    if capability >= FIRST_BFLOAT16:
        return "bfloat16 autocast"
    return "float16 autocast" if capability >= FIRST_TENSOR_CORES else "float32"
