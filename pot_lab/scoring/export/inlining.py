"""Calls of an exported program written as others, before it becomes a graph.

Blocks under `torch.no_grad()` are put into the program they stand in, their results detached. `x[torch.arange(batch),
place]`, which picks places of each example, becomes a gather, and `table[numbers]` an embedding.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export.diagnosis import place_of

_WITH_AUTOCAST: Any = torch.ops.higher_order.wrap_with_autocast
_BLOCKS = (torch.ops.higher_order.wrap_with_set_grad_enabled, _WITH_AUTOCAST)
"""Calls that hold a graph of their own."""


def inlined(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program without blocks that switch gradients or autocast, and without rows picked by the examples' numbers.

    torch keeps such a block as a graph of its own. Its calls are put in its place. What leaves a block without
    gradients is detached, which gives the same numbers and the same gradients.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in _BLOCKS:
            _inline(program.graph_module, graph, node)
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.index.Tensor and _picks_by_example(node):
            _gather(graph, node)
        elif node.target is torch.ops.aten.index.Tensor and _looks_up(node):
            _embed(graph, node)
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and not node.users and _computes_only(node.target):
            graph.erase_node(node)
    return program


def _computes_only(target: Any) -> bool:
    """Whether a call whose result nobody uses may be left out: it changes nothing and draws no random numbers."""
    if not isinstance(target, torch._ops.OpOverload):
        return target in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.getitem)
    asserts = "assert" in str(target) or "constrain" in str(target)
    drawing = torch.Tag.nondeterministic_seeded in target.tags or "dropout" in str(target)
    return not (target._schema.is_mutable or asserts or drawing)


def _inline(owner: torch.nn.Module, graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    enabled: Any = True
    if node.target is _WITH_AUTOCAST:
        _, _, casts, _, block, *given = node.args
    else:
        casts, (enabled, block, *given) = False, node.args
    inside: Any = getattr(owner, str(getattr(block, "target", "")))
    if casts:
        place = next((p for n in inside.graph.nodes if n.op == "call_function" and (p := place_of(n))), "")
        raise ExportFailed(
            "torch.autocast chooses number types as it goes, and a graph has fixed ones: leave it out of forward, or "
            "cast yourself with x.to(torch.bfloat16)" + (f", at {place}" if place else "")
        )
    known: dict[torch.fx.Node, Any] = {}
    waiting = iter(given)
    results: list[Any] = []
    with graph.inserting_before(node):
        for part in inside.graph.nodes:
            if part.op == "placeholder":
                known[part] = next(waiting)
            elif part.op == "output":
                values = part.args[0]
                results = [known[v] for v in (values if isinstance(values, list | tuple) else [values])]
            elif part.op == "get_attr":
                continue
            else:
                known[part] = graph.node_copy(part, lambda n: known[n])
                if part.target in _BLOCKS:
                    _inline(inside, graph, known[part])
        if not enabled:
            results = [_detached(graph, value) for value in results]
    for user in list(node.users):
        if user.target is operator.getitem:
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            graph.erase_node(user)
    if node.users:
        node.replace_all_uses_with(results[0])
    graph.erase_node(node)


def _detached(graph: torch.fx.Graph, value: torch.fx.Node) -> torch.fx.Node:
    found = graph.call_function(torch.ops.aten.detach.default, (value,))
    found.meta = dict(value.meta)
    return found


def _picks_by_example(node: Any) -> bool:
    """Whether a call is x[rows, places] with rows 0, 1, 2 and so on to the batch's size, along the first two axes."""
    x, indices = node.args
    if not isinstance(indices, list | tuple) or len(indices) != 2 or None in indices:
        return False
    rows, places = indices
    data: Any = x.meta.get("val")
    wanted: Any = places.meta.get("val")
    numbers: Any = rows.meta.get("val")
    if not all(isinstance(v, Tensor) for v in (data, wanted, numbers)) or data.dim() < 2:
        return False
    while rows.target in _RESHAPES:
        if rows.target is torch.ops.aten.slice.Tensor and str(_shape(rows)) != str(_shape(rows.args[0])):
            return False
        rows = rows.args[0]
    if not str(rows.target).startswith("aten.arange."):
        return False
    counted = [a for a in rows.args if not isinstance(a, int) or a != 0]
    batch, first = data.shape[0], numbers.shape[0] if numbers.dim() else 0
    if isinstance(batch, int) or str(first) != str(batch) or len(counted) != 1 or numbers.shape[1:].numel() != 1:
        return False
    inner = _shape(node)[1 : len(_shape(node)) - data.dim() + 2]
    if wanted.dim() and str(wanted.shape[0]) == str(batch):
        return bool(numbers.dim() == wanted.dim())
    return all(isinstance(n, int) for n in _shape(places)) and math.prod(_shape(places)) == math.prod(inner)


def _looks_up(node: Any) -> bool:
    """Whether a call is table[numbers], the table one of numbers that no example changes, such as a parameter."""
    table, indices = node.args
    if not isinstance(indices, list | tuple) or len(indices) != 1 or indices[0] is None:
        return False
    data, wanted = table.meta.get("val"), indices[0].meta.get("val")
    if not isinstance(data, Tensor) or not isinstance(wanted, Tensor) or not data.dtype.is_floating_point:
        return False
    fixed = all(isinstance(n, int) for n in data.shape)
    return (
        fixed and data.dim() > 0 and wanted.dtype == torch.int64 and any(not isinstance(n, int) for n in wanted.shape)
    )


def _embed(graph: torch.fx.Graph, node: Any) -> None:
    """table[numbers], written as an embedding of a table of rows; numbers below 0 count from the end."""
    aten = torch.ops.aten
    table, (numbers,) = node.args
    length, rest = table.meta["val"].shape[0], list(table.meta["val"].shape[1:])
    with graph.inserting_before(node):
        rows = _added(graph, node, aten.reshape.default, table, [length, math.prod(rest)])
        below = _added(graph, node, aten.lt.Scalar, numbers, 0)
        places = _added(
            graph, node, aten.where.self, below, _added(graph, node, aten.add.Tensor, numbers, length), numbers
        )
        result = _added(graph, node, aten.embedding.default, rows, places)
        if len(rest) != 1:
            sizes = [-1 if not isinstance(n, int) else n for n in _shape(node)]
            result = _added(graph, node, aten.reshape.default, result, sizes)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _added(graph: torch.fx.Graph, node: Any, target: Any, *args: Any) -> torch.fx.Node:
    """A call in place of another, with what is known of its result."""
    made = graph.call_function(target, args)
    with node.args[0].meta["val"].fake_mode:
        made.meta = dict(node.meta) | {"val": target(*torch.fx.node.map_arg(args, lambda n: n.meta["val"]))}
    return made


def _shape(node: Any) -> Any:
    return tuple(node.meta["val"].shape)


_RESHAPES = (
    torch.ops.aten.slice.Tensor,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.view.default,
    torch.ops.aten.reshape.default,
)


def _gather(graph: torch.fx.Graph, node: Any) -> None:
    """x[rows, places], written as x.gather(1, places) with places spread over the axes behind."""
    aten = torch.ops.aten
    x, (_, places) = node.args[0], node.args[1]
    data, wanted = x.meta["val"], places.meta["val"]
    length, rest = data.shape[1], list(data.shape[2:])
    inner = list(_shape(node)[1 : len(_shape(node)) - len(rest)])
    count = math.prod(inner)
    fixed = not wanted.dim() or str(wanted.shape[0]) != str(data.shape[0])

    def add(target: Any, *args: Any) -> torch.fx.Node:
        return _added(graph, node, target, *args)

    with graph.inserting_before(node):
        if fixed:
            picked = add(aten.index.Tensor, x, [None, add(aten.reshape.default, places, [count])])
        else:
            flat = add(aten.reshape.default, places, [-1, count, *[1] * len(rest)])
            flat = add(aten.where.self, add(aten.lt.Scalar, flat, 0), add(aten.add.Tensor, flat, length), flat)
            picked = add(aten.gather.default, x, 1, add(aten.expand.default, flat, [-1, count, *rest]))
        result = add(aten.reshape.default, picked, [-1, *inner, *rest])
    node.replace_all_uses_with(result)
    graph.erase_node(node)
