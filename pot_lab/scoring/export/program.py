"""From a module to torch's exported program, with errors at the user's line."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.proxy import TracerBase

from pot_lab.scoring.errors import (
    DtypeMismatch,
    ExportFailed,
    ShapeMismatch,
)
from pot_lab.scoring.export.diagnosis import of_user, reason
from pot_lab.scoring.export.inlining import inlined
from pot_lab.scoring.export.outputs import OutputChoice, returning
from pot_lab.scoring.export.packing import padded
from pot_lab.scoring.export.rewriting import RewritingMode, Rewritten
from pot_lab.scoring.export.trial import set_modes
from pot_lab.scoring.tensor_file import DTYPES, dtype_name


@dataclass(frozen=True, kw_only=True)
class ProgramTables:
    """The tensors of an exported program, by the names of its placeholders. torch makes these tables anew each time
    they are read.

    Attributes:
        parameters, buffers: placeholder -> the user's name.
        names: the user's or torch's name of every tensor, constants included.
        persistent: the user's names that are in the module's `state_dict`.
        tensors: name -> tensor.
    """

    parameters: Mapping[str, str]
    buffers: Mapping[str, str]
    names: Mapping[str, str]
    persistent: frozenset[str]
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, program: torch.export.ExportedProgram, module: nn.Module) -> ProgramTables:
        """The tables of a program. torch takes a tensor for a constant where forward reads it from a list or another
        attribute; where it is a parameter or a buffer of `module` too, it goes by that name."""
        signature = program.graph_signature
        parameters, buffers = dict(signature.inputs_to_parameters), dict(signature.inputs_to_buffers)
        own = {_place(t): name for name, t in [*module.named_buffers(), *module.named_parameters()]}
        kinds = {name: parameters for name, _ in module.named_parameters()} | {
            b: buffers for b, _ in module.named_buffers()
        }
        for placeholder, constant in signature.inputs_to_lifted_tensor_constants.items():
            name = own.get(_place(program.constants[constant]), "")
            if name in program.state_dict or name in program.constants:
                kinds[name][placeholder] = name
        return cls(
            parameters=parameters,
            buffers=buffers,
            names={**signature.inputs_to_lifted_tensor_constants, **buffers, **parameters},
            persistent=frozenset(set(program.state_dict) - set(signature.non_persistent_buffers)),
            tensors={**program.state_dict, **program.constants},
        )

    def given(self, placeholder: str) -> bool:
        """Whether a placeholder is a parameter or a buffer of the user's."""
        return placeholder in self.parameters or placeholder in self.buffers


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """What two names of one tensor have in common."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def example_tensors(example_inputs: Tensor | Sequence[Tensor], rows: int | None = 2) -> tuple[Tensor, ...]:
    """Some examples of each input; `torch.export` needs two.

    Args:
        example_inputs: one tensor [batch, ...] for each input of the module, of a number type that graphs know.
        rows: the most examples; None for all.
    Raises: ShapeMismatch, DtypeMismatch.
    """
    examples = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    if not examples:
        raise ShapeMismatch("export needs an example of each input")
    for place, example in enumerate(examples):
        if not isinstance(example, Tensor) or example.dim() == 0 or example.numel() == 0:
            raise ShapeMismatch(
                f"example input {place} must be a tensor with the batch in front",
                seen=getattr(example, "shape", type(example).__name__),
            )
        if dtype_name(example.dtype) not in DTYPES:
            raise DtypeMismatch(
                f"example input {place} has a number type that models may not take",
                seen=example.dtype,
                wanted=", ".join(DTYPES),
            )
    # torch.export takes sizes of 0 and 1 for fixed, so two examples stand for "any number".
    return tuple(torch.cat([e, e]).detach() if e.shape[0] == 1 else e[:rows].detach() for e in examples)


def exported_program(
    module: nn.Module, examples: tuple[Tensor, ...], modes: Mapping[nn.Module, bool], output: OutputChoice = None
) -> tuple[torch.export.ExportedProgram, Rewritten]:
    """The module's training program for any batch size, and how its forward was written otherwise; the module's modes
    are as before.

    Args:
        examples: from `example_tensors`.
        modes: which parts are in training mode.
        output: which result the program returns, see `chosen_outputs`.
    Raises: ExportFailed, with the user's line.
    """
    before = {part: part.training for part in module.modules()}

    def again() -> tuple[torch.export.ExportedProgram, Rewritten]:
        rewriting, shapes = RewritingMode(), _dynamic_shapes(module, examples)
        with _quiet(), _users_lines(), _recurrent_by_shape(), returning(module, output), padded() as packing, rewriting:
            program = torch.export.export(module, examples, dynamic_shapes=shapes)
        return program, Rewritten(keeps=tuple(rewriting.keeps), packing=packing)

    try:
        module.train()
        set_modes(modes)
        program, rewritten = again()
        return inlined(program), rewritten
    except ExportFailed:
        raise
    except Exception as problem:
        why = reason(problem, module, examples, again)
        raise ExportFailed(f"the module cannot be turned into a graph: {why}") from problem
    finally:
        set_modes(before)


def _dynamic_shapes(module: nn.Module, examples: tuple[Tensor, ...]) -> dict[str, Any]:
    """Which axes may have any size, by the arguments of forward that the examples are bound to."""
    batch = torch.export.Dim("batch", min=1)
    bound = inspect.signature(module.forward).bind(*examples).arguments
    return {
        name: tuple({0: batch} for _ in value) if isinstance(value, tuple) else {0: batch}
        for name, value in bound.items()
    }


@contextlib.contextmanager
def _users_lines() -> Iterator[None]:
    """While inside, calls are traced back to lines outside of torch and this package, from the first forward on: also
    into functions that a forward calls, whose lines torch leaves out."""

    def users(self: TracerBase, user_stack_summary: traceback.StackSummary) -> traceback.StackSummary:
        frames = list(user_stack_summary)
        first = next((i for i, frame in enumerate(frames) if frame.name == "forward"), len(frames))
        return traceback.StackSummary.from_list([f for f in frames[first:] if of_user(f.filename)])

    before = TracerBase._filter_traceback_frames
    TracerBase._filter_traceback_frames = users  # type: ignore[method-assign]
    try:
        yield
    finally:
        TracerBase._filter_traceback_frames = before  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch prints pages about what it cannot trace; `ExportFailed` gives the reason in a line."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


_RECURRENT = [getattr(torch.ops.aten, name).input for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")]


@contextlib.contextmanager
def _recurrent_by_shape() -> Iterator[None]:
    """While a module is traced, recurrent layers give their results' shapes at once.

    torch would unroll a layer step by step only to learn these shapes, at a tenth of a second a step. Nothing but
    tracing sees the change: numbers never go through these kernels.
    """

    def shapes(x: Tensor, hx: Tensor | Sequence[Tensor], *rest: Any) -> tuple[Tensor, ...]:
        states, both_ways = [hx] if isinstance(hx, Tensor) else list(hx), rest[-2]
        out = x.new_empty((x.shape[0], x.shape[1], states[0].shape[-1] * (2 if both_ways else 1)))
        return (out, *(h.new_empty(h.shape) for h in states))

    before = [dict(operator.py_kernels) for operator in _RECURRENT]
    try:
        for operator in _RECURRENT:
            operator.py_kernels.update(dict.fromkeys(operator.py_kernels, shapes))
            operator._dispatch_cache.clear()
        yield
    finally:
        for operator, kernels in zip(_RECURRENT, before, strict=True):
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def full_name(target: Any) -> str:
    """An fx node's target as `aten.<operator>.<overload>`, or the name of another function."""
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))
