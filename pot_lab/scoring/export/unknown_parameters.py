"""Trainable tensors that forward uses and the module does not list, so that nobody would train them."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export.culprits import used_at

UNKNOWN_PARAMETER = (
    "forward uses a parameter that the module does not list among its parameters, so nobody would train it; put "
    "modules into nn.ModuleList or nn.ModuleDict, parameters into nn.ParameterList, or register them"
)


def refuse_unknown(module: nn.Module, roots: Sequence[Tensor], rows: tuple[Tensor, ...]) -> None:
    """Refuse outputs that depend on trainable tensors which are no parameters of the module.

    Args:
        roots: the outputs.
        rows: what forward was given, to look for the line.
    Raises: ExportFailed, naming where the tensor lies, and the line that uses it.
    """
    known = {id(t) for t in (*module.parameters(), *module.buffers())}
    waiting, seen = [t.grad_fn for t in roots], set()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        variable = getattr(step, "variable", None)
        if variable is not None and id(variable) not in known:
            places = [path for part in (module,) for path, t in _reached(part) if t is variable]
            line = used_at(module, rows, variable)
            raise ExportFailed(
                UNKNOWN_PARAMETER + (f", at {line}" if line else ""),
                seen=places[0] if places else f"shape {tuple(variable.shape)}",
            )
        waiting += [nearer for nearer, _ in step.next_functions]


def _reached(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that stand in attributes of a module's parts, by the path that leads to them."""
    waiting: list[tuple[str, Any]] = [
        (f"{path}.{name}".lstrip("."), value)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if not name.startswith("_")
    ]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, nn.Module):
            yield from ((f"{path}.{name}", p) for name, p in value.named_parameters())
        elif isinstance(value, list | tuple):
            waiting += [(f"{path}[{i}]", item) for i, item in enumerate(value)]
        elif isinstance(value, dict):
            waiting += [(f"{path}[{key!r}]", item) for key, item in value.items()]
        elif isinstance(value, functools.partial):
            waiting += [(f"{path}.{name}", getattr(value, name)) for name in ("func", "args", "keywords")]
        elif isinstance(value, types.MethodType):
            waiting.append((path, value.__self__))
        elif isinstance(value, types.FunctionType):
            waiting += _closed_over(path, value)
        elif hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType):
            waiting += [(f"{path}.{name}", item) for name, item in vars(value).items()]


def _closed_over(path: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function keeps from where it was written: free variables and defaults."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a cell that was never filled
            yield f"{path}, its {name!r}", cell.cell_contents
    yield f"{path}, its defaults", [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
