"""Models as data: a canonical JSON graph of what is computed, read strictly, and never by running code.

Format (version 1), one JSON object, keys sorted, no spaces, ASCII:

    {"format": "pot-lab-graph", "version": 1,
     "inputs": [{"dtype": "float32", "shape": [null, 1, 8, 8]}],          null is the batch, always first;
                                                              of several each has a "name", the only one has none
     "state": [{"name": "net.0.weight", "kind": "parameter", "dtype": "float32", "shape": [128, 64]}],
     "aliases": {"head.weight": "embed.weight"},
     "nodes": [{"op": "aten.linear.default", "args": [{"$": 4}, {"$": 0}, {"$": 1}], "kwargs": {}}],
     "outputs": [9]}

Values are numbered: state, then inputs, then the results of nodes, so a reference points backwards or is refused.
Kinds of state: `parameter`; `frozen`, a parameter that nobody trains, fixed by its SHA-256; `buffer`; `counter`, an
int64 that training raises by `step` each time; `constant`, fixed by its SHA-256. Arguments are null, booleans, numbers,
strings, lists, `{"$": value}`, `{"dtype": name}` or `{"float": "inf" | "-inf" | "nan"}`, each checked against the
signature of the operator's kernel. A file that is not byte for byte what `encode_graph` would write is refused, so one
graph has one hash.

The loader then traces shapes on meta tensors for batches of 1, 2 and 3: work and memory stay under the limits, no
example sees another (`batch_axis`), and every shape grows with the batch as it must.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pot_lab.errors import Oversize
from pot_lab.scoring.errors import (
    BatchMixing,
    CostLimit,
    HostileGraph,
    UnsupportedOperator,
)
from pot_lab.scoring.graph.arguments import check_argument, reference_index
from pot_lab.scoring.graph.model_graph import (
    FORMAT,
    KINDS,
    LARGEST_INPUTS,
    LARGEST_INT,
    STATE_NAME,
    STATE_NAMES,
    VERSION,
    GraphDocument,
    Input,
    ModelGraph,
    Node,
    Ref,
    StateTensor,
    encode_graph,
    references,
)
from pot_lab.scoring.graph.tracing import check_document
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.operators import LARGEST_PIECES, REGISTRY, WHOLE_NUMBERS
from pot_lab.scoring.tensor_file import DTYPES

_KEPT_GRAPHS = 4
_INPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def load_graph(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ModelGraph:
    """Read and check a graph file of unknown origin. The last few graphs are kept, so a file is checked once.

    Args:
        data: canonical JSON.
        limits: bounds of size and cost.
    Raises:
        Oversize: longer than `limits.graph_bytes`.
        HostileGraph: it breaks the format; `CostLimit` where it is too large or costs too much.
        UnsupportedOperator: an operator that is not in the whitelist.
        BatchMixing: examples would see one another.
    """
    return _checked(bytes(data), limits)


@functools.lru_cache(maxsize=_KEPT_GRAPHS)
def _checked(data: bytes, limits: Limits) -> ModelGraph:
    document = read_document(data, limits)
    outputs, cost = check_document(document)
    return ModelGraph(**vars(document), outputs=outputs, cost=cost)


def read_document(data: bytes, limits: Limits = DEFAULT_LIMITS) -> GraphDocument:
    """Decode a graph file and check each field of it; shapes are not traced yet.

    Raises: Oversize, HostileGraph, CostLimit, UnsupportedOperator, BatchMixing.
    """
    parsed = _parse(data, limits)
    state = _all_state(parsed, limits)
    inputs = _all_inputs(parsed)
    aliases = _aliases(parsed["aliases"], state)
    nodes, kinds = _all_nodes(parsed, limits, len(state) + len(inputs))
    results = tuple(Ref(reference_index(value, kinds, "tensor", "an output")) for value in _list(parsed, "outputs", 16))
    if not results:
        raise HostileGraph("a graph needs an output")
    return GraphDocument(
        data=data,
        sha256=hashlib.sha256(data).digest(),
        inputs=inputs,
        state=state,
        aliases=aliases,
        nodes=nodes,
        results=results,
        last_uses=_last_uses(nodes, results, len(state) + len(inputs)),
        limits=limits,
    )


def _all_state(parsed: Mapping[str, Any], limits: Limits) -> tuple[StateTensor, ...]:
    state = tuple(_state(entry) for entry in _list(parsed, "state", limits.state_tensors))
    names = {s.name for s in state}
    if len(names) != len(state):
        raise HostileGraph("two state entries have the same name")
    _check_scopes(names | set(parsed["aliases"] if isinstance(parsed["aliases"], dict) else ()))
    declared = sum(math.prod(s.shape) * DTYPES[s.dtype].itemsize for s in state)
    if declared > limits.weights_bytes:
        raise CostLimit(
            "the graph declares too many weights",
            seen=f"{declared} bytes",
            wanted=f"at most {limits.weights_bytes} bytes",
        )
    return state


def _all_inputs(parsed: Mapping[str, Any]) -> tuple[Input, ...]:
    entries = _list(parsed, "inputs", LARGEST_INPUTS)
    inputs = tuple(_input(entry, named=len(entries) > 1) for entry in entries)
    if not inputs:
        raise HostileGraph("a graph needs an input")
    if len({i.name for i in inputs}) != len(inputs):
        raise HostileGraph("two inputs have the same name", seen=[i.name for i in inputs])
    return inputs


def _all_nodes(parsed: Mapping[str, Any], limits: Limits, first: int) -> tuple[tuple[Node, ...], list[str]]:
    """Nodes, and the kind ("tensor", "tensors" or "int") of every value; `first` values stand before the nodes."""
    kinds = ["tensor"] * first
    nodes: list[Node] = []
    for entry in _list(parsed, "nodes", limits.nodes):
        try:
            node, kind = _node(entry, kinds, len(nodes))
        except (BatchMixing, HostileGraph) as problem:
            if not problem.message.startswith("node "):
                problem.message = f"node {len(nodes)}: {problem.message}"
            raise
        nodes.append(node)
        kinds.append(kind)
    return tuple(nodes), kinds


def _parse(data: bytes, limits: Limits) -> dict[str, Any]:
    if len(data) > limits.graph_bytes:
        raise Oversize(
            "the graph file is too large", seen=f"{len(data)} bytes", wanted=f"at most {limits.graph_bytes} bytes"
        )
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise HostileGraph("this is a pickle or a torch archive; only JSON graphs are accepted", seen=data[:8])
    depth = 0
    for bracket in re.finditer(rb"[\[\]{}]", data):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > limits.depth:
            raise HostileGraph("the graph file is nested too deeply", wanted=f"at most {limits.depth} levels")
    try:
        document = json.loads(data.decode("ascii"), parse_int=_small_int, parse_constant=_no_constant)
        canonical = encode_graph(document)
    except (ValueError, RecursionError) as problem:
        raise HostileGraph(f"the graph file is no canonical JSON: {problem}") from problem
    if not isinstance(document, dict) or set(document) != {
        "format",
        "version",
        "inputs",
        "state",
        "aliases",
        "nodes",
        "outputs",
    }:
        raise HostileGraph("the graph file has the wrong keys")
    if document["format"] != FORMAT or document["version"] != VERSION or type(document["version"]) is not int:
        raise HostileGraph("the graph file has another format or version", wanted=f"{FORMAT} {VERSION}")
    if canonical != data:
        raise HostileGraph("the graph file is not in canonical form")
    return document


def _small_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number is too long")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _list(document: Mapping[str, Any], key: str, limit: int) -> list[Any]:
    value = document[key]
    if not isinstance(value, list):
        raise HostileGraph(f"{key!r} must be a list", seen=type(value).__name__)
    if len(value) > limit:
        raise CostLimit(f"the graph has too many {key}", seen=len(value), wanted=f"at most {limit}")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > 8 or not all(type(n) is int and 0 < n < LARGEST_INT for n in value):
        raise HostileGraph("a bad shape", seen=value, wanted="at most 8 sizes of at least 1")
    return tuple(value)


def _dtype(value: Any) -> str:
    if not isinstance(value, str) or value not in DTYPES:
        raise HostileGraph("a number type that is not accepted", seen=value, wanted=", ".join(DTYPES))
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not STATE_NAME.fullmatch(value):
        raise HostileGraph("a bad state name", seen=value, wanted=STATE_NAMES)
    return value


def _state(entry: Any) -> StateTensor:
    extra = {"counter": {"step"}, "constant": {"sha256"}, "frozen": {"sha256"}}
    if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
        raise HostileGraph("a bad state entry", seen=entry)
    if set(entry) != {"name", "kind", "dtype", "shape"} | extra.get(entry["kind"], set()):
        raise HostileGraph("a state entry has the wrong keys", seen=entry)
    state = StateTensor(
        name=_name(entry["name"]),
        kind=entry["kind"],
        dtype=_dtype(entry["dtype"]),
        shape=_shape(entry["shape"]),
        step=entry.get("step", 0),
        sha256=entry.get("sha256", ""),
    )
    if state.kind == "parameter" and not DTYPES[state.dtype].is_floating_point:
        raise HostileGraph("a parameter must be floating point", seen=f"{state.name}: {state.dtype}")
    if state.kind == "counter" and (
        state.dtype != "int64" or state.shape or type(state.step) is not int or not 0 < state.step < 1000
    ):
        raise HostileGraph("a counter must be one int64 with a small step", seen=entry)
    if state.kind in ("constant", "frozen") and (
        not isinstance(state.sha256, str) or not re.fullmatch("[0-9a-f]{64}", state.sha256)
    ):
        raise HostileGraph(f"a {state.kind} tensor must carry its SHA-256", seen=entry)
    return state


def _check_scopes(names: set[str]) -> None:
    """A name may not be both a tensor and the scope of others, and none may hide a part of nn.Module."""
    for name in names:
        parts = name.split(".")
        for i, part in enumerate(parts):
            if hasattr(torch.nn.Module, part) or part in _MODULE_ATTRIBUTES:
                raise HostileGraph("a state name would hide a part of nn.Module", seen=name)
            if i and ".".join(parts[:i]) in names:
                raise HostileGraph("a state name is also the scope of another", seen=name)


_MODULE_ATTRIBUTES = frozenset(torch.nn.Module().__dict__)


def _aliases(value: Any, state: Sequence[StateTensor]) -> dict[str, str]:
    known = {s.name for s in state if s.kind != "constant"}
    taken = {s.name for s in state}
    if not isinstance(value, dict) or len(value) > len(state) + 1000:
        raise HostileGraph("'aliases' must map names to parameters or buffers")
    for name, target in value.items():
        if _name(name) in taken or target not in known:
            raise HostileGraph("a bad alias", seen=f"{name}: {target}")
    return value


def _input(entry: Any, *, named: bool) -> Input:
    if (
        not isinstance(entry, dict)
        or set(entry) != {"dtype", "shape"} | ({"name"} if named else set())
        or not isinstance(entry["shape"], list)
        or entry["shape"][:1] != [None]
    ):
        wanted = "a dtype, and a shape that begins with null for the batch" + (", and a name" if named else "")
        raise HostileGraph("a bad input entry", seen=entry, wanted=wanted)
    name = entry.get("name", "")
    if named and (not isinstance(name, str) or not _INPUT_NAME.fullmatch(name)):
        raise HostileGraph("a bad input name", seen=name, wanted="letters, digits and _, beginning with no digit")
    return Input(_dtype(entry["dtype"]), _shape(entry["shape"][1:]), name)


def _node(entry: Any, kinds: Sequence[str], number: int) -> tuple[Node, str]:
    if not isinstance(entry, dict) or set(entry) != {"op", "args", "kwargs"}:
        raise HostileGraph(f"node {number} has the wrong keys", seen=entry)
    op, args, kwargs = entry["op"], entry["args"], entry["kwargs"]
    if not isinstance(op, str) or not isinstance(args, list) or not isinstance(kwargs, dict):
        raise HostileGraph(f"node {number} is no operator call", seen=entry)
    if op == "get":
        if kwargs or len(args) != 2 or type(args[1]) is not int or not 0 <= args[1] < LARGEST_PIECES:
            raise HostileGraph(f"node {number}: get takes a tuple and a place", seen=args)
        item_of = Ref(reference_index(args[0], kinds, "tensors", f"node {number}"))
        return Node(op=op, operator=None, args=(item_of, args[1]), kwargs={}), "tensor"
    if op in WHOLE_NUMBERS:
        if kwargs or len(args) != 2:
            raise HostileGraph(f"node {number}: {op} takes two whole numbers", seen=args)
        whole = tuple(_whole_number(a, kinds, number) for a in args)
        return Node(op=op, operator=None, args=whole, kwargs={}), "int"
    operator = REGISTRY.get(op)
    if operator is None:
        raise UnsupportedOperator(op, f"node {number} of the graph is not in the whitelist of specification version 1")
    checked: list[Any] = []
    if len(args) > len(operator.parameters):
        raise HostileGraph(f"node {number}: {op} takes at most {len(operator.parameters)} arguments", seen=len(args))
    for parameter, value in zip(operator.parameters, args, strict=False):
        checked.append(check_argument(op, parameter, value, kinds))
    named = {}
    rest = {p.name: p for p in operator.parameters[len(args) :]}
    for name, value in kwargs.items():
        if name not in rest:
            raise HostileGraph(f"node {number}: {op} has no such argument left", seen=name)
        named[name] = check_argument(op, rest.pop(name), value, kinds)
    missing = [p.name for p in rest.values() if p.required]
    if missing:
        raise HostileGraph(f"node {number}: {op} lacks arguments", seen=", ".join(missing))
    return Node(op=op, operator=operator, args=tuple(checked), kwargs=named), operator.returns


def _whole_number(value: Any, kinds: Sequence[str], number: int) -> Any:
    if type(value) is int and abs(value) < LARGEST_INT:
        return value
    return Ref(reference_index(value, kinds, "int", f"node {number}"))


def _last_uses(nodes: Sequence[Node], results: Sequence[Ref], first: int) -> tuple[tuple[int, ...], ...]:
    """For each node, the node results that are needed for the last time there."""
    last: dict[int, int] = {}
    for number, node in enumerate(nodes):
        last[first + number] = number
        for index in references([*node.args, *node.kwargs.values()]):
            last[index] = number
    kept = {r.index for r in results}
    free: list[list[int]] = [[] for _ in nodes]
    for index, number in last.items():
        if index >= first and index not in kept:
            free[number].append(index)
    return tuple(tuple(f) for f in free)
