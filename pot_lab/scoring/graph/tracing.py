"""Shapes, dtypes and batch axis of every value of a graph, found without running it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pot_lab.errors import InvariantBroken
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import (
    BatchMixing,
    CostLimit,
    DtypeMismatch,
    HostileGraph,
    ShapeMismatch,
)
from pot_lab.scoring.graph.batch_axis import OperatorCall, Traced, TracedInt, results_of
from pot_lab.scoring.graph.model_graph import LARGEST_INT, Cost, GraphDocument, Node, Output, resolve
from pot_lab.scoring.operators import LARGEST_PIECES, WHOLE_NUMBERS, Operator, traced_size
from pot_lab.scoring.tensor_file import DTYPES, dtype_name


class _Shapes:
    """Results of calls on meta tensors by what decides them: the operator, its literals, and its tensors' shapes,
    strides and types. A deep model repeats few calls many times, and torch takes a millisecond for some."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def of(self, what: str, op: str, args: Any, call: Callable[[], Any]) -> Any:
        """`call()`, or its result for the same `what`, `op` and `args` before."""
        key = (what, op, _signature(args))
        if key not in self._known:
            self._known[key] = call()
        return self._known[key]


def _signature(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, Traced | TracedInt):
        return _signature(_bare(value))
    if isinstance(value, list | tuple):
        return tuple(map(_signature, value))
    if isinstance(value, dict):
        return tuple((name, _signature(v)) for name, v in value.items())
    return type(value), value


@dataclass(frozen=True)
class GraphTrace:
    """Shapes of all values of a graph for one batch size, and their batch axes, which a batch of one does not need."""

    values: list[Any]
    results: list[Traced]
    cost: Cost


def check_document(document: GraphDocument) -> tuple[tuple[Output, ...], Cost]:
    """GraphTrace a document for batches of 1, 2 and 3, and try its exact kernels on shapes.

    Returns: shape and type of each result for one example, and what one example costs.
    Raises: BatchMixing, CostLimit, DtypeMismatch, HostileGraph, ShapeMismatch, naming the node.
    """
    known = _Shapes()
    alone, pair = trace(document, 1, known), trace(document, 2, known)
    _check_growth(alone, pair, 2)
    _check_growth(alone, trace(document, 3, known), 3)
    _check_kernels(document, pair, 2, known)
    return tuple(Output(dtype_name(v.tensor.dtype), v.shape[1:]) for v in alone.results), alone.cost


def check_batch(graph: GraphDocument, batch: int) -> None:
    """Prove that scoring `batch` examples at once gives each the result it has alone. `load_graph` has proved it for
    batches of 1 to 3.

    Raises: BatchMixing, CostLimit.
    """
    if batch > 3:
        _check_growth(trace(graph, 1), trace(graph, batch), batch)


def trace(graph: GraphDocument, batch: int, known: _Shapes | None = None) -> GraphTrace:
    """GraphTrace a graph for `batch` examples, without numbers.

    Raises: BatchMixing, CostLimit, HostileGraph, ShapeMismatch.
    """
    known = known or _Shapes()
    values: list[Any] = [Traced(torch.empty(s.shape, dtype=DTYPES[s.dtype], device="meta"), None) for s in graph.state]
    values += [Traced(torch.empty((batch, *i.shape), dtype=DTYPES[i.dtype], device="meta"), 0) for i in graph.inputs]
    work, largest, total = 0, max((math.prod((batch, *i.shape)) for i in graph.inputs), default=0), 0
    limit_elements, limit_work = graph.limits.tensor_elements * batch, graph.limits.work * batch
    for number, node in enumerate(graph.nodes):
        try:
            value, call = _trace_node(node, number, values, batch, known)
        except (BatchMixing, HostileGraph, ShapeMismatch) as problem:
            if not problem.message.startswith("node "):
                problem.message = f"node {number}: {problem.message}"
            raise
        values.append(value)
        if call is None:
            continue
        if node.operator is None:
            raise InvariantBroken(f"node {number}, {node.op}, was called without an operator")
        elements = sum(t.numel() for t in call.outputs)
        total += elements
        elements = max(elements, node.operator.scratch(call))
        work += node.operator.work(call)
        largest = max(largest, elements)
        if largest > limit_elements:
            raise CostLimit(
                f"node {number}, {node.op}, needs too large a tensor",
                seen=f"{largest} elements",
                wanted=f"at most {limit_elements}",
            )
        if work > limit_work:
            raise CostLimit(
                "the graph needs too much work", seen=work, wanted=f"at most {limit_work} for {batch} examples"
            )
    results = [values[r.index] for r in graph.results]
    for result in results:
        if result.shape[:1] != (batch,) or (batch > 1 and (result.axis != 0 or result.front > 1)):
            raise BatchMixing(
                "an output does not keep the batch as its first axis",
                seen=f"shape {result.shape} for a batch of {batch}",
            )
    return GraphTrace(values, results, Cost(work, largest, total))


def _trace_node(
    node: Node, number: int, values: list[Any], batch: int, known: _Shapes
) -> tuple[Any, OperatorCall | None]:
    args = [resolve(a, values) for a in node.args]
    if node.operator is None:
        if node.op == "get":
            if args[1] >= len(args[0]):
                raise HostileGraph(
                    f"node {number}: get has no such place", seen=args[1], wanted=f"below {len(args[0])}"
                )
            return args[0][args[1]], None
        return _trace_whole_number(node.op, number, args), None
    operator = node.operator
    kwargs = {name: resolve(value, values) for name, value in node.kwargs.items()}
    bound = {p.name: p.default for p in operator.parameters}
    bound.update(zip(bound, args, strict=False))
    bound.update(kwargs)
    if operator.returns == "int":
        return traced_size(bound["x"], _checked_dim(bound["x"], bound["dim"], number)), None
    if operator.pieces is not None and not 0 < operator.pieces(bound) <= LARGEST_PIECES:
        raise CostLimit(f"node {number}, {node.op}, gives too many pieces", wanted=f"1 to {LARGEST_PIECES}")
    _refuse_small_types(node, number, bound)
    if operator.check is not None:
        operator.check(bound)
    if operator.mode is not None and operator.has_mode(bound):
        args = [operator.off if i == operator.mode_index else a for i, a in enumerate(args)]
        kwargs = {name: operator.off if name == operator.mode else value for name, value in kwargs.items()}
    _check_dims(node, number, bound)
    try:
        out = known.of("native", node.op, (args, kwargs), lambda: _native_shapes(operator, bound, args, kwargs))
    except Exception as problem:
        raise ShapeMismatch(
            f"node {number}, {node.op}, does not fit its arguments: {str(problem).splitlines()[0]}",
            seen=", ".join(f"{name} {v.shape}" for name, v in bound.items() if isinstance(v, Traced)),
        ) from problem
    outputs = tuple(out) if isinstance(out, tuple | list) else (out,)
    call = OperatorCall(operator=node.op, arguments=bound, outputs=outputs, batch=batch)
    traced = results_of(operator.batch, call)
    return traced if operator.returns == "tensors" else traced[0], call


def _native_shapes(operator: Operator, bound: Mapping[str, Any], args: list[Any], kwargs: Mapping[str, Any]) -> Any:
    """Meta tensors of what ATen would return."""
    if operator.shapes is not None:
        return operator.shapes({name: _bare(value) for name, value in bound.items()})
    named = {operator_keyword(operator, name): _bare(value) for name, value in kwargs.items()}
    if operator.device:
        named["device"] = "meta"
    return operator.native(*_bare(args), **named)


def _bare(value: Any) -> Any:
    if isinstance(value, Traced):
        return value.tensor
    if isinstance(value, TracedInt):
        return value.value
    return [_bare(v) for v in value] if isinstance(value, list) else value


def operator_keyword(operator: Operator, name: str) -> str:
    """ATen's own name of the parameter that a graph calls `name`."""
    place = [p.name for p in operator.parameters].index(name)
    found: str = operator.native._schema.arguments[place].name
    return found


def _checked_dim(x: Traced, dim: int, number: int) -> int:
    if not -x.rank <= dim < x.rank:
        raise HostileGraph(f"node {number}: no such dimension", seen=dim, wanted=f"{-x.rank} to {x.rank - 1}")
    return dim


_DIM_NAMES = ("dim", "dims", "first", "second", "start_dim", "end_dim")


def _check_dims(node: Node, number: int, bound: Mapping[str, Any]) -> None:
    """Dimensions exist and stand once; meta kernels do not all check that."""
    data = bound["parts"][0] if "parts" in bound else bound.get("x")
    if not isinstance(data, Traced):
        return
    rank = data.rank + (node.op in ("aten.unsqueeze.default", "aten.stack.default"))
    for name in _DIM_NAMES:
        if bound.get(name) is None:
            continue
        dims = bound[name] if isinstance(bound[name], list) else [bound[name]]
        if any(not -rank <= d < rank for d in dims) or len({d % rank for d in dims}) != len(dims):
            raise ShapeMismatch(
                f"node {number}, {node.op}: {name} does not fit its argument", seen=f"{dims} for shape {data.shape}"
            )


def _refuse_small_types(node: Node, number: int, bound: Mapping[str, Any]) -> None:
    """A whole number below int64 wraps around in training and not in scoring; a graph converts it to floating point
    first. Truth values go where they have a meaning."""
    if node.op in ("aten.to.dtype", "aten.embedding.default"):
        return
    small = (torch.uint8, torch.int8, torch.int32) + (() if node.operator and node.operator.booleans else (torch.bool,))
    for name, value in bound.items():
        if isinstance(value, Traced) and value.tensor.dtype in small:
            raise HostileGraph(
                f"node {number}, {node.op}: argument {name!r} must be floating point or int64; convert it first",
                seen=value.tensor.dtype,
            )


def _trace_whole_number(op: str, number: int, args: Sequence[Any]) -> TracedInt:
    plain = [a.value if isinstance(a, TracedInt) else a for a in args]
    if op == "int.floordiv" and plain[1] == 0:
        raise HostileGraph(f"node {number} divides by zero")
    value = WHOLE_NUMBERS[op](plain[0], plain[1])
    if abs(value) >= LARGEST_INT:
        raise HostileGraph(f"node {number} makes too large a number", seen=value)
    return TracedInt(value, any(isinstance(a, TracedInt) and a.batched for a in args))


def _check_growth(alone: GraphTrace, together: GraphTrace, batch: int) -> None:
    """Every value for a batch has the shape it has for one example, but for its batch axis, which is `batch` times as
    long."""
    for number, (one, many) in enumerate(zip(_flat(alone.values), _flat(together.values), strict=True)):
        if isinstance(many, TracedInt):
            if not many.batched and one.value != many.value:
                raise BatchMixing(f"value {number}: a number changes with the batch's size")
            continue
        expected = tuple(n * batch if i == many.axis else n for i, n in enumerate(one.shape))
        if many.shape != expected:
            raise BatchMixing(f"value {number}: a shape does not grow with the batch", seen=many.shape, wanted=expected)


def _check_kernels(graph: GraphDocument, trace: GraphTrace, batch: int, known: _Shapes) -> None:
    """The exact kernels take every call that ATen takes, and give results of the same shapes; tried on meta tensors."""
    arithmetic = Arithmetic(device="meta")

    def entering(dtype: str, shape: tuple[int, ...]) -> Tensor:
        exact = torch.float64 if DTYPES[dtype].is_floating_point else DTYPES[dtype]
        return torch.empty(shape, dtype=exact, device="meta")

    values: list[Any] = [entering(s.dtype, s.shape) for s in graph.state]
    values += [entering(i.dtype, (batch, *i.shape)) for i in graph.inputs]
    for number, node in enumerate(graph.nodes):
        try:
            args = [resolve(a, values) for a in node.args], {n: resolve(v, values) for n, v in node.kwargs.items()}
            values.append(known.of("exact", node.op, args, functools.partial(call_exact, arithmetic, node, values)))
        except (RuntimeError, IndexError, ValueError, TypeError) as problem:
            reason = (str(problem).splitlines() or [type(problem).__name__])[0]
            raise ShapeMismatch(f"node {number}, {node.op}, has no exact rule for its arguments: {reason}") from problem
        for value in _flat([values[-1]]):
            if isinstance(value, Tensor) and value.dtype not in (torch.float64, torch.int64, torch.bool):
                raise DtypeMismatch(f"node {number}, {node.op}, has no exact rule for these types", seen=value.dtype)
        wanted = [tuple(_bare(v).shape) for v in _flat([trace.values[len(values) - 1]]) if isinstance(v, Traced)]
        found = [tuple(v.shape) for v in _flat([values[-1]]) if isinstance(v, Tensor)]
        if found != wanted:
            raise ShapeMismatch(f"node {number}, {node.op}, has no exact rule of this shape", seen=found, wanted=wanted)


def call_exact(arithmetic: Arithmetic, node: Node, values: Sequence[Any]) -> Any:
    """One node in exact arithmetic: its result, a tensor, a tuple of tensors or a whole number.

    Args:
        values: all values before the node, by their numbers in the graph.
    """
    args = [resolve(a, values) for a in node.args]
    if node.op == "get":
        return args[0][args[1]]
    if node.operator is None:
        return WHOLE_NUMBERS[node.op](*args)
    return node.operator.kernel(arithmetic, *args, **{n: resolve(value, values) for n, value in node.kwargs.items()})


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value
