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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export.attributes import Place, check_counts, counted, plain_attributes
from pot_lab.scoring.export.culprits import drawing_part
from pot_lab.scoring.export.diagnosis import why_it_does_not_run
from pot_lab.scoring.export.draws import Draws, numpy_draws, numpy_state, python_draws
from pot_lab.scoring.export.given_modules import refuse_unready
from pot_lab.scoring.export.gradient_hooks import check_proportion, has_hooks, hooks_of_forward, own_steps, refuse_hooks
from pot_lab.scoring.export.outputs import OutputChoice, chosen_outputs, refuse_another_form
from pot_lab.scoring.export.packing import padded
from pot_lab.scoring.export.rewriting import DrawingMode, Rewritten
from pot_lab.scoring.export.unknown_parameters import refuse_unknown
from pot_lab.scoring.trainable import in_safe_layout

ROWS = 3
"""Examples of a run: another number than the two that an export sees, and no more, since runs are what exports of large
models take their time for."""
TRIED = 64
"""Examples that are looked at where a few may miss what is rare, such as padding."""
_SEED = 20
_FAST_PATH_BOUND = 1e-3
"""Of the largest number: far above what other kernels round otherwise."""
_CONTAINERS = (dict, OrderedDict, list, set)
"""Whose content is put back; others may not be filled as these are."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one run gave.

    Attributes:
        outputs: the tensors among what forward returned, in order.
        gradients: of a fixed sum of the outputs, by parameter; None where a parameter has none. Empty in eval mode.
            None as a whole where torch cannot tell them, since forward overwrites what they need; a graph does not.
        buffers: as the run left them.
        draws: the random operators of torch's that forward ran.
    """

    outputs: tuple[Tensor, ...]
    gradients: Mapping[str, Tensor | None] | None
    buffers: Mapping[str, Tensor]
    draws: Draws


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
    refuse_unready(module)
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
    refuse_hooks(module)
    try:
        module.eval()
        before_evaluation = plain_attributes(module)
        with _own_random_numbers(module, rows):
            evaluated = run_once(module, rows, training=False, output=output)
        if evaluated.draws.calls:
            raise ExportFailed(
                "forward draws random numbers in eval mode too, so its score would be chance; for dropout write "
                "F.dropout(x, p, self.training)" + _at(evaluated.draws.place) + drawing_part(module, rows)
            )
        in_evaluation = counted(before_evaluation, plain_attributes(module))
        _refuse_fast_path(module, tuple(x[:TRIED] for x in given or rows), output)
        _put_back(module, buffers)
        module.train()
        set_modes(modes)
        before_step = plain_attributes(module)
        with _own_random_numbers(module, rows):
            trained = run_once(module, rows, training=True, output=output)
        _put_back(module, buffers)
        in_training = counted(before_step, plain_attributes(module))
    except ExportFailed:
        raise
    except Exception as problem:  # whatever the user's code raises, it does not run on the examples
        raise ExportFailed(why_it_does_not_run(problem, module, rows, given or rows)) from problem
    refuse_another_form(evaluated.outputs, trained.outputs)
    reference = Reference(rows=rows, evaluated=evaluated, trained=trained)
    _refuse_counting(module, reference, modes, output, in_training, in_evaluation)
    return reference


def _refuse_counting(
    module: nn.Module,
    reference: Reference,
    modes: Mapping[nn.Module, bool],
    output: OutputChoice,
    in_training: Sequence[Place],
    in_evaluation: Sequence[Place],
) -> None:
    """Refuse a forward whose results depend on how often it ran."""
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}

    def run(training: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(_SEED)
        found = run_once(module, reference.rows, training=training, output=output, gradients=False).outputs
        _put_back(module, buffers)
        return found

    if in_training:
        check_counts(module, in_training, lambda: run(True), reference.trained.outputs, "training")
    if in_evaluation:
        module.eval()
        check_counts(module, in_evaluation, lambda: run(False), reference.evaluated.outputs, "eval")
    set_modes(modes)


def redrawn(
    module: nn.Module,
    reference: Reference,
    modes: Mapping[nn.Module, bool],
    rewritten: Rewritten,
    output: OutputChoice = None,
    *,
    undisturbed: bool = False,
) -> Reference:
    """The reference of a module that draws with `torch.rand`, where its graph draws zeros and ones, or that drops
    places of packed sequences, where its graph drops those of padded ones: the step in training mode again, with the
    numbers that the graph draws.

    Args:
        undisturbed: as in `run_once`.
    """
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    module.train()
    set_modes(modes)
    with DrawingMode(rewritten.keeps), padded() if rewritten.packing.drops else contextlib.nullcontext():
        trained = run_once(module, reference.rows, training=True, output=output, undisturbed=undisturbed)
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
    before = numpy_state()
    with python_draws() as lines:
        yield
    if lines or numpy_draws(before, lambda: module(*(x.clone() for x in rows))):
        raise ExportFailed(
            "forward draws random numbers from Python's `random` or NumPy, which a graph cannot repeat; use nn.Dropout "
            "for noise while training" + _at(lines[0] if lines else "") + drawing_part(module, rows)
        )


def _at(line: str) -> str:
    return f", at {line}" if line else ""


class SafeLayouts(TorchFunctionMode):
    """Calls that would end the process run as those of a graph do."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.group_norm, F.group_norm) and args:
            args = (in_safe_layout(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


def run_once(
    module: nn.Module,
    rows: tuple[Tensor, ...],
    *,
    training: bool,
    output: OutputChoice = None,
    gradients: bool = True,
    undisturbed: bool = False,
    take: Callable[[str, Tensor], None] | None = None,
) -> StepResult:
    """One run in the modes that the module is in, with the same random numbers each time; with gradients if
    `training`, unless they are not asked for.

    Args:
        undisturbed: draw from a generator that no other thread knows.
        take: gets each gradient as it is made, by the parameter's name, in place of the result, which then has none:
            all together are as large as the weights.
    Raises: ExportFailed, and whatever forward raises.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.manual_seed(_SEED) if training else None
    torch.backends.mha.set_fastpath_enabled(False)  # of other bits than the layers that an export sees
    try:
        own = torch.Generator().manual_seed(_SEED) if undisturbed else None
        with torch.set_grad_enabled(training), hooks_of_forward() as hooks, SafeLayouts(), Draws(own) as draws:
            found = module(*(x.clone() for x in rows))
        outputs = chosen_outputs(found, output)
        asked = training and gradients
        given: Mapping[str, Tensor | None] | None = _gradients(module, outputs, rows, hooks, take) if asked else {}
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    buffers = {name: b.detach().clone() for name, b in module.named_buffers(remove_duplicate=False)}
    return StepResult(outputs=tuple(t.detach() for t in outputs), gradients=given, buffers=buffers, draws=draws)


@contextlib.contextmanager
def _given_away(parameters: Mapping[str, nn.Parameter], take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While inside, gradients go to `take` under all names of their parameters, and are not kept."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, p in parameters.items():
        names.setdefault(p, []).append(name)

    def give(p: Tensor) -> None:
        gradient, p.grad = p.grad, None
        if gradient is not None:
            for name in names[p]:  # type: ignore[index]
                take(name, gradient.detach().to_dense())

    handles = [p.register_post_accumulate_grad_hook(give) for p in names]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gradients(
    module: nn.Module,
    outputs: tuple[Tensor, ...],
    rows: tuple[Tensor, ...],
    hooks: Sequence[str],
    take: Callable[[str, Tensor], None] | None = None,
) -> dict[str, Tensor | None] | None:
    """Of the sum of all outputs, each times a number of its own, by every parameter that is to be trained.

    Args:
        hooks: those that forward put on its tensors.
    """
    wanted = {name: p for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    roots = [t for t in outputs if t.requires_grad and t.dtype.is_floating_point]
    refuse_unknown(module, roots, rows)
    whose = [*hooks, *own_steps(roots), *(["hooks of parts"] if has_hooks(module) else [])]
    generator = torch.Generator().manual_seed(_SEED)
    factors = [torch.empty(t.shape).uniform_(-1, 1, generator=generator).to(t.device, t.dtype) for t in roots]
    taken = _given_away(wanted, take) if take is not None else contextlib.nullcontext()

    def backward(scale: float = 1.0) -> dict[str, Tensor | None]:
        for p in wanted.values():
            p.grad = None
        if roots:
            scaled = factors if scale == 1.0 else [f * scale for f in factors]
            torch.autograd.backward(roots, scaled, retain_graph=bool(whose))
        found = {name: None if p.grad is None else p.grad.detach().to_dense() for name, p in wanted.items()}
        for p in wanted.values():
            p.grad = None
        return found

    try:
        with taken:
            found = backward()
        if whose and take is None:
            check_proportion(found, backward, whose)
    except RuntimeError as problem:
        if "modified by an inplace operation" not in str(problem):
            raise
        return None
    return found
