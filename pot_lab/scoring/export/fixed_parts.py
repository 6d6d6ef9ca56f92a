"""What a forward computes from neither inputs nor weights, such as masks and tables of places, computed at export.

Only what the whitelist cannot express is taken over as constants, whose content the graph fixes: places filled one by
one, casts to whole numbers, `linspace`. Whatever operators made them, scoring sees their numbers only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pot_lab.scoring.errors import ExportFailed

_LIKE = re.compile(r"aten\.(new_)?(zeros|ones|full|empty)(_like)?\.")
_FILLS = {"zeros": 0, "ones": 1, "empty": 0}
LARGEST_ELEMENTS = 1 << 24


def fixed_parts(
    graph: torch.fx.Graph, constants: Mapping[Node, Tensor], written: Callable[[Node], bool]
) -> tuple[dict[Node, Tensor], set[Node]]:
    """(values that become constants, calls that nothing needs any more).

    Args:
        graph: of an exported program.
        constants: its tensors that are no parameters and no buffers of the user's.
        written: whether a call can stand in a graph as it is.
    """
    found = _Interpreter(constants, written)
    for node in graph.nodes:
        found.visit(node)
    return found.folded, found.unneeded(graph)


class _Interpreter:
    """Runs the calls that depend on nothing, in order, changes in place too."""

    def __init__(self, constants: Mapping[Node, Tensor], written: Callable[[Node], bool]) -> None:
        self.folded: dict[Node, Tensor] = {}
        self._values: dict[Node, Any] = {node: t.detach().clone() for node, t in constants.items()}
        self._unwritten: set[Node] = set()
        self._changed: set[int] = set()
        self._written = written

    def visit(self, node: Node) -> None:
        if node.op == "call_function" and self._runs(node):
            return
        for argument in node.all_input_nodes:
            self._fix_now(argument)
        if node.op == "call_function" and _changes(node):
            self._drop(node.args[0])

    def unneeded(self, graph: torch.fx.Graph) -> set[Node]:
        """Fixed calls whose results only went into constants."""
        needed: set[Node] = set()
        for node in reversed(graph.nodes):
            if node in self.folded or (node in self._values and node not in needed):
                continue
            needed.update(a for a in node.all_input_nodes if a not in self.folded)
        return {n for n in self._values if n.op == "call_function" and n not in needed and n not in self.folded}

    def _runs(self, node: Node) -> bool:
        """Compute a call whose arguments are all known."""
        shape = _static_shape(node)
        like = _LIKE.match(str(node.target)) if shape is not None else None
        if like is None and not all(a in self._values for a in node.all_input_nodes):
            return False
        if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags:
            return False
        if like is None and not node.all_input_nodes and shape is None:
            return False
        try:
            value = self._filled(node, like[2]) if like else self._called(node)
        except Exception:  # whatever a kernel raises for its arguments, the call stays where it is
            return False
        if isinstance(value, Tensor) and value.numel() > LARGEST_ELEMENTS:
            return False
        self._values[node] = value
        if _changes(node):
            self._changed.add(_storage(self._values[node.args[0]]))  # type: ignore[index]
        if not self._written(node) or any(self._is_unwritten(a) for a in node.all_input_nodes):
            self._unwritten.add(node)
        return True

    def _called(self, node: Node) -> Any:
        def known(value: Any) -> Any:
            return torch.fx.node.map_arg(value, lambda n: self._values[n])

        return node.target(*known(node.args), **known(dict(node.kwargs)))  # type: ignore[operator]

    def _filled(self, node: Node, kind: str) -> Tensor:
        """A tensor of one value; of its example only type and shape count."""
        like = node.meta["val"]
        fill: int | float | None = _FILLS.get(kind)
        if fill is None:
            fill = next(v for v in reversed(node.args) if isinstance(v, int | float))
        return torch.full(tuple(like.shape), fill, dtype=like.dtype)

    def _is_unwritten(self, node: Node) -> bool:
        value = self._values.get(node)
        return node in self._unwritten or (isinstance(value, Tensor) and _storage(value) in self._changed)

    def _fix_now(self, node: Node) -> None:
        """A call that is not fixed takes this value as it is now."""
        if node not in self._values or not self._is_unwritten(node):
            return
        now = self._values[node]
        if not isinstance(now, Tensor):
            return
        if node in self.folded and not _same(self.folded[node], now):
            raise ExportFailed(
                "a tensor that depends on nothing changes between two uses; make two of it", seen=node.name
            )
        self.folded.setdefault(node, now.detach().clone().contiguous())

    def _drop(self, node: Any) -> None:
        """From now on this value is not fixed: what was not used yet stays a call."""
        value = self._values.get(node)
        if isinstance(value, Tensor):
            storage = _storage(value)
            for other in [n for n, v in self._values.items() if isinstance(v, Tensor) and _storage(v) == storage]:
                if other not in self.folded:
                    del self._values[other]


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _changes(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _static_shape(node: Node) -> tuple[int, ...] | None:
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not all(type(n) is int for n in value.shape):
        return None
    return tuple(value.shape)
