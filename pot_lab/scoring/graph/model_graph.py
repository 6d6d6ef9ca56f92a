"""The model graph: records and bytes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.scoring.limits import Limits
from pot_lab.scoring.operators import Operator

FORMAT, VERSION = "pot-lab-graph", 1
KINDS = ("parameter", "frozen", "buffer", "counter", "constant")
"""Kinds of state tensors."""
LARGEST_INT = 1 << 31
"""Whole numbers in a graph file are below this in size."""
LARGEST_INPUTS = 16
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_ /:,&%#+()\-]{0,248}[A-Za-z0-9_%#+)])?"
STATE_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,31}}")
"""A name in a module's `state_dict`."""
STATE_NAMES = (
    "at most 32 parts joined by dots, each of at most 250 letters A to Z, digits, _ - + / : , & % # ( ) and spaces "
    "inside"
)
_MODEL_TAG = "pot-lab/model/1"


@dataclass(frozen=True)
class Ref:
    """A reference to an earlier value."""

    index: int


@dataclass(frozen=True, kw_only=True)
class StateTensor:
    """One tensor of the weights file. `step`: what training adds to a counter. `sha256`: fixed content of a constant or
    of a frozen parameter, hex."""

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


@dataclass(frozen=True, kw_only=True)
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
    """What one example needs: `work` in multiply-adds and element steps, the largest tensor and the sum of all
    tensors in elements."""

    work: int
    largest_elements: int
    total_elements: int


@dataclass(frozen=True, kw_only=True)
class GraphDocument:
    """A graph file, decoded and checked field by field; nothing is known yet about shapes inside it.

    Attributes:
        data: bytes of the graph file.
        sha256: hash of the graph file, 32 bytes.
        inputs: shape and type of each argument for one example.
        state: tensors of the weights file, in the order in which values are numbered.
        aliases: second names of parameters and buffers in a `state_dict`.
        nodes: operator calls in order.
        results: the values that the graph returns.
        last_uses: for each node, the node results that are needed for the last time there.
        limits: what the graph was checked against.
    """

    data: bytes = field(repr=False)
    sha256: bytes
    inputs: tuple[Input, ...]
    state: tuple[StateTensor, ...] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)
    results: tuple[Ref, ...] = field(repr=False)
    last_uses: tuple[tuple[int, ...], ...] = field(repr=False)
    limits: Limits = field(repr=False)

    @property
    def parameters_count(self) -> int:
        """Number of trainable elements in all parameters."""
        return sum(math.prod(s.shape) for s in self.state if s.kind == "parameter")

    def operators(self) -> set[str]:
        """Full names of the operators in use."""
        return {n.op for n in self.nodes}


@dataclass(frozen=True, kw_only=True)
class ModelGraph(GraphDocument):
    """A checked graph: a document whose shapes, costs and batch axes were traced. Made by `load_graph`.

    `exact_model(graph, weights)` scores with it, `trainable(graph, weights)` trains it.

    Attributes:
        outputs: shape and type of each result for one example.
        cost: what scoring one example takes.
    """

    outputs: tuple[Output, ...]
    cost: Cost


def model_id(graph_sha256: bytes, weights: bytes) -> bytes:
    """MID, 32 bytes: names a graph and a weights file together."""
    return model_id_of(graph_sha256, hashlib.sha256(weights).digest())


def model_id_of(graph_sha256: bytes, weights_sha256: bytes) -> bytes:
    """MID, 32 bytes, by the digests of both files."""
    return tagged_hash(_MODEL_TAG, graph_sha256, weights_sha256)


def encode_graph(document: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a graph document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode(
        "ascii"
    )


def references(value: Any) -> Iterator[int]:
    """Indices of the values that an argument refers to."""
    if isinstance(value, Ref):
        yield value.index
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def resolve(value: Any, values: Sequence[Any]) -> Any:
    """An argument with its references replaced by values."""
    if isinstance(value, Ref):
        return values[value.index]
    return [resolve(v, values) for v in value] if isinstance(value, list) else value
