"""Which device trains, and in which precision: chosen automatically, and always named in the evidence."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """Where a training runs, and how accurately.

    Attributes:
        torch_name: "cpu", or "cuda:0" and so on.
        description: the hardware's own name.
        precision: "float32", or "bfloat16 autocast".
    """

    torch_name: str
    description: str
    precision: str

    @property
    def is_cuda(self) -> bool:
        """Whether this is an NVIDIA GPU."""
        return self.torch_name.startswith("cuda")

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a forward runs: autocast to bfloat16 if that is `precision`."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)


def pick_device(wanted: str | None = None) -> Device:
    """The device to train on: `wanted`, else CUDA where there is one (bfloat16 autocast if it can), else the CPU in
    float32."""
    name = wanted or ("cuda:0" if torch.cuda.is_available() else "cpu")
    if not name.startswith("cuda"):
        return Device(name, "CPU" if name == "cpu" else name, "float32")
    precision = "bfloat16 autocast" if torch.cuda.is_bf16_supported() else "float32"
    return Device(name, torch.cuda.get_device_name(name), precision)
