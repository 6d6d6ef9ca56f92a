"""Whether places that data name exist: word numbers below the size of their table, before anybody trains.

A place outside gives NaN in a score, and a crash in training. Only what is computed from whole numbers alone is looked
at: inputs of whole numbers, constants, and what a graph makes of both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pot_lab.scoring.dataset import each_input, some_rows
from pot_lab.scoring.errors import BadDataset
from pot_lab.scoring.given_data import Inputs
from pot_lab.scoring.graph.batch_axis import Traced
from pot_lab.scoring.graph.model_graph import ModelGraph, Node, Ref, references, resolve
from pot_lab.scoring.graph.tracing import trace
from pot_lab.scoring.operators import WHOLE_NUMBERS

_ROWS = 4096
_LOOKED_UP = {
    "aten.embedding.default",
    "aten.gather.default",
    "aten.index_select.default",
    "aten.one_hot.default",
}


def check_indices(graph: ModelGraph, tensors: Mapping[str, Tensor], inputs: Inputs) -> None:
    """Look up every place that `inputs` name.

    Args:
        graph: the model.
        tensors: its state by name, as `load_weights` gives it.
        inputs: [examples, ...], of the model's form.
    Raises: BadDataset, naming the example, the place and the size.
    """
    whole = any(not x.is_floating_point() for x in each_input(inputs))
    if not whole or not _LOOKED_UP & graph.operators():
        return
    count, shapes = len(each_input(inputs)[0]), functools.lru_cache(lambda rows: trace(graph, rows).values)
    for first in range(0, count, _ROWS):
        some = each_input(some_rows(inputs, slice(first, first + _ROWS)))
        _check_rows(graph, tensors, some, shapes(len(some[0])), first)


def _check_rows(
    graph: ModelGraph, tensors: Mapping[str, Tensor], inputs: tuple[Tensor, ...], shapes: list[Any], first: int
) -> None:
    known: dict[int, Any] = {}
    for place, tensor in enumerate([*(tensors[s.name] for s in graph.state), *inputs]):
        if not tensor.is_floating_point():
            known[place] = tensor
    for number, node in enumerate(graph.nodes, len(graph.state) + len(graph.inputs)):
        if node.operator is not None:
            _look_up(graph, node, known, shapes, first)
        used = list(references([*node.args, *node.kwargs.values()]))
        if not used or not all(index in known for index in used):
            continue
        values = _Known(known)
        args = [resolve(a, values) for a in node.args]
        if node.op == "get":
            known[number] = args[0][args[1]]
        elif node.operator is None:
            known[number] = WHOLE_NUMBERS[node.op](*args)
        elif not _is_floating(shapes[number]):
            known[number] = node.operator.native(*args, **{n: resolve(v, values) for n, v in node.kwargs.items()})


class _Known(list[Any]):
    """Values by their numbers, of which some are not there."""

    def __init__(self, known: Mapping[int, Any]) -> None:
        super().__init__()
        self._known = known

    def __getitem__(self, index: Any) -> Any:
        return self._known[index]


def _is_floating(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(v, Traced) and v.tensor.is_floating_point() for v in parts)


def _look_up(graph: ModelGraph, node: Node, known: Mapping[int, Any], shapes: list[Any], first: int) -> None:
    bound = dict(zip((p.name for p in node.operator.parameters), node.args, strict=False)) if node.operator else {}
    bound |= node.kwargs
    if node.op == "aten.embedding.default":
        table, places, size = bound["weight"], bound["indices"], shapes[bound["weight"].index].shape[0]
    elif node.op in ("aten.gather.default", "aten.index_select.default"):
        table, places, size = bound["x"], bound["index"], shapes[bound["x"].index].shape[bound["dim"]]
    elif node.op == "aten.one_hot.default":
        table, places, size = None, bound["x"], bound["num_classes"]
    else:
        return
    if not isinstance(places, Ref) or places.index not in known:
        return
    found = known[places.index]
    outside = (found < 0) | (found >= size)
    if not bool(outside.any()):
        return
    where = tuple(int(i) for i in outside.nonzero()[0])
    batched = shapes[places.index].axis
    example = f"example {first + where[batched]}: " if batched is not None else ""
    name = f" {graph.state[table.index].name!r}" if table is not None and table.index < len(graph.state) else ""
    raise BadDataset(
        f"a place is outside of the table{name} it is looked up in",
        seen=f"{example}{int(found[where])}",
        wanted=f"0 to {size - 1}",
    )
