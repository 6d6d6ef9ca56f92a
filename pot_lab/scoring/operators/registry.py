"""The whitelist: every operator that a scored model may use, with its exact rule, typed schema, batch rule and work.

Each entry is named by the ATen overload it replaces, and its kernel's signature is the schema that a graph's
arguments are checked against (a test holds it to ATen's own). Exact kernels follow the specification; `native` is the
ordinary ATen operator, used for training and, on meta tensors, for shapes. What is not here cannot be in a graph.

Adding an operator: write the kernel over `elementwise`, `exact_product` and `reductions` (or a native operator that
only moves or compares numbers), name its batch rule, and give it a test against the second implementation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pot_lab.scoring.graph.batch_axis import OperatorCall, Rule, Traced, TracedInt

Operand = Tensor | float | int
Tensors = Sequence[Tensor]
Ints = Sequence[int]
Positives = Sequence[int]
Naturals = Sequence[int]
Sizes = Sequence[int]
Positive = int
Probability = float
Dtype = torch.dtype
Text = str
Equation = str
Exponent = float
Whole = float
Floats = Sequence[float]
AnyDtype = torch.dtype
Places = Sequence[Tensor | None]
Ignored = Any
"""Annotations that `graph.check_argument` knows: the typed schema of an argument. An `Exponent` is a number
from -64 to 64 that is not 0. A `Whole` is a whole number, also written as a float. `Places` are tensors of
indices, or null for an axis that is taken whole."""

LARGEST_PIECES = 1024
"""Results of one call."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One argument of an operator: its name in a graph, the annotation of the kernel's signature (one of the types
    above, and ` | None` where it may be null), whether a call must give it, and its default."""

    name: str
    kind: str
    required: bool
    default: Any


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One row of the whitelist.

    Attributes:
        name: full overload name, `aten.<operator>.<overload>`, or `int.<operation>` for whole numbers made of shapes.
        kernel: exact rule, called with an `Arithmetic` first.
        returns: "tensor", "tensors" or "int".
        batch: batch rule.
        work: multiply-adds and element steps of one call, from shapes.
        scratch: elements of working memory that a kernel may take beside its result.
        mode: name of the flag that says "training", or of the probability of dropout, if any: False or 0 when scoring
            and in eval mode.
        pieces: number of results that a call would give, checked before anything runs.
        check: raises a PotLabError for traced arguments that have no rule, before anything runs.
        shapes: results on meta tensors, for operators whose own meta kernels are costly or lacking.
        booleans: whether tensors of truth values are taken as arguments.
    """

    name: str
    kernel: Callable[..., Any]
    returns: str
    batch: Rule
    work: Callable[[OperatorCall], int]
    scratch: Callable[[OperatorCall], int]
    mode: str | None
    pieces: Callable[[dict[str, Any]], int] | None
    check: Callable[[dict[str, Any]], None] | None
    shapes: Callable[[dict[str, Any]], tuple[Tensor, ...]] | None
    booleans: bool
    parameters: tuple[Parameter, ...]

    @functools.cached_property
    def native(self) -> Any:
        """The ATen overload, `torch.ops.aten.<operator>.<overload>`."""
        _, base, overload = self.name.split(".")
        return getattr(getattr(torch.ops.aten, base), overload)

    def has_mode(self, arguments: dict[str, Any]) -> bool:
        """Whether `mode` counts in this call: an instance norm without running statistics always takes its input's."""
        return arguments.get("running_mean", self) is not None

    @functools.cached_property
    def device(self) -> bool:
        """Whether it makes a tensor, so that its call names the device."""
        return any(a.name == "device" for a in self.native._schema.arguments)

    @functools.cached_property
    def off(self) -> bool | float:
        """What `mode` is in eval mode and when scoring."""
        return 0.0 if self.parameters[self.mode_index].kind == "Probability" else False

    @functools.cached_property
    def mode_index(self) -> int:
        """Place of `mode` among the parameters, -1 without one."""
        return [p.name for p in self.parameters].index(self.mode) if self.mode else -1


REGISTRY: dict[str, Operator] = {}
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def element_work(call: OperatorCall) -> int:
    """Ten steps for each element of the result: the price of an elementary function."""
    return 10 * sum(t.numel() for t in call.outputs)


def operator(
    *names: str,
    batch: Rule,
    returns: str = "tensor",
    work: Callable[[OperatorCall], int] = element_work,
    scratch: Callable[[OperatorCall], int] = lambda call: 0,
    mode: str | None = None,
    pieces: Callable[[dict[str, Any]], int] | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
    shapes: Callable[[dict[str, Any]], tuple[Tensor, ...]] | None = None,
    booleans: bool = False,
) -> Callable[[Kernel], Kernel]:
    """Register the decorated kernel as the exact rule of `names`; the other arguments are those of `Operator`.

    The kernel takes an `Arithmetic`, then the operator's arguments in ATen's order, annotated with the types above:

        @operator("aten.square.default", batch=batch_axis.elementwise)
        def _square(arithmetic: Arithmetic, x: Tensor) -> Tensor:
            return x * x
    """

    def add(kernel: Kernel) -> Kernel:
        found = list(inspect.signature(kernel).parameters.values())[1:]
        parameters = tuple(
            Parameter(
                name=p.name,
                kind=p.annotation,
                required=p.default is p.empty,
                default=None if p.default is p.empty else p.default,
            )
            for p in found
        )
        for name in names:
            REGISTRY[name] = Operator(
                name=name,
                kernel=kernel,
                returns=returns,
                batch=batch,
                work=work,
                scratch=scratch,
                mode=mode,
                pieces=pieces,
                check=check,
                shapes=shapes,
                booleans=booleans,
                parameters=parameters,
            )
        return kernel

    return add


WHOLE_NUMBERS: dict[str, Callable[[int, int], int]] = {
    "int.add": lambda a, b: a + b,
    "int.sub": lambda a, b: a - b,
    "int.mul": lambda a, b: a * b,
    "int.floordiv": lambda a, b: a // b,
}
"""What a graph may do with whole numbers made of shapes."""


def traced_size(x: Traced, dim: int) -> TracedInt:
    """`aten.sym_size.int` of a traced value."""
    return TracedInt(x.shape[dim], x.axis is not None and dim % x.rank == x.axis)
