"""Models as data: a canonical JSON graph that says what is computed, read strictly, and never by running code.

Format (version 1), one JSON object, keys sorted, no spaces, ASCII:

    {"format": "pot-lab-graph", "version": 1,
     "inputs": [{"dtype": "float32", "shape": [null, 1, 8, 8]}],          null is the batch, always first;
                                                              of several each has a "name", the only one has none
     "state": [{"name": "net.0.weight", "kind": "parameter", "dtype": "float32", "shape": [128, 64]}],
     "aliases": {"head.weight": "embed.weight"},
     "nodes": [{"op": "aten.linear.default", "args": [{"$": 4}, {"$": 0}, {"$": 1}], "kwargs": {}}],
     "outputs": [9]}

Values are numbered: state, then inputs, then the results of nodes, so a reference points backwards or is refused.
Kinds of state: `parameter`; `buffer`; `counter`, an int64 that training raises by `step` each time; `constant`, fixed
by its SHA-256. Arguments are null, booleans, numbers, strings, lists, `{"$": value}`, `{"dtype": name}` or `{"float":
"inf" | "-inf" | "nan"}`, each checked against the signature of the operator's kernel. A file that is not byte for
byte what `encode_graph` would write is refused, so one graph has one hash.

The loader then traces shapes on meta tensors for batches of 1, 2 and 3: work and memory stay under the limits, no
example sees another (`batching`), and every shape grows with the batch as it must.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.errors import Oversize
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import (
    BadWeights,
    BatchMixing,
    CostLimit,
    DtypeMismatch,
    HostileGraph,
    ShapeMismatch,
    UnsupportedOperator,
)
from pot_lab.scoring.graph.batch_axis import TAKES_INTERLEAVED, UNBOUNDED, Call, Interleaved, Traced, TracedInt
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.operators import LARGEST_PIECES, REGISTRY, WHOLE_NUMBERS, Operator, Parameter, traced_size
from pot_lab.scoring.tensor_file import DTYPES, dtype_name, read_header, read_tensors

if TYPE_CHECKING:
    from pot_lab.scoring.evaluate import ExactModel
    from pot_lab.scoring.exact_product import Backend
    from pot_lab.scoring.trainable import TrainableModel

FORMAT, VERSION = "pot-lab-graph", 1
KINDS = ("parameter", "buffer", "counter", "constant")
LARGEST_INT = 1 << 31
LARGEST_LIST = 4096
LARGEST_EXPONENT = 64
LARGEST_INPUTS = 16
_EQUATION = re.compile(r"[a-zA-Z]+(, ?[a-zA-Z]+){0,2} ?-> ?[a-zA-Z]*")
_INPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100}){0,31}")
_MODEL_TAG = "pot-lab/model/1"


@dataclass(frozen=True)
class Ref:
    """A reference to an earlier value."""

    index: int


@dataclass(frozen=True)
class State:
    """One tensor of the weights file. `step`: what training adds to a counter. `sha256`: fixed content of a constant,
    hex."""

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    step: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Input:
    """One argument of the model: [batch, *shape]. `name`: of one among several, "" of the only one."""

    dtype: str
    shape: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Node:
    """One operator call; `operator` None is `get` (an item of a tuple) or whole-number arithmetic."""

    op: str
    operator: Operator | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Output:
    """Shape and number type of one result for one example (the batch axis is in front of `shape`)."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """What one example asks for: `work` in multiply-adds and element steps, the largest tensor and the sum of all
    tensors in elements."""

    work: int
    largest_elements: int
    total_elements: int


@dataclass(frozen=True)
class ModelGraph:
    """A checked graph. Make it with `load_graph`.

    Attributes:
        sha256: hash of the graph file, 32 bytes.
        inputs, outputs: shapes and types of arguments and results for one example.
        cost: what scoring one example takes.
    """

    data: bytes = field(repr=False)
    sha256: bytes
    inputs: tuple[Input, ...]
    state: tuple[State, ...] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)
    results: tuple[Ref, ...] = field(repr=False)
    outputs: tuple[Output, ...]
    cost: Cost
    last_uses: tuple[tuple[int, ...], ...] = field(repr=False)
    limits: Limits = field(repr=False)

    @property
    def parameters_count(self) -> int:
        return sum(math.prod(s.shape) for s in self.state if s.kind == "parameter")

    def operators(self) -> set[str]:
        """Full names of the operators in use."""
        return {n.op for n in self.nodes}

    def check_batch(self, batch: int) -> None:
        """Prove that scoring `batch` examples at once gives each the result it has alone.

        Raises: BatchMixing, CostLimit.
        """
        if batch > 3:
            _check_growth(_trace(self, 1), _trace(self, batch), batch)

    def trainable(self, weights: bytes | None = None) -> TrainableModel:
        """An ordinary `torch.nn.Module` with these weights (zeros without), see `TrainableModel`."""
        from pot_lab.scoring.trainable import TrainableModel

        return TrainableModel(self, weights)

    def exact(
        self, weights: bytes, *, backend: str | Backend | None = None, device: str = "cpu", slices: int = 1
    ) -> ExactModel:
        """The model in exact arithmetic, see `ExactModel`."""
        from pot_lab.scoring.evaluate import ExactModel

        return ExactModel(self, weights, backend=backend, device=device, slices=slices)


def model_id(graph_sha256: bytes, weights: bytes) -> bytes:
    """MID, 32 bytes: names a graph and a weights file together."""
    return tagged_hash(_MODEL_TAG, graph_sha256, hashlib.sha256(weights).digest())


def encode_graph(document: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a graph document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode(
        "ascii"
    )


# -------------------------------------------------------------------------------------------- reading


def load_graph(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ModelGraph:
    """Read and check a graph file from a stranger.

    Raises:
        Oversize: longer than `limits.graph_bytes`.
        HostileGraph: it breaks the format; `CostLimit` where it asks for too much.
        UnsupportedOperator: an operator that is not in the whitelist.
        BatchMixing: examples would see one another.
    """
    document = _parse(data, limits)
    state = tuple(_state(entry) for entry in _list(document, "state", limits.state_tensors))
    names = {s.name for s in state}
    if len(names) != len(state):
        raise HostileGraph("two state entries have the same name")
    _check_scopes(names | set(document["aliases"] if isinstance(document["aliases"], dict) else ()))
    declared = sum(math.prod(s.shape) * DTYPES[s.dtype].itemsize for s in state)
    if declared > limits.weights_bytes:
        raise CostLimit(
            "the graph declares too many weights",
            seen=f"{declared} bytes",
            wanted=f"at most {limits.weights_bytes} bytes",
        )
    entries = _list(document, "inputs", LARGEST_INPUTS)
    inputs = tuple(_input(entry, named=len(entries) > 1) for entry in entries)
    if not inputs:
        raise HostileGraph("a graph needs an input")
    if len({i.name for i in inputs}) != len(inputs):
        raise HostileGraph("two inputs have the same name", seen=[i.name for i in inputs])
    aliases = _aliases(document["aliases"], state)
    kinds = ["tensor"] * (len(state) + len(inputs))
    nodes: list[Node] = []
    for entry in _list(document, "nodes", limits.nodes):
        try:
            node, kind = _node(entry, kinds, len(nodes))
        except (BatchMixing, HostileGraph) as problem:
            if not problem.message.startswith("node "):
                problem.message = f"node {len(nodes)}: {problem.message}"
            raise
        nodes.append(node)
        kinds.append(kind)
    results = tuple(Ref(_index(value, kinds, "tensor", "an output")) for value in _list(document, "outputs", 16))
    if not results:
        raise HostileGraph("a graph needs an output")
    graph = ModelGraph(
        data=data,
        sha256=hashlib.sha256(data).digest(),
        inputs=inputs,
        state=state,
        aliases=aliases,
        nodes=tuple(nodes),
        results=results,
        outputs=(),
        cost=Cost(0, 0, 0),
        last_uses=_last_uses(nodes, results, len(state) + len(inputs)),
        limits=limits,
    )
    known = _Shapes()
    alone, pair = _trace(graph, 1, known), _trace(graph, 2, known)
    _check_growth(alone, pair, 2)
    _check_growth(alone, _trace(graph, 3, known), 3)
    _check_kernels(graph, pair, 2, known)
    outputs = tuple(Output(dtype_name(v.tensor.dtype), v.shape[1:]) for v in alone.results)
    object.__setattr__(graph, "outputs", outputs)
    object.__setattr__(graph, "cost", alone.cost)
    return graph


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
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise HostileGraph("a bad state name", seen=value, wanted="ASCII words joined by dots")
    return value


def _state(entry: Any) -> State:
    extra = {"counter": {"step"}, "constant": {"sha256"}}
    if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
        raise HostileGraph("a bad state entry", seen=entry)
    if set(entry) != {"name", "kind", "dtype", "shape"} | extra.get(entry["kind"], set()):
        raise HostileGraph("a state entry has the wrong keys", seen=entry)
    state = State(
        _name(entry["name"]),
        entry["kind"],
        _dtype(entry["dtype"]),
        _shape(entry["shape"]),
        entry.get("step", 0),
        entry.get("sha256", ""),
    )
    if state.kind == "parameter" and not DTYPES[state.dtype].is_floating_point:
        raise HostileGraph("a parameter must be floating point", seen=f"{state.name}: {state.dtype}")
    if state.kind == "counter" and (
        state.dtype != "int64" or state.shape or type(state.step) is not int or not 0 < state.step < 1000
    ):
        raise HostileGraph("a counter must be one int64 with a small step", seen=entry)
    if state.kind == "constant" and (
        not isinstance(state.sha256, str) or not re.fullmatch("[0-9a-f]{64}", state.sha256)
    ):
        raise HostileGraph("a constant must carry its SHA-256", seen=entry)
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


def _aliases(value: Any, state: Sequence[State]) -> dict[str, str]:
    known = {s.name for s in state if s.kind == "parameter"}
    taken = {s.name for s in state}
    if not isinstance(value, dict) or len(value) > len(state) + 1000:
        raise HostileGraph("'aliases' must map names to parameters")
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
        return Node(op, None, (Ref(_index(args[0], kinds, "tensors", f"node {number}")), args[1]), {}), "tensor"
    if op in WHOLE_NUMBERS:
        if kwargs or len(args) != 2:
            raise HostileGraph(f"node {number}: {op} takes two whole numbers", seen=args)
        return Node(op, None, tuple(_whole_number(a, kinds, number) for a in args), {}), "int"
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
    return Node(op, operator, tuple(checked), named), operator.returns


def _index(value: Any, kinds: Sequence[str], kind: str, where: str) -> int:
    """The number in a reference `{"$": n}` (or a bare number among the outputs) to an earlier value of the wanted
    kind."""
    index = (
        value.get("$") if isinstance(value, dict) and set(value) == {"$"} else value if where == "an output" else None
    )
    if type(index) is not int:
        raise HostileGraph(f"{where} needs a reference to a {kind}", seen=value)
    if not 0 <= index < len(kinds):
        raise HostileGraph(
            f"{where} refers to a value that does not come before it", seen=index, wanted=f"0 to {len(kinds) - 1}"
        )
    if kinds[index] != kind:
        raise HostileGraph(f"{where} refers to a value of the wrong kind", seen=kinds[index], wanted=kind)
    return index


def _whole_number(value: Any, kinds: Sequence[str], number: int) -> Any:
    if type(value) is int and abs(value) < LARGEST_INT:
        return value
    return Ref(_index(value, kinds, "int", f"node {number}"))


def check_argument(op: str, parameter: Parameter, value: Any, kinds: Sequence[str]) -> Any:
    """One argument against its parameter's annotation; returns it with references and literals decoded.

    Raises: HostileGraph.
    """
    where = f"{op}, argument {parameter.name!r}"
    kind, _, optional = parameter.kind.partition(" | ")
    if value is None and (optional or kind == "Ignored"):
        return None
    check = _CHECKS.get(kind)
    if check is None:
        raise AssertionError(f"{where} has no check for {parameter.kind}")
    return check(where, value, kinds)


def _bad(where: str, value: Any, wanted: str) -> HostileGraph:
    return HostileGraph(f"{where} has the wrong type or value", seen=repr(value), wanted=wanted)


def _check_tensor(where: str, value: Any, kinds: Sequence[str]) -> Ref:
    return Ref(_index(value, kinds, "tensor", where))


def _check_tensors(where: str, value: Any, kinds: Sequence[str]) -> list[Ref]:
    if not isinstance(value, list) or not 0 < len(value) <= LARGEST_LIST:
        raise _bad(where, value, "a list of tensors")
    return [_check_tensor(where, v, kinds) for v in value]


def _check_number(where: str, value: Any, kinds: Sequence[str]) -> float | int:
    if isinstance(value, dict) and set(value) == {"float"} and value["float"] in ("inf", "-inf", "nan"):
        return float(value["float"])
    if type(value) not in (int, float) or not math.isfinite(value) or (type(value) is int and abs(value) > 1 << 53):
        raise _bad(where, value, "a finite number")
    number: float | int = value
    return number


def _check_operand(where: str, value: Any, kinds: Sequence[str]) -> Any:
    if not (isinstance(value, dict) and set(value) == {"$"}):
        return _check_number(where, value, kinds)
    index = value["$"]
    if type(index) is int and 0 <= index < len(kinds) and kinds[index] == "int":
        raise BatchMixing(f"{where}: the batch's size may only be used in shapes")
    return _check_tensor(where, value, kinds)


def _check_int(where: str, value: Any, kinds: Sequence[str], low: int = -LARGEST_INT) -> int:
    if isinstance(value, dict) and set(value) == {"$"}:
        raise BatchMixing(f"{where}: the batch's size may only be used in shapes")
    if type(value) is int and value == UNBOUNDED and low < 0:
        return value
    if type(value) is not int or not low <= value < LARGEST_INT:
        raise _bad(where, value, f"a whole number of at least {low}")
    return value


def _ints(low: int) -> Callable[[str, Any, Sequence[str]], list[int]]:
    def check(where: str, value: Any, kinds: Sequence[str]) -> list[int]:
        if not isinstance(value, list) or len(value) > LARGEST_LIST:
            raise _bad(where, value, "a list of whole numbers")
        return [_check_int(where, v, kinds, low) for v in value]

    return check


def _check_sizes(where: str, value: Any, kinds: Sequence[str]) -> list[int | Ref]:
    if not isinstance(value, list) or len(value) > 16:
        raise _bad(where, value, "a list of sizes")
    return [
        Ref(_index(v, kinds, "int", where)) if isinstance(v, dict) else _check_int(where, v, kinds, -1) for v in value
    ]


def _check_bool(where: str, value: Any, kinds: Sequence[str]) -> bool:
    if type(value) is not bool:
        raise _bad(where, value, "true or false")
    return value


def _check_dtype(where: str, value: Any, kinds: Sequence[str]) -> torch.dtype:
    dtype = _check_any_dtype(where, value, kinds)
    if not dtype.is_floating_point:
        raise _bad(where, value, "a floating-point type")
    return dtype


def _check_any_dtype(where: str, value: Any, kinds: Sequence[str]) -> torch.dtype:
    if not isinstance(value, dict) or set(value) != {"dtype"} or not isinstance(value["dtype"], str):
        raise _bad(where, value, "a number type")
    dtype = DTYPES.get(value["dtype"])
    if dtype is None or not (dtype.is_floating_point or dtype in (torch.int64, torch.bool)):
        raise _bad(where, value, "a floating-point type, int64 or bool")
    return dtype


_TEXTS = {
    "approximate": ("none", "tanh"),
    "padding": ("same", "valid"),
    "mode": ("constant", "reflect", "replicate", "circular"),
    "rounding_mode": ("floor", "trunc"),
}


def _check_equation(where: str, value: Any, kinds: Sequence[str]) -> str:
    if not isinstance(value, str) or len(value) > 100 or not _EQUATION.fullmatch(value):
        raise _bad(where, value, "an explicit equation of letters, such as 'bij,bjk->bik'")
    return value


def _check_text(where: str, value: Any, kinds: Sequence[str]) -> str:
    choices = _TEXTS[where.rsplit("'", 2)[1]]
    if not isinstance(value, str) or value not in choices:
        raise _bad(where, value, " or ".join(choices))
    return value


def _check_exponent(where: str, value: Any, kinds: Sequence[str]) -> float | int:
    number = _check_number(where, value, kinds)
    if not 0 < abs(number) <= LARGEST_EXPONENT:
        raise _bad(where, value, f"a number from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT} that is not 0")
    return number


def _check_whole(where: str, value: Any, kinds: Sequence[str]) -> int:
    if isinstance(value, dict) and set(value) == {"$"}:
        raise BatchMixing(f"{where}: the batch's size may only be used in shapes")
    number = _check_number(where, value, kinds)
    if not math.isfinite(number) or number != int(number) or abs(number) > 1 << 53:
        raise _bad(where, value, "a whole number")
    return int(number)


def _check_floats(where: str, value: Any, kinds: Sequence[str]) -> list[float]:
    if not isinstance(value, list) or not 0 < len(value) <= 3:
        raise _bad(where, value, "a list of numbers")
    numbers = [float(_check_number(where, v, kinds)) for v in value]
    if not all(0.0 < n < 1e6 for n in numbers):
        raise _bad(where, value, "numbers above 0")
    return numbers


def _check_places(where: str, value: Any, kinds: Sequence[str]) -> list[Ref | None]:
    if not isinstance(value, list) or not 0 < len(value) <= 8:
        raise _bad(where, value, "a list of tensors and nulls")
    return [None if v is None else _check_tensor(where, v, kinds) for v in value]


def _check_probability(where: str, value: Any, kinds: Sequence[str]) -> float | int:
    number = _check_number(where, value, kinds)
    if not 0 <= number <= 1:
        raise _bad(where, value, "0 to 1")
    return number


def _check_ignored(where: str, value: Any, kinds: Sequence[str]) -> None:
    raise _bad(where, value, "null")


_CHECKS: dict[str, Callable[[str, Any, Sequence[str]], Any]] = {
    "Tensor": _check_tensor,
    "Tensors": _check_tensors,
    "Operand": _check_operand,
    "float": _check_number,
    "int": _check_int,
    "Positive": lambda where, value, kinds: _check_int(where, value, kinds, 1),
    "Ints": _ints(-LARGEST_INT),
    "Positives": _ints(1),
    "Naturals": _ints(0),
    "Sizes": _check_sizes,
    "bool": _check_bool,
    "Dtype": _check_dtype,
    "AnyDtype": _check_any_dtype,
    "Whole": _check_whole,
    "Floats": _check_floats,
    "Places": _check_places,
    "Text": _check_text,
    "Equation": _check_equation,
    "Exponent": _check_exponent,
    "Probability": _check_probability,
    "Ignored": _check_ignored,
}


def references(value: Any) -> Iterator[int]:
    """Indices of the values that an argument refers to."""
    if isinstance(value, Ref):
        yield value.index
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


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


def resolve(value: Any, values: Sequence[Any]) -> Any:
    """An argument with its references replaced by values."""
    if isinstance(value, Ref):
        return values[value.index]
    return [resolve(v, values) for v in value] if isinstance(value, list) else value


# -------------------------------------------------------------------------------------------- tracing


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


@dataclass
class _Trace:
    """Shapes of all values of a graph for one batch size, and their batch axes, which a batch of one does not need."""

    values: list[Any]
    results: list[Traced]
    cost: Cost


def _trace(graph: ModelGraph, batch: int, known: _Shapes | None = None) -> _Trace:
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
        assert node.operator is not None
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
                "the graph asks for too much work", seen=work, wanted=f"at most {limit_work} for {batch} examples"
            )
    results = [values[r.index] for r in graph.results]
    for result in results:
        if result.shape[:1] != (batch,) or (batch > 1 and (result.axis != 0 or result.front > 1)):
            raise BatchMixing(
                "an output does not keep the batch as its first axis",
                seen=f"shape {result.shape} for a batch of {batch}",
            )
    return _Trace(values, results, Cost(work, largest, total))


def _trace_node(node: Node, number: int, values: list[Any], batch: int, known: _Shapes) -> tuple[Any, Call | None]:
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
    call = Call(node.op, bound, outputs, batch)
    if batch > 1 and operator.batch not in TAKES_INTERLEAVED and any(t.front > 1 for t in call.tensors()):
        raise call.mixing("other elements stand before the batch in its axis; view it as [batch, ...] first")
    found = operator.batch(call) if batch > 1 else None
    axes = found if isinstance(found, list) else [found] * len(outputs)
    traced = [
        Traced(t, *axis) if isinstance(axis, Interleaved) else Traced(t, axis)
        for t, axis in zip(outputs, axes, strict=True)
    ]
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
    """ATen's own name of a parameter."""
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
    small = (torch.uint8, torch.int32) + (() if node.operator and node.operator.booleans else (torch.bool,))
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


def _check_growth(alone: _Trace, together: _Trace, batch: int) -> None:
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


def _check_kernels(graph: ModelGraph, trace: _Trace, batch: int, known: _Shapes) -> None:
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
    """One node in exact arithmetic."""
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


# -------------------------------------------------------------------------------------------- weights


def load_weights(graph: ModelGraph, weights: bytes) -> dict[str, Tensor]:
    """State tensors by name, checked against the graph: the same names, types and shapes, constants as declared.

    Values may be anything, also NaN: such a model gets an invalid score, not an error.

    Raises: BadWeights (also for pickles), DtypeMismatch, ShapeMismatch, Oversize.
    """
    header = read_header(weights, limit_bytes=graph.limits.weights_bytes, what="weights file", error=BadWeights)
    wanted = {s.name: s for s in graph.state}
    if set(header) != set(wanted):
        lacking, extra = sorted(set(wanted) - set(header)), sorted(set(header) - set(wanted))
        raise BadWeights(
            "the weights file does not have the graph's tensors", seen=f"lacking {lacking[:5]}, unknown {extra[:5]}"
        )
    for name, (dtype, shape) in header.items():
        if dtype != wanted[name].dtype:
            raise DtypeMismatch(
                f"weight {name!r} has another number type than in the graph", seen=dtype, wanted=wanted[name].dtype
            )
        if shape != wanted[name].shape:
            raise ShapeMismatch(
                f"weight {name!r} has another shape than in the graph", seen=shape, wanted=wanted[name].shape
            )
    tensors = read_tensors(weights, limit_bytes=graph.limits.weights_bytes, what="weights file", error=BadWeights)
    for state in graph.state:
        if state.kind == "constant" and tensor_sha256(tensors[state.name]) != state.sha256:
            raise BadWeights("a constant of the model was changed", seen=state.name)
    return tensors


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of a tensor's little-endian elements, hex."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
