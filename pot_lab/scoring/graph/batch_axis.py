"""Which axis of a value is the batch, and the rules that keep one example from seeing another.

A score is defined on one example at a time; batches are only a quicker way there (specification version 1,
"Batches"). A value either depends on no example (`axis` None) or has one axis of size batch x k whose outermost
factor is the example. Every operator has one rule below, which gives the axis of its result or raises `BatchMixing`.
A rule must be strict: what it cannot prove it refuses.

Rules see shapes only, never numbers, and never run the operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor

from pot_lab.scoring.errors import BatchMixing

Axis = int | None


class Interleaved(NamedTuple):
    """An axis in which the example is not the outermost factor: `front` groups stand before it, as after a view of
    [time, batch] as one axis. Only the rules in `TAKES_INTERLEAVED` accept such a value."""

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
        return tuple(self.tensor.shape)

    @property
    def rank(self) -> int:
        return self.tensor.dim()


@dataclass(frozen=True)
class TracedInt:
    """A whole number computed from shapes; `batched` if it depends on the batch's size."""

    value: int
    batched: bool


@dataclass(frozen=True)
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
        return self.outputs[0]

    def tensors(self) -> list[Traced]:
        """All tensor arguments, those inside lists too."""
        found: list[Traced] = []
        for value in self.arguments.values():
            found += [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, Traced)]
        return found

    def mixing(self, reason: str) -> BatchMixing:
        return BatchMixing(f"operator {self.operator} would mix examples: {reason}")


Rule = Callable[[OperatorCall], "Axis | Interleaved | list[Axis]"]
"""The batch axis of the result; a list where the results of one call differ."""


def elementwise(call: OperatorCall) -> Axis | Interleaved:
    """Every result element depends on the elements at its own place, with broadcasting."""
    operands = call.tensors()
    return _with_front(call, broadcast(call, operands, call.output.dim()), operands)


def _with_front(call: OperatorCall, axis: Axis, operands: Sequence[Traced]) -> Axis | Interleaved:
    fronts = {t.front for t in operands if t.axis is not None}
    if len(fronts) > 1:
        raise call.mixing("its arguments hold the batch in different ways; view them as [batch, ...] first")
    return axis if axis is None or fronts == {1} else Interleaved(axis, fronts.pop())


def broadcast(call: OperatorCall, operands: Sequence[Traced], rank: int) -> Axis:
    """Batch axis of a broadcast of `operands` to `rank` dimensions."""
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


def _only_data_is_batched(call: OperatorCall, data: str) -> Axis:
    for name, value in call.arguments.items():
        if name != data and isinstance(value, Traced) and value.axis is not None:
            raise call.mixing(f"its argument {name!r} depends on the examples")
    return call.traced(data).axis


def batch_first(rank: int) -> Rule:
    """Convolutions, pools, batch norm: data of `rank` dimensions (0: any, at least 2) with the batch in front."""

    def rule(call: OperatorCall) -> Axis:
        axis = _only_data_is_batched(call, "x")
        if rank and call.traced("x").rank != rank:
            raise call.mixing(
                f"its data must have {rank} dimensions, with the batch in front, and has shape {call['x'].shape}"
            )
        if call.traced("x").rank < 2 or axis not in (0, None):
            raise call.mixing(f"the batch must be its first axis, and is axis {axis}")
        return axis

    return rule


def linear(call: OperatorCall) -> Axis | Interleaved:
    axis = _only_data_is_batched(call, "x")
    if axis == call.traced("x").rank - 1:
        raise call.mixing("it would sum over the batch axis")
    return _with_front(call, axis, [call.traced("x")])


def embedding(call: OperatorCall) -> Axis:
    return _only_data_is_batched(call, "indices")


def matmul(call: OperatorCall) -> Axis:
    """a [..., M, K] @ b [..., K, N]."""
    a, b = call.traced("a"), call.traced("b")
    if a.rank < 2 or b.rank < 2:
        raise call.mixing("its operands must have two dimensions or more; use unsqueeze")
    if (a.axis is not None and a.axis == a.rank - 1) or (b.axis is not None and b.axis == b.rank - 2):
        raise call.mixing("it would sum over the batch axis")
    rank = call.output.dim()
    if a.axis == a.rank - 2 and a.axis is not None:
        if b.axis is not None:
            raise call.mixing("rows of one operand are examples, and the other depends on the examples too")
        return rank - 2
    if b.axis == b.rank - 1 and b.axis is not None:
        if a.axis is not None:
            raise call.mixing("columns of one operand are examples, and the other depends on the examples too")
        return rank - 1
    return broadcast(call, [a, b], rank)


def along(dims: Callable[[OperatorCall], Sequence[int]]) -> Rule:
    """Rows along `dims` are treated as wholes and keep their shape, such as softmax or layer norm."""

    def rule(call: OperatorCall) -> Axis:
        axis = _only_data_is_batched(call, "x")
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


def reshape(call: OperatorCall) -> Axis | Interleaved:
    """The batch stays a factor of one axis, behind the same elements as before."""
    x, shape = call.traced("x"), tuple(call.output.shape)
    if x.axis is None:
        _no_batched_sizes(call)
        return None
    return regrouped(call, x, shape)


def regrouped(call: OperatorCall, x: Traced, after: Sequence[int]) -> Axis | Interleaved:
    """Axis of the batch after a reshape.

    Row-major, the example of an element is (place // inner) % batch, with `front` groups before it in all: any axis
    of the new shape that these numbers divide may hold it.
    """
    assert x.axis is not None
    front = math.prod(x.shape[: x.axis]) * x.front
    found: Axis | Interleaved = None
    for place, size in enumerate(after):
        before = math.prod(after[:place])
        if front == before and size % call.batch == 0:
            return place
        if before and front % before == 0 and size % (front // before * call.batch) == 0:
            found = Interleaved(place, front // before)
    if found is None:
        raise call.mixing(
            f"the batch axis {x.axis} of shape {x.shape} would be torn apart by the new shape {tuple(after)}"
        )
    return found


def _no_batched_sizes(call: OperatorCall) -> None:
    for value in call.arguments.values():
        if isinstance(value, list | tuple) and any(isinstance(v, TracedInt) and v.batched for v in value):
            raise call.mixing("a fixed tensor would be given a shape that depends on the batch's size")


def permute(call: OperatorCall) -> Axis:
    x = call.traced("x")
    return None if x.axis is None else [d % x.rank for d in call["dims"]].index(x.axis)


def transpose(call: OperatorCall) -> Axis:
    x = call.traced("x")
    if x.axis is None:
        return None
    first, second = (int(call[name]) % x.rank for name in ("first", "second"))
    swapped = {first: second, second: first}
    return swapped.get(x.axis, x.axis)


def matrix_transpose(call: OperatorCall) -> Axis:
    x = call.traced("x")
    return x.axis if x.axis is None or x.rank < 2 else 1 - x.axis


def unsqueeze(call: OperatorCall) -> Axis:
    x = call.traced("x")
    return None if x.axis is None else x.axis + (call["dim"] % (x.rank + 1) <= x.axis)


def squeeze(call: OperatorCall) -> Axis:
    x = call.traced("x")
    if x.axis is None:
        return None
    gone: set[int] = {d % x.rank for d in (call["dims"] if isinstance(call["dims"], list | tuple) else [call["dims"]])}
    if x.axis in gone:
        raise call.mixing("it would drop the batch axis when the batch is one example")
    return x.axis - sum(d < x.axis and x.shape[d] == 1 for d in gone)


def expand(call: OperatorCall) -> Axis:
    x, rank = call.traced("x"), call.output.dim()
    if x.axis is not None:
        return x.axis + rank - x.rank
    grown = [i for i, size in enumerate(call["sizes"]) if isinstance(size, TracedInt) and size.batched]
    if not grown:
        return None
    place = grown[0] - (rank - x.rank)
    if len(grown) > 1 or (place >= 0 and x.shape[place] != 1):
        raise call.mixing("only one axis of size 1 may be expanded to the batch")
    return grown[0]


def concatenation(call: OperatorCall) -> Axis:
    """cat: all parts hold the batch at one axis, and are joined along another."""
    parts = call["parts"]
    axes = {t.axis for t in parts}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing(
            "some of the joined tensors depend on the examples and others do not; expand those to the batch first"
        )
    axis: int = parts[0].axis
    if call["dim"] % parts[0].rank == axis:
        raise call.mixing("it would join along the batch axis")
    return axis


def stack(call: OperatorCall) -> Axis:
    parts = call["parts"]
    axes = {t.axis for t in parts}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing(
            "some of the stacked tensors depend on the examples and others do not; expand those to the batch first"
        )
    axis, rank = int(parts[0].axis), int(parts[0].rank)
    return axis + (int(call["dim"]) % (rank + 1) <= axis)


def _not_the_batch(call: OperatorCall) -> int | None:
    x = call.traced("x")
    if x.axis is not None and call["dim"] % x.rank == x.axis:
        raise call.mixing("it would cut the batch axis")
    return x.axis


def cut(call: OperatorCall) -> Axis:
    """chunk, split, glu: along any axis but the batch."""
    return _not_the_batch(call)


def slicing(call: OperatorCall) -> Axis:
    """slice: along any axis but the batch, or the whole of it, as `x[:, 1]` asks for."""
    whole = call["start"] in (None, 0) and call["end"] in (None, UNBOUNDED) and call["step"] == 1
    if whole:
        axis: Axis = call.traced("x").axis
        return axis
    return _not_the_batch(call)


def slice_scatter(call: OperatorCall) -> Axis:
    """A part put back along any axis but the batch, or in place of the whole of it."""
    whole = call["start"] in (None, 0) and call["end"] in (None, UNBOUNDED) and call["step"] == 1
    axis = call.traced("x").axis if whole else _not_the_batch(call)
    if call["src"].axis != axis:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    return axis


def select_scatter(call: OperatorCall) -> Axis:
    axis = _not_the_batch(call)
    wanted = axis if axis is None else axis - (call["dim"] % call.traced("x").rank < axis)
    if call["src"].axis != wanted:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    return axis


def select(call: OperatorCall) -> Axis:
    """select, unbind: an axis that is not the batch goes away."""
    axis = _not_the_batch(call)
    return axis if axis is None else axis - (call["dim"] % call.traced("x").rank < axis)


def padding(call: OperatorCall) -> Axis:
    """Pads count from the last axis, two numbers each."""
    x = call.traced("x")
    if x.axis is not None and x.rank - x.axis <= len(call["pads"]) // 2:
        raise call.mixing("it would pad the batch axis")
    return x.axis


def recurrent(call: OperatorCall) -> list[Axis]:
    """lstm, gru, rnn: data [batch, time, features] or [time, batch, features], states [layers, batch, features]."""
    x, first = call.traced("x"), call["batch_first"]
    axis = 0 if first else 1
    states = call["hx"] if isinstance(call["hx"], list) else [call["hx"]]
    if x.rank != 3 or x.axis != axis:
        raise call.mixing(f"the batch must be axis {axis} of its data, as batch_first={first} says, and is {x.axis}")
    if any(h.axis != 1 for h in states):
        raise call.mixing("the batch must be axis 1 of its first states; make them with zeros of the batch's size")
    if any(p.axis is not None for p in call["params"]):
        raise call.mixing("its weights depend on the examples")
    return [axis, *[1] * len(states)]


def cell(call: OperatorCall) -> Axis | list[Axis]:
    """One step of a recurrent layer: data and states [batch, features]."""
    several = isinstance(call["hx"], list)
    states = call["hx"] if several else [call["hx"]]
    if call.traced("x").axis != 0 or any(h.axis != 0 for h in states):
        raise call.mixing("the batch must be the first axis of its data and of its states")
    if any(isinstance(call[name], Traced) and call[name].axis is not None for name in ("w_ih", "w_hh", "b_ih", "b_hh")):
        raise call.mixing("its weights depend on the examples")
    return [0] * len(states) if several else 0


def attention(call: OperatorCall) -> Axis:
    """query [..., L, E], key [..., S, E], value [..., S, V], mask [..., L, S]."""
    rank = call.output.dim()
    operands = [t for t in (call["query"], call["key"], call["value"], call["attn_mask"]) if t is not None]
    axis = broadcast(call, operands, rank)
    if axis is not None and axis >= rank - (3 if call["enable_gqa"] else 2):
        raise call.mixing("it would attend over the batch axis")
    return axis


def before_image(call: OperatorCall) -> Axis:
    """Pixel shuffles: the batch stands before channels, height and width."""
    axis = _only_data_is_batched(call, "x")
    if axis is not None and axis >= call.traced("x").rank - 3:
        raise call.mixing("the batch must stand before channels, height and width")
    return axis


def made(call: OperatorCall) -> Axis:
    """A tensor of one repeated value: at most one of its sizes may follow the batch."""
    grown = [i for i, n in enumerate(call["sizes"]) if isinstance(n, TracedInt) and n.batched]
    if len(grown) > 1:
        raise call.mixing("only one axis may have the batch's size")
    return grown[0] if grown else None


def like(call: OperatorCall) -> Axis:
    """A tensor of one repeated value, of another's shape."""
    return call.traced("x").axis


def fixed(call: OperatorCall) -> Axis:
    """A tensor that depends on nothing."""
    return None


def expand_as(call: OperatorCall) -> Axis:
    x, other, rank = call.traced("x"), call.traced("other"), call.output.dim()
    return broadcast(call, [x, other], rank)


def repeat(call: OperatorCall) -> Axis:
    """Copies along axes: the batch's own axis stays as it is, or a fixed axis of 1 grows to the batch."""
    x, rank = call.traced("x"), call.output.dim()
    grown = [i for i, n in enumerate(call["repeats"]) if isinstance(n, TracedInt) and n.batched]
    if x.axis is not None:
        axis = x.axis + rank - x.rank
        if grown or call["repeats"][axis] != 1:
            raise call.mixing("it would repeat the batch axis")
        return axis
    if not grown:
        return None
    place = grown[0] - (rank - x.rank)
    if len(grown) > 1 or (place >= 0 and x.shape[place] != 1):
        raise call.mixing("only one axis of size 1 may be repeated to the batch")
    return grown[0]


def triangle(call: OperatorCall) -> Axis:
    """tril, triu: the last two axes are rows and columns."""
    x = call.traced("x")
    if x.axis is not None and x.axis >= x.rank - 2:
        raise call.mixing("it would treat the batch axis as rows or columns")
    return x.axis


def any_dim(call: OperatorCall) -> Axis:
    """One dimension `dim` that is reduced (`keepdim` or not), not the batch; `dim` None reduces all."""
    x = call.traced("x")
    if x.axis is None:
        return None
    if call["dim"] is None or call["dim"] % x.rank == x.axis:
        raise call.mixing("it would reduce the batch axis; name another dimension")
    return x.axis if call["keepdim"] else x.axis - (call["dim"] % x.rank < x.axis)


def index_select(call: OperatorCall) -> Axis:
    axis = _only_data_is_batched(call, "x")
    if axis is not None and call["dim"] % call.traced("x").rank == axis:
        raise call.mixing("it would pick examples")
    return axis


def gather(call: OperatorCall) -> Axis:
    """x and index of one rank, with the batch at one axis that is not gathered along."""
    x, index = call.traced("x"), call.traced("index")
    axes = {t.axis for t in (x, index)}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    axis = x.axis
    assert axis is not None
    if call["dim"] % x.rank == axis or index.shape[axis] != x.shape[axis]:
        raise call.mixing("it would gather from other examples")
    return axis


def scatter(call: OperatorCall) -> Axis:
    """x, index and src of one rank, with the batch at one axis that is not scattered along."""
    parts = [
        call.traced("x"),
        call.traced("index"),
        *([call["src"]] if isinstance(call.arguments.get("src"), Traced) else []),
    ]
    axes = {t.axis for t in parts}
    if axes == {None}:
        return None
    if len(axes) > 1:
        raise call.mixing("some of its arguments depend on the examples and others do not; expand those to the batch")
    axis: int = parts[0].axis
    if call["dim"] % call.traced("x").rank == axis or any(t.shape[axis] != call.traced("x").shape[axis] for t in parts):
        raise call.mixing("it would put values into other examples")
    return axis


def index_add(call: OperatorCall) -> Axis:
    """x and source with the batch at one axis, places that are fixed."""
    x, source = call.traced("x"), call.traced("source")
    if call.traced("index").axis is not None:
        raise call.mixing("its places depend on the examples; use scatter_add")
    if x.axis != source.axis:
        raise call.mixing("only one of its arguments depends on the examples; expand the other to the batch first")
    if x.axis is not None and call["dim"] % x.rank == x.axis:
        raise call.mixing("it would put values into other examples")
    return x.axis


def bilinear(call: OperatorCall) -> Axis:
    """Rows of x and of other are met one by one."""
    x, other = call.traced("x"), call.traced("other")
    if any(isinstance(v, Traced) and v.axis is not None for v in (call["weight"], call["bias"])):
        raise call.mixing("its weights depend on the examples")
    if x.axis != other.axis or (x.axis is not None and x.axis == x.rank - 1):
        raise call.mixing("both arguments must hold the batch at the same axis, which is not the last")
    return x.axis


def indexing(call: OperatorCall) -> Axis:
    """x[:, places]: fixed tensors of places along axes that stand together, not the batch."""
    x, places = call.traced("x"), call["indices"]
    used = [i for i, p in enumerate(places) if p is not None]
    if x.axis is None and all(p is None or p.axis is None for p in places):
        return None
    if x.axis is None or any(p is not None and p.axis is not None for p in places):
        raise call.mixing("index with fixed tensors; gather picks other places in each example")
    if x.axis in used:
        raise call.mixing("it would pick examples")
    return x.axis + (call.output.dim() - x.rank if used[0] < x.axis else 0)


def einsum(call: OperatorCall) -> Axis:
    """The batch is one letter, which stands in the result and has the batch's axis wherever it stands."""
    inputs, _, output = call["equation"].replace(" ", "").partition("->")
    letters: dict[str, set[tuple[bool, bool]]] = {}
    for term, t in zip(inputs.split(","), call["operands"], strict=True):
        for place, letter in enumerate(term):
            letters.setdefault(letter, set()).add((t.axis == place, t.axis is None))
    batched = {letter for letter, seen in letters.items() if (True, False) in seen}
    if not batched:
        return None
    (letter, *more) = batched
    if more or any(not at_axis for at_axis, _ in letters[letter]) or letter not in output:
        raise call.mixing("the batch must be one letter, which stands in the result and means the batch everywhere")
    return int(output.index(letter))


def addmm(call: OperatorCall) -> Axis:
    """x + a @ b."""
    a, b = call.traced("a"), call.traced("b")
    inner = OperatorCall(call.operator, {"a": a, "b": b}, call.outputs, call.batch)
    axis = matmul(inner)
    if axis is None:
        if call.traced("x").axis is not None:
            raise call.mixing("only the sum depends on the examples")
        return None
    return broadcast(call, [Traced(call.output, axis), call.traced("x")], call.output.dim())


def two_along_dim(call: OperatorCall) -> Axis:
    """Two operands of one rank are met along `dim`, which is reduced."""
    x, other = call.traced("x"), call.traced("other")
    axis = broadcast(call, [x, other], max(x.rank, other.rank))
    dim: int = call["dim"] % max(x.rank, other.rank)
    if axis is None:
        return None
    if dim == axis:
        raise call.mixing("it would reduce the batch axis; name another dimension")
    return axis - (dim < axis)


def flipping(call: OperatorCall) -> Axis:
    """flip, roll: along any axes but the batch; none means all."""
    x = call.traced("x")
    if x.axis is not None and (not call["dims"] or x.axis in {d % x.rank for d in call["dims"]}):
        raise call.mixing("it would move examples")
    return x.axis


def repeat_interleave(call: OperatorCall) -> Axis:
    x = call.traced("x")
    if x.axis is not None and (call["dim"] is None or call["dim"] % x.rank == x.axis):
        raise call.mixing("it would repeat the batch axis")
    return x.axis


def last_axis_added(call: OperatorCall) -> Axis:
    """one_hot: a new axis behind all others."""
    return call.traced("x").axis


TAKES_INTERLEAVED: tuple[Rule, ...] = (elementwise, linear, reshape)
