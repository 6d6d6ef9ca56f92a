"""Which random numbers a forward draws: its own, told from those of other threads.

Generators are the process's: a thread of the user's that draws while a module is exported changes their state. So
torch's random operators are looked for as they run, in this thread only, and calls of Python's `random` by this
thread's profiler. NumPy gives neither, so a forward is run again where another thread may have drawn.
"""

from __future__ import annotations

import functools
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pot_lab.scoring.export.diagnosis import line_of

_TRIES = 5
"""Runs of which one draws nothing where another thread drew before."""
_DROPOUTS = ("p", "dropout_p", "dropout")
_MODES = ("train", "training")
_PYTHON_DRAWS = ("random", "getrandbits")
"""All others of Python's draws are made of these."""
_CHANCE = ("dropout", "attention", "rnn", "lstm", "gru", "bernoulli")
"""Operators whose probability of 0 or 1 leaves nothing to chance."""


class _Drawing(NamedTuple):
    """Where a random operator has what decides whether it draws: places of arguments, or None."""

    probability: int | None
    training: int | None
    has_generator: bool


@functools.lru_cache(maxsize=4096)
def _drawing(func: Any) -> _Drawing | None:
    """None for operators that never draw."""
    names = [a.name for a in func._schema.arguments]
    packet = func.overloadpacket
    tagged = any(torch.Tag.nondeterministic_seeded in getattr(packet, o).tags for o in packet.overloads())
    if not tagged and "generator" not in names:
        return None
    by_chance = any(word in func.name() for word in _CHANCE)
    probability = next((names.index(n) for n in _DROPOUTS if n in names), None) if by_chance else None
    training = next((names.index(n) for n in _MODES if n in names), None)
    return _Drawing(probability, training, "generator" in names)


def may_draw(target: Any) -> bool:
    """Whether a call of an exported program is a random operator."""
    return isinstance(target, torch._ops.OpOverload) and _drawing(target) is not None


def _given(func: Any, place: int | None, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if place is None:
        return None
    argument = func._schema.arguments[place]
    return args[place] if place < len(args) else named.get(argument.name, argument.default_value)


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the random operators that run inside, in this thread.

    Attributes:
        calls: how many drew numbers.
        place: the user's line of the first.
        disturbed: whether something else changed the state of torch's generator meanwhile.
    """

    def __init__(self, own: torch.Generator | None = None) -> None:
        """own: what operators on the CPU draw from, in place of torch's generator."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls, self.place, self.disturbed = 0, "", False
        self._own, self._state = own, torch.get_rng_state()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        found = _drawing(func)
        if found is None:
            return func(*args, **named)
        if _by_chance(func, found, args, named):
            self.calls += 1
            self.place = self.place or line_of(traceback.extract_stack())
        own = found.has_generator and named.get("generator") is None and _on_cpu(args, named)
        if self._own is not None and own:
            return func(*args, **{**named, "generator": self._own})
        self._look()
        result = func(*args, **named)
        self._state = torch.get_rng_state()
        return result

    def __exit__(self, *given: Any) -> None:
        super().__exit__(*given)  # type: ignore[no-untyped-call]
        self._look()

    def _look(self) -> None:
        self.disturbed = self.disturbed or not torch.equal(self._state, torch.get_rng_state())


def _by_chance(func: Any, found: _Drawing, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    probability = _given(func, found.probability, args, named)
    sure = isinstance(probability, int | float) and probability in (0, 1)
    return not sure and _given(func, found.training, args, named) is not False


def _on_cpu(args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    return all(t.device.type == "cpu" for t in _pytree.tree_leaves((args, named)) if isinstance(t, Tensor))


@contextmanager
def python_draws() -> Iterator[list[str]]:
    """The first line of this thread's that draws from Python's `random` while inside, "" where it is not known: while
    another profiler is at work, the generator's state has to tell."""
    lines: list[str] = []
    generator, before = random.seed.__self__, random.getstate()  # type: ignore[attr-defined]
    other = sys.getprofile()

    def look(frame: Any, event: str, argument: Any) -> None:
        if event != "c_call" or lines or getattr(argument, "__self__", None) is not generator:
            return
        if argument.__name__ not in _PYTHON_DRAWS:
            return
        while frame.f_code.co_filename == random.__file__:
            frame = frame.f_back
        lines.append(line_of(traceback.extract_stack(frame)))

    if other is None:
        sys.setprofile(look)
    try:
        yield lines
    finally:
        if other is None:
            sys.setprofile(None)
        elif random.getstate() != before:
            lines.append("")


def numpy_draws(before: object, again: Callable[[], object]) -> bool:
    """Whether a forward draws from NumPy's generator, as far as its state tells.

    Args:
        before: the state before it ran, from `numpy_state`.
        again: runs it once more.
    """
    for _ in range(_TRIES):
        if numpy_state() == before:
            return False
        before = numpy_state()
        again()
    return numpy_state() != before


def numpy_state() -> object:
    """The state of NumPy's generator, to be compared."""
    found: Any = np.random.get_state(legacy=False)
    return found["state"]["pos"], found["state"]["key"].tobytes()
