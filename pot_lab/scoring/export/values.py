"""Which value of a graph each node of an exported program stands for, changes in place included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAY_ALIAS = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "expand",
        "expand_as",
        "unbind",
        "select",
        "slice",
        "chunk",
        "split",
        "split_with_sizes",
        "contiguous",
        "detach",
        "alias",
        "to",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "pad",
    ]
)
"""Operators whose result may share the memory of their first argument."""

SCATTERS = {"aten.slice.Tensor": "aten.slice_scatter.default", "aten.select.int": "aten.select_scatter.default"}
"""What puts a part back into the whole it was cut from."""


@dataclass
class Values:
    """Which value of the graph each fx node stands for.

    One fx node is one tensor object in Python; an in-place operator returns its first argument's object.

    Attributes:
        identity: the node that names a node's tensor object.
        index: the newest value of a tensor object, by its identity.
        family: the node whose storage a node may share.
        parts: the results of a call with several that was written as its decomposition.
        view: of a part: the tensor it was cut from, the operator that puts it back, and that operator's arguments.
    """

    identity: dict[Any, Any] = field(default_factory=dict)
    index: dict[Any, int] = field(default_factory=dict)
    family: dict[Any, Any] = field(default_factory=dict)
    parts: dict[Any, list[Any]] = field(default_factory=dict)
    view: dict[Any, tuple[Any, str, list[Any]]] = field(default_factory=dict)

    def add(self, node: Any, index: int, *, same_as: Any = None, family: Any = None) -> None:
        """A node's value: a new tensor object, or the one of `same_as`; it may share the storage of `family`."""
        self.identity[node] = identity = node if same_as is None else self.identity[same_as]
        self.index[identity] = index
        self.family[node] = node if family is None else self.family[family]

    def renew(self, node: Any, index: int) -> None:
        """The tensor object of a node changed in place."""
        self.index[self.identity[node]] = index

    def alias(self, node: Any, other: Any) -> None:
        """A node that is another's tensor object."""
        self.identity[node], self.family[node] = self.identity[other], self.family[other]

    def wholes(self, target: Any) -> set[Any]:
        """The tensor objects that a part was cut from, and its own."""
        found = {self.identity[target]}
        while target in self.view:
            target = self.view[target][0]
            found.add(self.identity[target])
        return found
