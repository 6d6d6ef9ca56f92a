"""Modules that cannot be looked at: classes, compiled and quantised ones, and those without numbers."""

from __future__ import annotations

import torch
from torch import nn

from pot_lab.scoring.errors import ExportFailed


def refuse_compiled(module: nn.Module) -> None:
    """Raise ExportFailed for modules whose forward is no longer Python, and for layers with packed weights."""
    for path, part in module.named_modules():
        name = f"{path or 'the module'} ({type(part).__name__})"
        if isinstance(part, torch.jit.ScriptModule):
            raise ExportFailed(
                "TorchScript has no line of Python left to look at", seen=name, wanted="the module that it was made of"
            )
        kind = type(part).__module__
        if kind.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")):
            linear = isinstance(part, torch.ao.nn.quantized.Linear)
            raise ExportFailed(
                "quantised layers keep their weights packed, and nobody can train those; their activations are rounded "
                "by the numbers of a whole batch",
                seen=name,
                wanted="the module before it was quantised"
                + (
                    ", or nn.Linear with weight = layer.weight().dequantize() and bias = layer.bias()" if linear else ""
                ),
            )


def not_a_module(given: object) -> ExportFailed:
    """The refusal of what is no module, such as the class of one."""
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    if isinstance(given, type) and issubclass(given, nn.Module):
        return ExportFailed("the model is a class, not a module", seen=name, wanted=f"an instance, e.g. {name}()")
    return ExportFailed(
        "the model is not a module", seen=name, wanted="a torch.nn.Module, or what export_model returned"
    )


def refuse_unready(module: nn.Module) -> None:
    """Refuse modules that were never made or have no numbers.

    Raises: ExportFailed.
    """
    if not hasattr(module, "_modules"):
        raise ExportFailed(
            "the module was never set up",
            seen=f"{type(module).__name__}.__init__ does not call nn.Module's",
            wanted="super().__init__() as its first line",
        )
    if empty := [name for name, t in [*module.named_parameters(), *module.named_buffers()] if t.is_meta]:
        raise ExportFailed(
            'tensors on the device "meta" have no numbers: load weights, or make the module on another device',
            seen=", ".join(empty)[:200],
        )
