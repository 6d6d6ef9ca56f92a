"""Which part of a module a refusal is about: found by running the module again and watching its parts."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from pot_lab.scoring.export.diagnosis import line_of
from pot_lab.scoring.export.draws import Draws, numpy_state, python_draws

_SEED = 20
_Result = tuple[str, tuple[Tensor, ...]]
"""A part, and the tensors that it gave."""


def drawing_part(module: nn.Module, rows: tuple[Tensor, ...]) -> str:
    """The innermost part whose forward draws random numbers, as `, in 'path' (Class)`; "" if none does.

    Args:
        module: in the modes to look at; to be called inside `left_as_it_was`.
        rows: examples for each input.
    """
    open_states: list[Any] = []
    found: list[str] = []
    with Draws() as draws, python_draws() as lines:

        def state() -> tuple[object, ...]:
            return draws.calls, len(lines), numpy_state()

        def enter(name: str, part: nn.Module) -> None:
            open_states.append(state())

        def leave(name: str, part: nn.Module, output: object) -> None:
            if open_states.pop() != state():
                found.append(_shown(name, part))

        with _watched(module, enter, leave), contextlib.suppress(Exception), torch.no_grad():
            module(*(x.clone() for x in rows))
    return found[0] if found else ""


def changing_part(module: nn.Module, rows: tuple[Tensor, ...]) -> str:
    """The first part that gives something else when the module runs for the second time, with the same random numbers;
    as `drawing_part`."""
    runs: list[list[_Result]] = []

    def leave(name: str, part: nn.Module, output: object) -> None:
        tensors = tuple(t.detach().clone() for t in _pytree.tree_leaves(output) if isinstance(t, Tensor))
        runs[-1].append((_shown(name, part), tensors))

    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    with _watched(module, lambda name, part: None, leave), contextlib.suppress(Exception), torch.no_grad():
        for _ in range(2):
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
            runs.append([])
            torch.manual_seed(_SEED)
            module(*(x.clone() for x in rows))
    return _first_difference(*runs) if len(runs) == 2 else ""


def _first_difference(first: Sequence[_Result], second: Sequence[_Result]) -> str:
    """The first part whose results differ between two runs; "" where none do, or where other parts ran."""
    for (shown, a), (other, b) in zip(first, second, strict=False):
        if shown != other:
            return ""
        if len(a) != len(b) or not all(torch.equal(x, y) for x, y in zip(a, b, strict=True)):
            return shown
    return ""


class _Uses(TorchFunctionMode):
    """Notes the lines whose calls of torch's functions take a tensor, or memory, that is looked for."""

    def __init__(self, looked_for: Callable[[str, Tensor], bool]) -> None:
        super().__init__()
        self.looked_for, self.lines = looked_for, list[str]()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        given = _pytree.tree_leaves((args, kwargs or {})) if name != "__get__" else ()
        if any(isinstance(t, Tensor) and self.looked_for(name, t) for t in given):
            self.lines.append(line_of(traceback.extract_stack()))
        return func(*args, **(kwargs or {}))


def used_at(module: nn.Module, rows: tuple[Tensor, ...], tensor: Tensor) -> str:
    """The first line of the user's that gives a tensor to one of torch's functions; "" if none is found."""
    return _first_line(module, rows, lambda name, t: t is tensor)


def changed_at(module: nn.Module, rows: tuple[Tensor, ...], tensors: Sequence[Tensor]) -> str:
    """The first line of the user's that changes one of some tensors in place; "" if none is found."""
    storages = {t.untyped_storage().data_ptr() for t in tensors}

    def changes(name: str, t: Tensor) -> bool:
        in_place = (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", "__set__")
        return in_place and t.untyped_storage().data_ptr() in storages

    return _first_line(module, rows, changes)


def _first_line(module: nn.Module, rows: tuple[Tensor, ...], looked_for: Callable[[str, Tensor], bool]) -> str:
    with _Uses(looked_for) as uses, contextlib.suppress(Exception), torch.no_grad():
        module(*(x.clone() for x in rows))
    return next((line for line in uses.lines if line), "")


def mode_part(module: nn.Module, rows: tuple[Tensor, ...], modes: Mapping[nn.Module, bool]) -> str:
    """The first part that gives something else in training mode than in eval mode although all layers of torch inside
    are in eval mode; as `drawing_part`.

    Args:
        modes: which parts are in training mode while the module trains.
    """
    runs: list[list[_Result]] = []

    def leave(name: str, part: nn.Module, output: object) -> None:
        tensors = tuple(t.detach().clone() for t in _pytree.tree_leaves(output) if isinstance(t, Tensor))
        runs[-1].append((_shown(name, part), tensors))

    for training in (False, True):
        for part, mode in modes.items():
            part.training = training and mode and type(part).__module__.split(".")[0] != "torch"
        runs.append([])
        torch.manual_seed(_SEED)
        looked = _watched(module, lambda name, part: None, leave)
        with looked, contextlib.suppress(Exception), torch.set_grad_enabled(training):
            module(*(x.clone() for x in rows))
    return _first_difference(*runs) or _shown("", module)


def own_functions(module: nn.Module, rows: tuple[Tensor, ...]) -> str:
    """Where a module calls a `torch.autograd.Function` of its owner's, as `; it calls Name at file:line`; "" if it
    calls none."""
    places: list[str] = []
    names: list[str] = []
    before = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls.__module__.split(".")[0] != "torch":
            places.append(f"{cls.__name__} at {line_of(traceback.extract_stack())}")
        return before.__get__(None, cls)(*args, **kwargs)

    function: Any = torch.autograd.Function
    function.apply = classmethod(apply)
    try:
        with contextlib.suppress(Exception):
            names = list(_functions_of(module(*(x.clone() for x in rows))))
    finally:
        function.apply = before
    shown = dict.fromkeys(places or names)  # one that was bound to a name before is seen in the results alone
    return f"; it calls {', '.join(shown)}" if shown else ""


def _functions_of(output: object) -> Iterator[str]:
    """Names of the `torch.autograd.Function`s that results were made with."""
    waiting: list[Any] = [t.grad_fn for t in _pytree.tree_leaves(output) if isinstance(t, Tensor)]
    seen: set[Any] = set()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if isinstance(step, torch.autograd.function.BackwardCFunction):
            yield type(step).__name__.removesuffix("Backward")
        waiting += [nearer for nearer, _ in step.next_functions]


def _shown(name: str, part: nn.Module) -> str:
    return f", in {name!r} ({type(part).__name__})" if name else f", in the module itself ({type(part).__name__})"


@contextlib.contextmanager
def _watched(
    module: nn.Module,
    enter: Callable[[str, nn.Module], None],
    leave: Callable[[str, nn.Module, object], None],
) -> Iterator[None]:
    """Call `enter` before and `leave` after each part's forward."""
    handles = []
    for name, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda p, given, n=name: enter(n, p)))
        handles.append(part.register_forward_hook(lambda p, given, output, n=name: leave(n, p, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
