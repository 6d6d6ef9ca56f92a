"""Numbers, words and switches that a module keeps as plain attributes, where they steer its forward.

A graph sees such an attribute once. Where `train()` and `eval()` set it, or where forward counts in it, the module is
another one later than the one that was exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pot_lab.scoring.errors import ExportFailed

_PLAIN = (bool, int, float, str, type(None))
_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has, `training` among them."""
_LATER = (10, 100, 1_000, 10_000, 1_000_000)
"""How much further a count is set to see whether forward looks at it."""

Place = tuple[str, str, Any]
"""A part's path, the attribute's name, and the place in it where that is a list or a table."""
Attributes = Mapping[Place, Any]


def plain_attributes(module: nn.Module) -> Attributes:
    """All attributes of all parts that are numbers, words or switches, also those in lists and tables."""
    return dict(_found(module))


def _found(module: nn.Module) -> Iterator[tuple[tuple[str, str, Any], Any]]:
    for path, part in module.named_modules():
        for name, value in list(vars(part).items()):
            if name in _OF_TORCH:
                continue
            if type(value) in _PLAIN:
                yield (path, name, None), value
            elif type(value) is dict or type(value) is list:
                items = value.items() if isinstance(value, dict) else enumerate(value)
                yield from (((path, name, key), v) for key, v in list(items) if type(v) in _PLAIN)


def set_by_mode(module: nn.Module) -> str:
    """What a `train` of the owner's sets to other values in training mode than in eval mode, as `'scale' of the module
    itself (Net)` and so on; "" if nothing. To be called inside `left_as_it_was`."""
    module.eval()
    evaluated = plain_attributes(module)
    module.train()
    trained = plain_attributes(module)
    return _shown(module, [key for key in trained if evaluated.get(key, trained[key]) != trained[key]])


def counted(before: Attributes, after: Attributes) -> list[Place]:
    """The numbers that a run changed."""
    return [
        key
        for key, value in after.items()
        if type(value) in (int, float) and type(before.get(key)) in (int, float) and before[key] != value
    ]


def check_counts(module: nn.Module, keys: Sequence[Place], run: Any, wanted: tuple[Tensor, ...], mode: str) -> None:
    """Refuse a forward that gives something else after it has counted on.

    Args:
        keys: what it counts in, from `counted`.
        run: runs the module once, as it was run for `wanted`, and gives its outputs.
        mode: "training" or "eval", for the message.
    Raises: ExportFailed, naming the attributes.
    """
    first = {key: _value(module, key) for key in keys}
    for later in _LATER:
        for key, value in first.items():
            _set(module, key, value + later)
        found = run()
        if len(found) != len(wanted) or not all(_same(a, b) for a, b in zip(wanted, found, strict=True)):
            raise ExportFailed(
                f"forward counts in an attribute and looks at it: in {mode} mode it gives something else {later} calls "
                "later, and a graph has one form. Leave out what depends on the count; warm-up and schedules belong to "
                "the training, not to the model",
                seen=_shown(module, keys),
            )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def _holder(module: nn.Module, key: Place) -> tuple[Any, Any]:
    path, name, place = key
    own: Any = vars(module.get_submodule(path))
    return (own, name) if place is None else (own[name], place)


def _value(module: nn.Module, key: Place) -> Any:
    holder, place = _holder(module, key)
    return holder[place]


def _set(module: nn.Module, key: Place, value: Any) -> None:
    holder, place = _holder(module, key)
    holder[place] = value


def _shown(module: nn.Module, keys: Sequence[Place]) -> str:
    shown = [
        f"{name if place is None else f'{name}[{place!r}]'!r} of {path or 'the module itself'!s} "
        f"({type(module.get_submodule(path)).__name__})"
        for path, name, place in keys[:3]
    ]
    return ", ".join(shown)
