"""Whether a graph is the module it was exported from: both are run, and outputs, buffers and gradients compared.

Equal bits are the rule. Where an operator was written with others, or torch takes another kernel, sums are rounded
otherwise, and the bounds here let that pass: they lie well above float32's rounding and below what a model is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export.attributes import set_by_mode
from pot_lab.scoring.export.culprits import changing_part, mode_part, own_functions
from pot_lab.scoring.export.outputs import OutputChoice
from pot_lab.scoring.export.trial import Reference, run_once, set_modes, training_parts
from pot_lab.scoring.graph.model_graph import ModelGraph
from pot_lab.scoring.trainable import TrainableModel

_BOUND = {torch.float64: 1e-9, torch.float32: 1e-4}
_ROUGH_BOUND = 3e-2
"""Of the largest number, for types of fewer digits."""
_GRADIENT_BOUND, _GRADIENT_NOISE = 1e-3, 5e-6
"""Of a parameter's own largest gradient, and of the largest of all: one that should be 0 is rounding alone."""
_AT_ONCE = 1 << 20
"""Elements that are looked at together."""
_BRANCH = re.compile(r"\bif\b.*\b(training|is_grad_enabled)\b|\b(training|is_grad_enabled)\b.*\belse\b")


def check_same_model(
    module: nn.Module,
    reference: Reference,
    graph: ModelGraph,
    tensors: Mapping[str, Tensor],
    undisturbed: Callable[[Reference], Reference],
) -> None:
    """Run the graph as the module was run, and compare.

    Args:
        module: the user's.
        reference: what it gave.
        graph, tensors: its export.
        undisturbed: runs the module again, with random numbers that no other thread draws from.
    Raises: ExportFailed, naming the mode, the parameter or the buffer, and where known the user's line.
    """
    kept = {
        s.name for s in graph.state if s.kind in ("parameter", "frozen")
    }  # a step of a twin changes its buffers only

    def twin() -> TrainableModel:
        return TrainableModel(graph, {name: t if name in kept else t.clone() for name, t in tensors.items()})

    gradients = _Gradients(reference)
    trained = run_once(twin().train(), reference.rows, training=True, take=gradients.compare)
    difference = _apart(reference.trained.outputs, trained.outputs)
    if difference and (reference.trained.draws.disturbed or trained.draws.disturbed):
        reference = undisturbed(reference)
        gradients = _Gradients(reference)
        trained = run_once(twin().train(), reference.rows, training=True, undisturbed=True, take=gradients.compare)
        difference = _apart(reference.trained.outputs, trained.outputs)
    if difference:
        raise ExportFailed(
            "in training mode the module computes something else than its graph: its forward depends on more than its "
            "inputs, parameters and buffers, such as a number that it counts, or draws random numbers in another order"
            + (_changing(module, reference) or _set(module)),
            seen=difference,
        )
    evaluated = run_once(twin().eval(), reference.rows, training=False)
    if difference := _apart(reference.evaluated.outputs, evaluated.outputs):
        raise ExportFailed(
            "in eval mode the module computes something else than its graph, which is that of training mode without "
            "dropout and with the running statistics of batch norm; remove what depends on `self.training` from "
            "forward"
            + (_branches(module) or _set(module) or mode_part(module, reference.rows, training_parts(module))),
            seen=difference,
        )
    for name, buffer in reference.trained.buffers.items():
        ours = trained.buffers.get(name)
        if ours is not None and (difference := _apart((buffer,), (ours,))):
            raise ExportFailed(f"training changes the buffer {name!r} otherwise than its graph does", seen=difference)
    gradients.check(module)


def check_alone(
    module: nn.Module,
    reference: Reference,
    graph: ModelGraph,
    tensors: Mapping[str, Tensor],
    output: OutputChoice,
) -> None:
    """Compare each example by itself, in eval mode, as `check_same_model` compares them together.

    Raises: ExportFailed.
    """
    twin = TrainableModel(graph, dict(tensors)).eval()
    module.eval()
    for place in range(len(reference.rows[0])):
        row = tuple(x[place : place + 1] for x in reference.rows)
        wanted = run_once(module, row, training=False, output=output).outputs
        if difference := _apart(wanted, run_once(twin, row, training=False).outputs):
            raise ExportFailed(
                "the module computes something else for an example alone than its graph, where each stands alone",
                seen=difference,
            )


def _set(module: nn.Module) -> str:
    """What a `train` of the owner's sets, for a message."""
    found = set_by_mode(module)
    return f", and from `train` what it sets in training mode only: {found}" if found else ""


def _changing(module: nn.Module, reference: Reference) -> str:
    modes = training_parts(module)
    module.train()
    set_modes(modes)
    return changing_part(module, reference.rows)


class _Gradients:
    """Compares the gradients of a graph with those of its module, one after the other as they are made."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._wanted = reference.trained.gradients or {}
        largest = (_largest(g) for g in self._wanted.values() if g is not None and g.numel())
        self._largest = max(largest, default=0.0)
        self._seen: set[str] = set()
        self._apart: dict[str, tuple[float, float]] = {}

    def compare(self, name: str, ours: Tensor | None) -> None:
        """Take the graph's gradient of a parameter; None is one of zeros."""
        self._seen.add(name)
        gradient = self._wanted.get(name)
        theirs = torch.zeros(()) if gradient is None else gradient
        ours = torch.zeros_like(theirs) if ours is None else ours
        if torch.equal(theirs, ours) or not bool(torch.isfinite(theirs).all()):
            return
        scale = _largest(theirs)
        rough = theirs.dtype not in _BOUND
        bound = (_ROUGH_BOUND if rough else _GRADIENT_BOUND) * scale
        bound += (1e-2 if rough else _GRADIENT_NOISE) * self._largest
        apart = _largest(theirs, ours)
        if not apart <= bound or (scale > 0 and not bool(ours.any())):
            self._apart[name] = apart, scale

    def check(self, module: nn.Module) -> None:
        """Refuse what is apart, with what parameters the graph has no gradient of: raises ExportFailed."""
        for name in self._wanted:
            if name not in self._seen:
                self.compare(name, None)
            if name not in self._apart:
                continue
            apart, scale = self._apart[name]
            raise ExportFailed(
                f"the gradient of {name!r} is another one in the graph, so the model would be trained otherwise: "
                "a backward of one's own (torch.autograd.Function) and hooks that change gradients are not exported; "
                "write it with operators, such as x + (x.sign() - x).detach() for a straight-through sign"
                + _hooks(module)
                + own_functions(module, self._reference.rows),
                seen=f"largest difference {apart:.3g}",
                wanted=f"gradients up to {scale:.3g}",
            )


def _largest(a: Tensor, b: Tensor | None = None) -> float:
    """The largest size of a's elements, or of their differences from b's; some at a time, since a copy of a large
    model's gradients is large."""
    if b is not None and b.shape != a.shape:
        return float((a - b).abs().max())
    first, second = a.reshape(-1), None if b is None else b.reshape(-1)
    found = [0.0]
    for place in range(0, a.numel(), _AT_ONCE):
        part = first[place : place + _AT_ONCE]
        part = part if second is None else part - second[place : place + _AT_ONCE]
        found.append(float(part.abs().max()))
    return float(torch.tensor(found, dtype=torch.float64).max())  # NaN where one is


def _apart(wanted: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> str:
    """How far two results are apart where that is more than rounding; "" where they are the same."""
    if len(wanted) != len(found):
        return f"{len(wanted)} and {len(found)} outputs"
    for a, b in zip(wanted, found, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        if torch.equal(a, b) or not a.numel():
            continue
        difference = scale = 0.0
        first, second = a.reshape(-1), b.reshape(-1)
        for place in range(0, a.numel(), _AT_ONCE):
            x, y = (t[place : place + _AT_ONCE].double() for t in (first, second))
            finite = torch.isfinite(x) & torch.isfinite(y)
            if not torch.equal(x[~finite].nan_to_num(7.0), y[~finite].nan_to_num(7.0)):
                return "numbers that are not finite in one of them only"
            if bool(finite.any()):
                x, y = x[finite], y[finite]
                difference = max(difference, float((x - y).abs().max()))
                scale = max(scale, float(x.abs().max()))
        if difference > _BOUND.get(a.dtype, _ROUGH_BOUND) * scale or (difference and not a.dtype.is_floating_point):
            return f"largest difference {difference:.3g}, largest number {scale:.3g}"
    return ""


def _branches(module: nn.Module) -> str:
    """Lines of the user's own forwards that look at `training`."""
    found = []
    for path, part in module.named_modules():
        if type(part).__module__.split(".")[0] == "torch":
            continue
        try:
            lines, first = inspect.getsourcelines(type(part).forward)
            file = Path(inspect.getsourcefile(type(part)) or "").name
        except (OSError, TypeError):
            continue
        name = f"{path or 'the module'} ({type(part).__name__})"
        found += [f"{name}, {file}:{first + i}: {line.strip()}" for i, line in enumerate(lines) if _BRANCH.search(line)]
    return f", at {'; '.join(found[:3])}" if found else ""


def _hooks(module: nn.Module) -> str:
    """Parts and parameters that have hooks on gradients."""
    found = [
        path or "the module"
        for path, part in module.named_modules()
        if part._backward_hooks or part._backward_pre_hooks
    ]
    found += [name for name, p in module.named_parameters() if getattr(p, "_backward_hooks", None)]
    return f", with hooks on {', '.join(found[:5])}" if found else ""
