"""Which axis of a value is the batch, and the rules that keep one example from seeing another.

A score is defined on one example at a time; batches are only a quicker way there (scoring-spec.md, "7. Batches"). A
value either depends on no example (`axis` None) or has one axis of size batch x k whose outermost factor is the
example. Every operator has a rule, which gives the axis of its result or raises `BatchMixing`: the rules of many
operators are here, the rule of one stands beside its kernel in `operators/`. A rule must be strict: what it cannot
prove it refuses.

Rules see shapes only, never numbers, and never run the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from torch import Tensor

from pot_lab.scoring.errors import BatchMixing

Axis = int | None
"""The batch axis of a value; None where the value depends on no example."""


class Interleaved(NamedTuple):
    """An axis in which the example is not the outermost factor: `front` groups stand before it, as after a view of
    [time, batch] as one axis. Only rules marked `takes_interleaved` accept such a value."""

    axis: int
    front: int


UNBOUNDED = (1 << 63) - 1
"""The end of a slice that has none."""


@dataclass(frozen=True)
class Traced:
    """A value without numbers: a meta tensor and its batch axis, in which `front` groups stand before the example."""

    tensor: Tensor
    axis: Axis
    front: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes, the batch axis included."""
        return tuple(self.tensor.shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return self.tensor.dim()


@dataclass(frozen=True)
class TracedInt:
    """A whole number computed from shapes; `batched` if it depends on the batch's size."""

    value: int
    batched: bool


@dataclass(frozen=True, kw_only=True)
class OperatorCall:
    """One operator call on traced values: arguments by parameter name, the result's meta tensors, the batch's size."""

    operator: str
    arguments: dict[str, Any]
    outputs: tuple[Tensor, ...]
    batch: int

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def traced(self, name: str) -> Traced:
        """An argument that is a tensor."""
        return cast(Traced, self.arguments[name])

    @property
    def output(self) -> Tensor:
        """The first result, a meta tensor."""
        return self.outputs[0]

    def tensors(self) -> list[Traced]:
        """All tensor arguments, those inside lists too."""
        found: list[Traced] = []
        for value in self.arguments.values():
            found += [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, Traced)]
        return found

    def mixing(self, reason: str) -> BatchMixing:
        """The refusal of this call, to be raised by a rule."""
        return BatchMixing(f"operator {self.operator} would mix examples: {reason}")


Rule = Callable[[OperatorCall], "Axis | Interleaved | list[Axis]"]
"""The batch axis of the result; a list where the results of one call differ."""
_TAKES_INTERLEAVED: set[Rule] = set()
R = TypeVar("R", bound=Rule)


def takes_interleaved(rule: R) -> R:
    """Mark a rule as right also for arguments whose batch axis is `Interleaved`."""
    _TAKES_INTERLEAVED.add(rule)
    return rule


def results_of(rule: Rule, call: OperatorCall) -> list[Traced]:
    """The results of a call with their batch axes. A batch of one example has no axis to mix.

    Raises: BatchMixing.
    """
    if call.batch == 1:
        return [Traced(t, None) for t in call.outputs]
    if rule not in _TAKES_INTERLEAVED and any(t.front > 1 for t in call.tensors()):
        raise call.mixing("other elements stand before the batch in its axis; view it as [batch, ...] first")
    found = rule(call)
    axes = found if isinstance(found, list) else [found] * len(call.outputs)
    return [
        Traced(t, *axis) if isinstance(axis, Interleaved) else Traced(t, axis)
        for t, axis in zip(call.outputs, axes, strict=True)
    ]


@takes_interleaved
def elementwise(call: OperatorCall) -> Axis | Interleaved:
    """Every result element depends on the elements at its own place, with broadcasting."""
    operands = call.tensors()
    return keeping_front(call, broadcast(call, operands, call.output.dim()), operands)


def keeping_front(call: OperatorCall, axis: Axis, operands: Sequence[Traced]) -> Axis | Interleaved:
    """`axis` with the groups that stand before the examples in all of `operands`.

    Raises: BatchMixing where operands differ in them.
    """
    fronts = {t.front for t in operands if t.axis is not None}
    if len(fronts) > 1:
        raise call.mixing("its arguments hold the batch in different ways; view them as [batch, ...] first")
    return axis if axis is None or fronts == {1} else Interleaved(axis, fronts.pop())


def broadcast(call: OperatorCall, operands: Sequence[Traced], rank: int) -> Axis:
    """Batch axis of a broadcast of `operands` to `rank` dimensions.

    Raises: BatchMixing where two batches, or the batch and a fixed axis longer than 1, would meet.
    """
    axis: Axis = None
    for t in operands:
        if t.axis is not None:
            aligned = t.axis + rank - t.rank
            if axis is not None and axis != aligned:
                raise call.mixing(f"two arguments have their batch at different axes, {axis} and {aligned}")
            axis = aligned
    if axis is None:
        return None
    for t in operands:
        place = axis - (rank - t.rank)
        if t.axis is None and place >= 0 and t.shape[place] != 1:
            raise call.mixing(f"a fixed tensor of shape {t.shape} would meet the batch axis, where its size must be 1")
    return axis


def only_data_is_batched(call: OperatorCall, data: str) -> Axis:
    """Batch axis of the argument `data`. Raises: BatchMixing where another argument depends on the examples."""
    for name, value in call.arguments.items():
        if name != data and isinstance(value, Traced) and value.axis is not None:
            raise call.mixing(f"its argument {name!r} depends on the examples")
    return call.traced(data).axis


def batch_first(rank: int) -> Rule:
    """Convolutions, pools, batch norm: data of `rank` dimensions (0: any, at least 2) with the batch in front."""

    def rule(call: OperatorCall) -> Axis:
        axis = only_data_is_batched(call, "x")
        if rank and call.traced("x").rank != rank:
            raise call.mixing(
                f"its data must have {rank} dimensions, with the batch in front, and has shape {call['x'].shape}"
            )
        if call.traced("x").rank < 2 or axis not in (0, None):
            raise call.mixing(f"the batch must be its first axis, and is axis {axis}")
        return axis

    return rule


def along(dims: Callable[[OperatorCall], Sequence[int]]) -> Rule:
    """Rows along `dims` are treated as wholes and keep their shape, such as softmax or layer norm."""

    def rule(call: OperatorCall) -> Axis:
        axis = only_data_is_batched(call, "x")
        rank = call.traced("x").rank
        if axis is not None and axis in {d % rank for d in dims(call)}:
            raise call.mixing(f"it works along axis {axis}, which is the batch")
        return axis

    return rule


def reduction(call: OperatorCall) -> Axis:
    """Sums and means over the dimensions `dims` (None or none: all)."""
    x = call.traced("x")
    if x.axis is None:
        return None
    dims = {d % x.rank for d in call["dims"]} if call["dims"] else set(range(x.rank))
    if x.axis in dims:
        raise call.mixing("it would reduce the batch axis; name the dimensions to reduce")
    return x.axis if call["keepdim"] else x.axis - sum(d < x.axis for d in dims)


def not_along_batch(call: OperatorCall) -> Axis:
    """Batch axis of `x`. Raises: BatchMixing where the call works along it, by its argument `dim`."""
    x = call.traced("x")
    if x.axis is not None and call["dim"] % x.rank == x.axis:
        raise call.mixing("it would cut the batch axis")
    return x.axis


def cut(call: OperatorCall) -> Axis:
    """chunk, split, glu: along any axis but the batch."""
    return not_along_batch(call)
