"""The user's module run for real before it is exported: what its graph must compute, and what a run leaves behind.

An export sees one path through `forward`, without numbers. Whether a graph is the module shows only where both have
run: in eval mode, and for one step in training mode, with the gradient of every parameter. The runs here change
nothing of the user's: attributes, buffers, gradients and random generators are put back.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree

from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export.culprits import drawing_part
from pot_lab.scoring.export.diagnosis import why_it_does_not_run
from pot_lab.scoring.export.rewriting import DrawingMode
from pot_lab.scoring.tensor_file import dtype_name

ROWS = 4
"""Examples of a run: another number than the two that an export sees."""
TRIED = 64
"""Examples that are looked at where a few may miss what is rare, such as padding."""
_SEED = 20
_FAST_PATH_BOUND = 1e-3
"""Of the largest number: far above what other kernels round otherwise."""
_CONTAINERS = (dict, OrderedDict, list, set)
"""Whose content is put back; others may not be filled as these are."""
OutputChoice = str | int | None
"""Which of several results is scored: a name, a place from 0, or None for the usual one."""
UNKNOWN_PARAMETER = (
    "forward uses a parameter that the module does not list among its parameters, so nobody would train it; put "
    "modules into nn.ModuleList or nn.ModuleDict, parameters into nn.ParameterList, or register them"
)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one run gave.

    Attributes:
        outputs: the tensors among what forward returned, in order.
        gradients: of a fixed sum of the outputs, by parameter; None where a parameter has none. Empty in eval mode.
            None as a whole where torch cannot tell them, since forward overwrites what they need; a graph does not.
        buffers: as the run left them.
    """

    outputs: tuple[Tensor, ...]
    gradients: Mapping[str, Tensor | None] | None
    buffers: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The user's module in eval mode, and in one step of training mode.

    Attributes:
        rows: the examples that both ran on.
    """

    rows: tuple[Tensor, ...]
    evaluated: StepResult
    trained: StepResult


def training_parts(module: nn.Module) -> dict[nn.Module, bool]:
    """Which parts of a module are in training mode while it trains: all, but for those that their owner keeps in eval
    mode, by a `train` of their own or by `eval()` on a part of a module that is in training mode itself. The modes are
    left as they were."""
    before = {part: part.training for part in module.modules()}
    whole = module.training
    try:
        module.train()
        return {part: part.training and (before.get(part, True) or not whole) for part in module.modules()}
    finally:
        set_modes(before)


def set_modes(modes: Mapping[nn.Module, bool]) -> None:
    """Put parts into the modes given, without calling their `train`."""
    for part, mode in modes.items():
        part.training = mode


class KeptModule:
    """What a module was before others ran it, to be put back."""

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        self._own = {id(t): t for part in parts for t in _tensors_of(part)}
        self._numbers = {key: t.detach().clone() for key, t in self._own.items()}
        self._gradients = {key: t.grad for key, t in self._own.items() if t.is_leaf}
        self._parts = [(part, dict(vars(part)), _contents(part)) for part in parts]

    def changed(self, module: nn.Module) -> list[str]:
        """Names of the parameters that have other numbers than before."""
        return [n for n, p in module.named_parameters() if not _same_numbers(p.detach(), self._numbers.get(id(p), p))]

    def put_attributes_back(self) -> None:
        """Attributes of all parts, and the content of their lists and tables."""
        for part, before, content in self._parts:
            vars(part).clear()
            vars(part).update(before)
            for name, value in content.items():
                _refill(before[name], value)

    def put_back(self) -> None:
        """Attributes, numbers and gradients."""
        self.put_attributes_back()
        with torch.no_grad():
            for key, tensor in self._own.items():
                if not _same_numbers(tensor, self._numbers[key]):
                    tensor.copy_(self._numbers[key])
                if tensor.is_leaf:
                    tensor.grad = self._gradients.get(key)

    @property
    def devices(self) -> list[torch.device]:
        """Those that tensors of the module are on, but for the CPU."""
        return list({t.device for t in self._own.values() if t.device.type == "cuda"})


@contextlib.contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[KeptModule]:
    """Undo what runs inside change: attributes of all parts, the content of their lists and tables, parameters,
    buffers, gradients, modes, and the state of the random generators.

    Raises: ExportFailed for a module whose layers have no sizes yet.
    """
    if has_lazy_parts(module):
        raise ExportFailed(
            "lazy layers have no parameters before their first run: run the module once on some examples",
            seen=", ".join(name for name, t in _named(module) if is_lazy(t))[:200],
        )
    kept = KeptModule(module)
    generators = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(kept.devices):
        try:
            yield kept
        finally:
            random.setstate(generators[0])
            np.random.set_state(generators[1])
            kept.put_back()


def _contents(part: nn.Module) -> dict[str, Any]:
    return {name: copy.copy(value) for name, value in vars(part).items() if type(value) in _CONTAINERS}


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or (a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all()))


def has_lazy_parts(module: nn.Module) -> bool:
    """Whether a module has layers whose sizes are not known before it has run."""
    return any(is_lazy(t) for _, t in _named(module))


def _named(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _tensors_of(part: nn.Module) -> Iterator[Tensor]:
    for table in (part._parameters, part._buffers, vars(part)):
        yield from (value for value in table.values() if isinstance(value, Tensor))


def _refill(kept: Any, content: Any) -> None:
    if isinstance(kept, list):
        kept[:] = content
        return
    kept.clear()
    kept.update(content)


def run_reference(
    module: nn.Module,
    rows: tuple[Tensor, ...],
    modes: Mapping[nn.Module, bool],
    output: OutputChoice = None,
    given: tuple[Tensor, ...] | None = None,
) -> Reference:
    """Run a module in eval mode and for one step of training; to be called inside `left_as_it_was`. Buffers are put
    back before it returns, so that an export sees the user's.

    Args:
        given: all examples of the user's, to see whether forward takes that many only.
    Raises: ExportFailed, also for whatever forward raises, which is then its cause.
    """
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    try:
        module.eval()
        before = torch.get_rng_state()
        with _own_random_numbers(module, rows):
            evaluated = run_once(module, rows, training=False, output=output)
        if not torch.equal(before, torch.get_rng_state()):
            raise ExportFailed(
                "forward draws random numbers in eval mode too, so its score would be chance; for dropout write "
                "F.dropout(x, p, self.training)" + drawing_part(module, rows)
            )
        _refuse_fast_path(module, tuple(x[:TRIED] for x in given or rows), output)
        _put_back(module, buffers)
        set_modes(modes)
        with _own_random_numbers(module, rows):
            trained = run_once(module, rows, training=True, output=output)
        _put_back(module, buffers)
    except ExportFailed:
        raise
    except Exception as problem:  # whatever the user's code raises, it does not run on the examples
        raise ExportFailed(why_it_does_not_run(problem, module, rows, given or rows)) from problem
    _same_form(evaluated.outputs, trained.outputs)
    return Reference(rows=rows, evaluated=evaluated, trained=trained)


def redrawn(
    module: nn.Module,
    reference: Reference,
    modes: Mapping[nn.Module, bool],
    keeps: Sequence[float],
    output: OutputChoice = None,
) -> Reference:
    """The reference of a module that draws with `torch.rand`, where its graph draws zeros and ones: the step in
    training mode again, with the numbers that the graph draws.

    Args:
        keeps: the probabilities of the draws, in order.
    """
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    set_modes(modes)
    with DrawingMode(keeps):
        trained = run_once(module, reference.rows, training=True, output=output)
    _put_back(module, buffers)
    return Reference(rows=reference.rows, evaluated=reference.evaluated, trained=trained)


def _refuse_fast_path(module: nn.Module, rows: tuple[Tensor, ...], output: OutputChoice) -> None:
    """Refuse encoders of torch that leave masked places out in eval mode only, which other layers then see."""
    encoders = [
        name for name, part in module.named_modules() if isinstance(part, nn.TransformerEncoder) and _nests(part)
    ]
    if not encoders or not torch.backends.mha.get_fastpath_enabled():
        return
    slow = run_once(module, rows, training=False, output=output).outputs
    with torch.no_grad():
        fast = chosen_outputs(module(*(x.clone() for x in rows)), output)
    for ours, theirs in zip(slow, fast, strict=True):
        apart = float((ours.double() - theirs.double()).abs().nan_to_num().max()) if ours.shape == theirs.shape else 1.0
        if ours.shape != theirs.shape or apart > _FAST_PATH_BOUND * max(1.0, float(ours.abs().max())):
            raise ExportFailed(
                "torch's encoder gives zeros, and no places behind the longest example, where a padding mask stands, "
                "but in eval mode and without gradients only, so the module is one model in training and another in "
                "use: write nn.TransformerEncoder(..., enable_nested_tensor=False), and leave masked places out of "
                "sums and means yourself",
                seen=f"{', '.join(map(repr, encoders))}, largest difference {apart:.3g}",
            )


def _nests(part: nn.Module) -> bool:
    return bool(getattr(part, "use_nested_tensor", False))


def _put_back(module: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name in buffers and not _same_numbers(buffer, buffers[name]):
                buffer.copy_(buffers[name])


@contextlib.contextmanager
def _own_random_numbers(module: nn.Module, rows: tuple[Tensor, ...]) -> Iterator[None]:
    """Refuse a forward that draws from generators which no graph can repeat."""
    before = random.getstate(), np.random.get_state(legacy=False)
    yield
    after = np.random.get_state(legacy=False)
    if random.getstate() != before[0] or not _same_state(before[1], after):
        raise ExportFailed(
            "forward draws random numbers from Python's `random` or NumPy, which a graph cannot repeat; use nn.Dropout "
            "for noise while training" + drawing_part(module, rows)
        )


def _same_state(a: Any, b: Any) -> bool:
    return bool(a["state"]["pos"] == b["state"]["pos"] and np.array_equal(a["state"]["key"], b["state"]["key"]))


def run_once(module: nn.Module, rows: tuple[Tensor, ...], *, training: bool, output: OutputChoice = None) -> StepResult:
    """One run in the modes that the module is in, with the same random numbers each time; with gradients if
    `training`.

    Raises: ExportFailed, and whatever forward raises.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.manual_seed(_SEED) if training else None
    torch.backends.mha.set_fastpath_enabled(False)  # of other bits than the layers that an export sees
    try:
        with torch.set_grad_enabled(training):
            found = module(*(x.clone() for x in rows))
        outputs = chosen_outputs(found, output)
        gradients: Mapping[str, Tensor | None] | None = _gradients(module, outputs) if training else {}
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    buffers = {name: b.detach().clone() for name, b in module.named_buffers(remove_duplicate=False)}
    return StepResult(outputs=tuple(t.detach() for t in outputs), gradients=gradients, buffers=buffers)


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
            wanted = " or ".join(f"output={key!r}" for key in tensors[:8]) or "a module that returns tensors"
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


def _gradients(module: nn.Module, outputs: tuple[Tensor, ...]) -> dict[str, Tensor | None] | None:
    """Of the sum of all outputs, each times a number of its own, by every parameter that is to be trained."""
    wanted = {name: p for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    roots = [t for t in outputs if t.requires_grad and t.dtype.is_floating_point]
    _refuse_unknown(module, roots)
    for p in wanted.values():
        p.grad = None
    generator = torch.Generator().manual_seed(_SEED)
    factors = [torch.randn(t.shape, generator=generator).to(t.device, t.dtype) for t in roots]
    try:
        if roots:
            torch.autograd.backward(roots, factors)
    except RuntimeError as problem:
        if "modified by an inplace operation" not in str(problem):
            raise
        return None
    found = {}
    for name, p in wanted.items():
        found[name] = None if p.grad is None else p.grad.detach().to_dense()
    for p in wanted.values():
        p.grad = None
    return found


def _refuse_unknown(module: nn.Module, roots: list[Tensor]) -> None:
    """Refuse outputs that depend on trainable tensors which are no parameters of the module."""
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
            raise ExportFailed(UNKNOWN_PARAMETER, seen=places[0] if places else f"shape {tuple(variable.shape)}")
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


def _same_form(evaluated: tuple[Tensor, ...], trained: tuple[Tensor, ...]) -> None:
    def form(outputs: tuple[Tensor, ...]) -> str:
        return ", ".join(f"{dtype_name(t.dtype)} {tuple(t.shape)}" for t in outputs) or "no tensor"

    if form(evaluated) != form(trained):
        raise ExportFailed(
            "the module returns something else in training mode than in eval mode, and the graph of a model has one "
            "form for both: return the same tensors in both, such as the first output alone",
            seen=f"{form(trained)} in training mode, {form(evaluated)} in eval mode",
        )
