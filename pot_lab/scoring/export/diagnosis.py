"""Why torch cannot export a module, in the user's words: the cause, the line, and what to write instead.

torch.export tells its own state, and often no line. What it does not tell is found by running the module again and
looking for the call that is known to be the cause.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode

_TORCH = Path(torch.__file__).parent
_OWN = Path(__file__).parent
PACKED = (
    "packed sequences have a graph from pack_padded_sequence, with lengths as a tensor, over nn.LSTM, nn.GRU or nn.RNN "
    "to their last states or pad_packed_sequence: no .tolist() of lengths, and nothing else in between"
)
_BATCH = (
    "its forward fixes the batch's size: use sizes of the inputs or -1 instead of numbers, x.shape[0] instead of "
    "len(x), a // b instead of int(a / b), and no `if` and no loop on the number of examples"
)
_BRANCH = (
    "its forward branches on the numbers of a tensor; use torch.where, and for layers of torch that get a mask "
    "is_causal=True in encoders and tgt_is_causal=True in decoders"
)
_UNTRACED = (
    "its forward goes round torch's bookkeeping, as .data, .numpy() and .tolist() do; write .detach() instead of .data"
)
_ONE_HOT = "F.one_hot needs its number of classes, since a graph has no shape that depends on numbers: give num_classes"
_ALL_BATCHES = (
    "momentum=None averages the statistics of all batches by their number, which a graph does not divide by: give a "
    "momentum, such as the usual 0.1"
)
_GRADIENT_INSIDE = "its forward takes gradients, which a graph cannot: write the derivative out with operators"
FUNCTIONS = (
    "its forward uses torch.func (vmap, grad, jacrev), which has no graph here: write the batch as the first axis and "
    "derivatives with operators"
)
_PACK = ("pack_padded_sequence", "_pack_padded_sequence")
_EXPORTED_EXAMPLES = 2
_ROUND = ("data", "numpy", "tolist", "__array__", "set_")


def user_line(stack_trace: str | None) -> str:
    """The innermost line of a stack trace outside of torch and this package, as `file:line in function: text`."""
    found = re.findall(r'File "([^"\n]+)", line (\d+)(?:, in (\S+))?', stack_trace or "")
    for file, line, function in reversed(found):
        if of_user(file):
            return _shown(file, int(line), function)
    return ""


def of_user(file: str) -> bool:
    """Whether code is neither torch's, nor of this package, nor made by torch as it goes."""
    made = file.startswith("<eval_with_key>")
    return not (made or Path(file).is_relative_to(_TORCH) or Path(file).is_relative_to(_OWN))


def place_of(node: Any) -> str:
    """Where a call of an exported program comes from: the user's line, and the path and class of the part."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    line = user_line(node.meta.get("stack_trace"))
    path, kind = stack[-1][:2] if stack else ("", "")
    if not path:
        return line
    name = kind if isinstance(kind, str) else getattr(kind, "__qualname__", str(kind))
    part = f"{path!r} ({name.rsplit('.', 1)[-1]})"
    return f"{line}, in {part}" if line else part


def _shown(file: str, line: int, function: str) -> str:
    text = linecache.getline(file, line).strip()
    return f"{Path(file).name}:{line}" + (f" in {function}" if function else "") + (f": {text}" if text else "")


def line_of(frames: Sequence[traceback.FrameSummary]) -> str:
    """The innermost frame that is neither torch's nor of this package."""
    for frame in reversed(frames):
        if Path(frame.filename).exists() and of_user(frame.filename):
            return _shown(frame.filename, frame.lineno or 0, frame.name)
    return ""


def reason(problem: Exception, module: nn.Module, examples: tuple[Tensor, ...], export: Callable[[], object]) -> str:
    """What is wrong, where, and what to write instead.

    Args:
        problem: what torch.export raised.
        module: the user's, in the modes it was exported in.
        examples: the inputs.
        export: exports again, for another look.
    """
    text = str(problem)
    frames = traceback.extract_tb(problem.__traceback__)
    place = user_line(text) or line_of(frames)
    if averaging := _averages_all(module, problem):
        found, place = _ALL_BATCHES + averaging, place
    elif ("data-dependent" in text or "unbacked" in text) and (packed := _called_at(module, examples, _PACK)):
        found, place = PACKED, packed
    elif inside := _called_at(module, examples, ("grad", "autograd")):
        found, place = _GRADIENT_INSIDE, inside
    elif "torch/_functorch" in "".join(f.filename for f in frames) and "vmap" in "".join(f.name for f in frames):
        found = FUNCTIONS
    elif "data-dependent" in text and (classes := _one_hot_at(module, examples)):
        found, place = _ONE_HOT, classes
    elif "batch" in text and ("onstraint" in text or "specializ" in text):
        found, place = _BATCH, _specialised_at(export) or place
    elif "data-dependent" in text:
        found = _BRANCH
    elif "fake tensor" in text.lower() or "FakeTensor" in text or ".numpy() is not supported" in text:
        found, place = _UNTRACED, _called_at(module, examples, _ROUND) or place
    elif unknown := re.match(r"Multiple dispatch failed for 'torch\.(?:Tensor\.)?(\w+)'", text):
        found = f"complex numbers have no rule for {unknown[1]}; their sums, products, abs, real and imag have"
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        found = f"{type(problem).__name__}: {lines[0] if lines else 'without a reason'}"
        found = re.sub(r"\s*Please file an issue[^.]*\.?", "", found)
    return found + (f", at {place}" if place else "")


def _averages_all(module: nn.Module, problem: Exception) -> str:
    """The batch norm whose `momentum=None` torch could not trace, as `, in 'path' (Class)`; "" if that is not why."""
    frames = traceback.extract_tb(problem.__traceback__)
    if not any(f.filename.endswith("batchnorm.py") and "num_batches_tracked" in (f.line or "") for f in frames):
        return ""
    norms = [
        f", in {path!r} ({type(part).__name__})"
        for path, part in module.named_modules()
        if getattr(part, "momentum", 0.1) is None
    ]
    return norms[0] if norms else ""


def why_it_does_not_run(
    problem: Exception, module: nn.Module, rows: tuple[Tensor, ...], given: tuple[Tensor, ...]
) -> str:
    """Why forward raises on `rows` examples, in the mode that the module is in.

    Args:
        problem: what it raised.
        given: more examples, or the same ones. Where forward takes these, it fixes the batch's size.
    """
    place = line_of(traceback.extract_tb(problem.__traceback__))
    where = f", at {place}" if place else ""
    if len(given[0]) != len(rows[0]) and _runs(module, given) and not _runs(module, rows):
        return _BATCH + where
    mode = "training" if module.training else "eval"
    reason = (str(problem).splitlines() or ["without a reason"])[0]
    return f"the module does not run in {mode} mode: {type(problem).__name__}: {reason}{where}"


def _runs(module: nn.Module, examples: tuple[Tensor, ...]) -> bool:
    try:
        with torch.no_grad():
            module(*(x.clone() for x in examples))
    except Exception:  # whatever it raises, it does not run
        return False
    return True


def _one_hot_at(module: nn.Module, examples: tuple[Tensor, ...]) -> str:
    """The line that calls `F.one_hot` without a number of classes."""
    return _called_at(module, examples, ("one_hot",), unless=lambda args, named: len(args) > 1 or bool(named))


def _specialised_at(export: Callable[[], object]) -> str:
    """The line that gives a size of the inputs a fixed value, or else that compares it with one."""
    places: list[str] = []
    compared: list[str] = []
    looked_at: list[str] = []
    before, before_evaluation = ShapeEnv._set_replacement, ShapeEnv.evaluate_expr

    def watched(self: ShapeEnv, a: Any, target: Any, *rest: Any, **named: Any) -> None:
        if getattr(target, "is_number", False):
            places.append(line_of(traceback.extract_stack()))
        before(self, a, target, *rest, **named)

    def watched_evaluation(self: ShapeEnv, expression: Any, *rest: Any, **named: Any) -> Any:
        sizes = [int(n) for n in getattr(expression, "atoms", lambda *_: [])() if getattr(n, "is_Integer", False)]
        if getattr(expression, "free_symbols", None) and any(n > _EXPORTED_EXAMPLES for n in sizes):
            compared.append(line_of(traceback.extract_stack()))
        elif "Mod" in str(expression) and getattr(expression, "free_symbols", None):
            looked_at.append(line_of(traceback.extract_stack()))
        return before_evaluation(self, expression, *rest, **named)

    ShapeEnv._set_replacement = watched  # type: ignore[method-assign, assignment]
    ShapeEnv.evaluate_expr = watched_evaluation  # type: ignore[method-assign, assignment]
    try:
        export()
    except Exception:  # it failed before, and fails again
        pass
    finally:
        ShapeEnv._set_replacement = before  # type: ignore[method-assign]
        ShapeEnv.evaluate_expr = before_evaluation  # type: ignore[method-assign]
    return next((place for place in (*places, *compared, *looked_at) if place), "")


class _Watch(TorchFunctionMode):
    """Notes where forward calls some of torch's functions."""

    def __init__(self, names: Sequence[str], unless: Callable[[Any, Any], bool]) -> None:
        super().__init__()
        self.names, self.places, self.unless = names, list[str](), unless

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in self.names and not self.unless(args, kwargs):
            self.places.append(line_of(traceback.extract_stack()))
        return func(*args, **(kwargs or {}))


def _called_at(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    names: Sequence[str],
    unless: Callable[[Any, Any], bool] = lambda args, named: False,
) -> str:
    """The first line of the user's forward that calls one of torch's functions, `unless` its arguments are such."""
    with _Watch(names, unless) as watch, torch.set_grad_enabled("grad" in names):
        try:
            module(*examples)
        except Exception:  # only the places count
            pass
    return next((place for place in watch.places if place), "")
