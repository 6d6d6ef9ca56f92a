"""Graph documents written by hand, for tests of single operators and of hostile files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring.graph.model_graph import encode_graph
from pot_lab.scoring.tensor_file import dtype_name, write_tensors

X = object()
"""Stands for the input in a call's arguments."""


class W:
    """Stands for a weight in a call's arguments."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def one_call(
    op: str,
    shape: tuple[int, ...],
    args: list[Any],
    kwargs: dict[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    item: int | None = None,
    finish: bool = True,
) -> tuple[bytes, bytes]:
    """(graph, weights) of `op` on an input [batch, *shape]; `item` takes one of several results."""
    weights: list[Tensor] = []

    def find(value: Any) -> None:
        if isinstance(value, W):
            weights.append(value.tensor)
        elif isinstance(value, list):
            for v in value:
                find(v)

    find(args)
    names = {id(t): i for i, t in enumerate(weights)}

    def encoded(value: Any) -> Any:
        if value is X:
            return {"$": len(weights)}
        if isinstance(value, W):
            return {"$": names[id(value.tensor)]}
        return [encoded(v) for v in value] if isinstance(value, list) else value

    nodes = [{"op": op, "args": encoded(args), "kwargs": kwargs or {}}]
    if item is not None:
        nodes.append({"op": "get", "args": [{"$": len(weights) + 1}, item], "kwargs": {}})
    state = [
        {
            "name": f"w{i}",
            "kind": "parameter" if t.is_floating_point() else "buffer",
            "dtype": dtype_name(t.dtype),
            "shape": list(t.shape),
        }
        for i, t in enumerate(weights)
    ]
    graph = document(inputs=[entry(shape, dtype)], state=state, nodes=nodes, outputs=[len(weights) + len(nodes)])
    return encode_graph(graph), write_tensors({f"w{i}": t for i, t in enumerate(weights)})


def entry(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    return {"dtype": dtype_name(dtype), "shape": [None, *shape]}


def document(**parts: Any) -> dict[str, Any]:
    """A small valid document (relu of a linear layer, 3 to 2), with parts replaced."""
    whole: dict[str, Any] = {
        "format": "pot-lab-graph",
        "version": 1,
        "inputs": [entry((3,))],
        "state": [
            {"name": "layer.weight", "kind": "parameter", "dtype": "float32", "shape": [2, 3]},
            {"name": "layer.bias", "kind": "parameter", "dtype": "float32", "shape": [2]},
        ],
        "aliases": {},
        "nodes": [
            {"op": "aten.linear.default", "args": [{"$": 2}, {"$": 0}, {"$": 1}], "kwargs": {}},
            {"op": "aten.relu.default", "args": [{"$": 3}], "kwargs": {}},
        ],
        "outputs": [4],
    }
    return whole | parts
