"""The model graph: records and bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pot_lab.crypto.canonical import tagged_hash
from pot_lab.scoring.limits import Limits
from pot_lab.scoring.operators import Operator

if TYPE_CHECKING:
    from pot_lab.scoring.exact_model import ExactModel
    from pot_lab.scoring.exact_product import Backend
    from pot_lab.scoring.trainable import TrainableModel


FORMAT, VERSION = "pot-lab-graph", 1


KINDS = ("parameter", "buffer", "counter", "constant")


LARGEST_INT = 1 << 31


LARGEST_INPUTS = 16


_MODEL_TAG = "pot-lab/model/1"


@dataclass(frozen=True)
class Ref:
    """A reference to an earlier value."""

    index: int


@dataclass(frozen=True)
class StateTensor:
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
    state: tuple[StateTensor, ...] = field(repr=False)
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
        from pot_lab.scoring.graph.tracing import _check_growth, _trace

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
        from pot_lab.scoring.exact_model import ExactModel

        return ExactModel(self, weights, backend=backend, device=device, slices=slices)


def model_id(graph_sha256: bytes, weights: bytes) -> bytes:
    """MID, 32 bytes: names a graph and a weights file together."""
    return tagged_hash(_MODEL_TAG, graph_sha256, hashlib.sha256(weights).digest())


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
