"""Which of the results of a forward is the model's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree

from pot_lab.errors import near_names
from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.tensor_file import dtype_name

OutputChoice = str | int | None
"""Which of several results is scored: a name, a place from 0, or None for the usual one."""


def chosen_outputs(found: object, output: OutputChoice = None) -> tuple[Tensor, ...]:
    """The tensors that a graph returns, of what a forward returned.

    Args:
        found: what forward returned.
        output: the name of a result in a dict, a dataclass or a named tuple, or its place in a tuple, from 0. None: a
            tensor; those of a tuple, without what is None; `logits` of what has names, or its only tensor.
    Raises:
        ExportFailed: there is no such result, or more than one could be meant.
    """
    if output is not None:
        return (_named_output(found, output),)
    if isinstance(found, Tensor):
        return (found,)
    named = _by_name(found)
    if named:
        tensors = {name: t for name, t in named.items() if isinstance(t, Tensor)}
        if isinstance(named.get("logits"), Tensor):
            return (named["logits"],)
        if len(tensors) == 1:
            return tuple(tensors.values())
        raise ExportFailed(
            "the module returns several results by name, and a score needs one",
            seen=", ".join(map(str, named)),
            wanted=" or ".join(f"output={name!r}" for name in list(tensors)[:8])
            or "a tensor among the results, which `output` can name",
        )
    leaves = [leaf for leaf in _pytree.tree_leaves(found) if leaf is not None]
    outputs = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
    if not isinstance(found, tuple | list) or not outputs or len(outputs) != len(leaves):
        raise ExportFailed(
            "the module must return a tensor, a tuple of tensors, or results of which `output` names one",
            seen=type(found).__name__,
            wanted="a tensor, or output=0 for the first result of a tuple",
        )
    return outputs


def _by_name(found: object) -> Mapping[Any, Any]:
    """Results that have names: of a mapping, a dataclass or a named tuple; none of anything else."""
    if isinstance(found, Mapping):
        return found
    if is_dataclass(found):
        return vars(found)
    fields = getattr(found, "_fields", None)
    return dict(zip(fields, found, strict=True)) if fields and isinstance(found, tuple) else {}


def _named_output(found: object, output: str | int) -> Tensor:
    named = _by_name(found)
    places: Mapping[Any, Any] = named
    if type(output) is int and isinstance(found, tuple | list):
        places = dict(enumerate(found))
    chosen = places.get(output)
    if not isinstance(chosen, Tensor):
        tensors = [key for key, value in places.items() if isinstance(value, Tensor)]
        if isinstance(found, Tensor):
            wanted = "no `output`: the module returns one tensor"
        else:
            near = near_names(output, [key for key in tensors if isinstance(key, str)])
            wanted = f"did you mean output={near[0]!r}? " if near else ""
            wanted += " or ".join(f"output={key!r}" for key in tensors[:8]) or "a module that returns tensors"
        raise ExportFailed(
            "the module returns no tensor under the name or place that `output` gives",
            seen=f"output={output!r}" + (f", which is {type(chosen).__name__}" if output in places else ""),
            wanted=wanted,
        )
    return chosen


@contextlib.contextmanager
def returning(module: nn.Module, output: OutputChoice) -> Iterator[None]:
    """While inside, calls of a module return the chosen tensors alone, after all hooks of its owner's.

    So the graph that torch traces ends where the score needs it, whatever else forward returns.
    """
    handle = module.register_forward_hook(lambda _, __, found: chosen_outputs(found, output))
    try:
        yield
    finally:
        handle.remove()


def refuse_another_form(evaluated: tuple[Tensor, ...], trained: tuple[Tensor, ...]) -> None:
    """Refuse results of other numbers, shapes or types in training mode than in eval mode: raises ExportFailed."""

    def form(outputs: tuple[Tensor, ...]) -> str:
        return ", ".join(f"{dtype_name(t.dtype)} {tuple(t.shape)}" for t in outputs) or "no tensor"

    if form(evaluated) != form(trained):
        raise ExportFailed(
            "the module returns something else in training mode than in eval mode, and the graph of a model has one "
            "form for both: return the same tensors in both, such as the first output alone",
            seen=f"{form(trained)} in training mode, {form(evaluated)} in eval mode",
        )
