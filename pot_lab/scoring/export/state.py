"""The state of a graph: parameters, buffers, counters and constants of a module, as entries of the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from pot_lab.scoring.errors import DtypeMismatch, ExportFailed
from pot_lab.scoring.export.program import ProgramTables
from pot_lab.scoring.graph.model_graph import STATE_NAME, STATE_NAMES
from pot_lab.scoring.graph.weights import tensor_sha256
from pot_lab.scoring.tensor_file import DTYPES, dtype_name

_NORMS = (torch.ops.aten.batch_norm.default, torch.ops.aten.instance_norm.default)
"""Operators that change their fourth and fifth argument, the running statistics."""


class ExportedState:
    """Collects the state of an exported program.

    Attributes:
        tables: the program's tensors.
        tensors: the weights under their names, those of the entries made so far.
    """

    def __init__(self, module: nn.Module, tables: ProgramTables) -> None:
        self.tables = tables
        self.tensors: dict[str, Tensor] = {}
        self._identities = {name: id(t) for name, t in _named(module)}
        self._trained = {name for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}

    def counters(self, state_nodes: Sequence[Any]) -> dict[Any, int]:
        """Buffers that forward only counts up, as batch norm's number of batches, with their step; also the calls that
        count, with 0."""
        found: dict[Any, int] = {}
        for node in state_nodes:
            steps: list[Any] = []
            waiting = list(node.users)
            while waiting and _counts(waiting[-1]):
                call = waiting.pop()
                steps.append(call)
                waiting += call.users
            tensor = self.tables.tensors[self.tables.names[node.name]] if steps else None
            if tensor is None or tensor.dtype is not torch.int64 or tensor.dim():
                continue
            if steps and not waiting:  # nothing but counting
                found |= {node: sum(call.args[1] for call in steps), **dict.fromkeys(steps, 0)}
        return found

    def kept(self, node: Any) -> bool:
        """Whether a tensor belongs to the graph though forward does not use it: what the module's `state_dict` has, so
        that trained weights go back into the module."""
        name = self.tables.names[node.name]
        tensor = self.tables.tensors[name]
        return name in self.tables.persistent and dtype_name(tensor.dtype) in DTYPES and tensor.numel() > 0

    def entry(self, node: Any, counters: Mapping[Any, int]) -> dict[str, Any]:
        """The entry of a placeholder. Raises: DtypeMismatch, ExportFailed."""
        name = self.tables.names[node.name]
        if not STATE_NAME.fullmatch(name):
            raise ExportFailed("a name in the module cannot stand in a graph; rename it", seen=name, wanted=STATE_NAMES)
        tensor = self.tables.tensors[name].detach()
        entry: dict[str, Any] = {"name": name, "dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
        if entry["dtype"] not in DTYPES:
            raise DtypeMismatch(
                f"state {name!r} has a number type that is not accepted", seen=tensor.dtype, wanted=", ".join(DTYPES)
            )
        if node in counters:
            entry |= {"kind": "counter", "step": counters[node]}
        elif node.name in self.tables.parameters:
            frozen = {"kind": "frozen", "sha256": tensor_sha256(tensor)}
            entry |= {"kind": "parameter"} if name in self._trained else frozen
        elif node.name in self.tables.buffers and name in self.tables.persistent:
            entry["kind"] = "buffer"
        else:
            entry |= {"kind": "constant", "sha256": tensor_sha256(tensor)}
        self.tensors[name] = tensor
        return entry

    def folded_entry(self, node: Any, tensor: Tensor) -> dict[str, Any]:
        """The entry of a constant that export computed; whole numbers in int64."""
        if tensor.dtype not in DTYPES.values() or tensor.dtype in (torch.int32, torch.uint8, torch.int8):
            tensor = tensor.to(torch.float32 if tensor.dtype.is_floating_point else torch.int64)
        name = f"fixed_{node.name}"[:100]
        while name in self.tensors:
            name = f"{name[:90]}_{len(self.tensors)}"
        self.tensors[name] = tensor
        facts = {"name": name, "dtype": dtype_name(tensor.dtype), "shape": list(tensor.shape)}
        return facts | {"kind": "constant", "sha256": tensor_sha256(tensor)}

    def identity(self, name: str) -> Any:
        """What all names of one parameter or buffer of the module have in common."""
        return self._identities.get(name, name)

    def aliases(self, state: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Second names of shared parameters and buffers in the module's `state_dict`."""
        entries = {entry["name"] for entry in state if entry["kind"] != "constant"}
        targets = {self._identities[name]: name for name in entries if name in self._identities}
        return {
            name: targets[key]
            for name, key in self._identities.items()
            if name not in entries and key in targets and name in self.tables.persistent
        }

    def check_memory(self, state: Sequence[Mapping[str, Any]], fx: Sequence[Any]) -> None:
        """Refuse two tensors of the state that lie in the same memory where training changes one of them: in torch a
        change of one is a change of the other, and in a graph each is a tensor of its own.

        Args:
            state: all entries.
            fx: the nodes of the program.
        Raises: ExportFailed, naming both.
        """
        statistics = [n for node in fx if node.target in _NORMS for n in node.args[3:5]]
        running = {self.tables.names[n.name] for n in statistics if n is not None and n.name in self.tables.names}
        changing = {entry["name"] for entry in state if entry["kind"] in ("parameter", "counter")} | running
        by_storage: dict[int, list[str]] = {}
        for name, tensor in self.tensors.items():
            if tensor.numel():
                by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
        for name in changing:
            given = self.tensors.get(name)
            if given is not None and any(n > 1 and not s for n, s in zip(given.shape, given.stride(), strict=True)):
                raise ExportFailed(
                    f"the elements of {name!r} share memory, as after expand(), so torch cannot change one of them: "
                    "give them memory of their own with .clone()",
                    seen=f"shape {tuple(given.shape)}, strides {given.stride()}",
                )
        for first, second in _pairs(by_storage):
            if not {first, second} & changing or not _overlap(self.tensors[first], self.tensors[second]):
                continue
            raise ExportFailed(
                f"{first!r} and {second!r} share memory, so in torch training one changes the other, and a graph keeps "
                "them apart: use one parameter in both places, transposed in forward where it has to be, such as "
                "F.linear(x, self.encoder.weight.t()); or give one a copy of its own with .clone()",
                seen=f"shapes {tuple(self.tensors[first].shape)} and {tuple(self.tensors[second].shape)}",
            )


def _counts(call: Any) -> bool:
    return call.target is torch.ops.aten.add_.Tensor and type(call.args[1]) is int and not call.kwargs


def _named(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _pairs(by_storage: Mapping[int, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for names in by_storage.values():
        yield from combinations(names, 2)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one storage have an element in common."""
    if a.dtype != b.dtype:
        return True
    first, last = [], []
    for t in (a, b):
        first.append(t.storage_offset())
        last.append(t.storage_offset() + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)))
    if max(first) > min(last):
        return False
    used = torch.zeros(max(last) + 1, dtype=torch.bool)
    used.as_strided(a.shape, a.stride(), a.storage_offset()).fill_(True)
    return bool(used.as_strided(b.shape, b.stride(), b.storage_offset()).any())
