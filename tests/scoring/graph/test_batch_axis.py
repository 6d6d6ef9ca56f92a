"""Each batch rule by name: where it puts the batch axis, what it refuses, and that what it accepts is true of numbers.

Shapes are written as words: `b` is the axis of the examples, `b*3` one with three elements for each example, `3*b` one
in which three groups stand before the examples, and a number is a fixed size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import BatchMixing
from pot_lab.scoring.graph.batch_axis import UNBOUNDED, OperatorCall, Traced, TracedInt, results_of
from pot_lab.scoring.operators import REGISTRY, traced_size

BATCH = 5


@dataclass(frozen=True)
class T:
    """A tensor argument."""

    words: str
    dtype: torch.dtype = torch.float64


def i(words: str) -> T:
    """A tensor of places: 0 or 1."""
    return T(words, torch.int64)


def truth(words: str) -> T:
    """A tensor of truth values."""
    return T(words, torch.bool)


class Size:
    """The batch's size, as a graph has it from `sym_size`, times a number."""

    def __init__(self, times: int = 1) -> None:
        self.times = times


B = Size()
FIXED = TracedInt(BATCH, False)
"""A number that happens to be the batch's size, and does not follow it."""
MIXES = "mixes"


def factors(word: str) -> tuple[int, int]:
    """(groups before the examples, elements for each) of a batched axis."""
    front, _, inner = word.partition("b")
    return int(front.removesuffix("*") or 1), int(inner.removeprefix("*") or 1)


def shape_of(words: str, batch: int) -> tuple[int, ...]:
    def length(word: str) -> int:
        front, inner = factors(word) if "b" in word else (int(word), 0)
        return front * batch * inner if "b" in word else front

    return tuple(length(w) for w in words.split())


def traced(t: T) -> Traced:
    words = t.words.split()
    axis = next((place for place, w in enumerate(words) if "b" in w), None)
    tensor = torch.empty(shape_of(t.words, BATCH), dtype=t.dtype, device="meta")
    return Traced(tensor, axis, 1 if axis is None else factors(words[axis])[0])


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    return [change(v) for v in value] if isinstance(value, list) else change(value)


def results(op: str, arguments: dict[str, Any], batch: int = BATCH) -> list[Traced]:
    """What the operator's rule makes of a call."""

    def shown(value: Any) -> Any:
        if isinstance(value, T):
            return traced(value)
        return TracedInt(batch * value.times, True) if isinstance(value, Size) else value

    def bare(value: Any) -> Any:
        if isinstance(value, Traced):
            return value.tensor
        return value.value if isinstance(value, TracedInt) else value

    operator = REGISTRY[op]
    bound = {p.name: p.default for p in operator.parameters}
    bound |= {name: each(value, shown) for name, value in arguments.items()}
    given = {name: each(value, bare) for name, value in bound.items()}
    if operator.check is not None:
        operator.check(bound)
    if op == "aten.matmul.default":  # the kernel takes no vectors, and is never called with them
        out = torch.matmul(given["a"], given["b"])
    else:
        out = operator.kernel(Arithmetic("float64", "meta"), **given)
    outputs = tuple(out) if isinstance(out, tuple | list) else (out,)
    call = OperatorCall(operator=op, arguments=bound, outputs=outputs, batch=batch)
    return results_of(operator.batch, call)


def words_of(found: Traced) -> str:
    words = [str(n) for n in found.shape]
    if found.axis is not None:
        inner, rest = divmod(found.shape[found.axis], BATCH * found.front)
        assert rest == 0, f"axis {found.axis} of {found.shape} holds no {found.front} x {BATCH} examples"
        front = f"{found.front}*" if found.front > 1 else ""
        words[found.axis] = f"{front}b" + (f"*{inner}" if inner > 1 else "")
    return " ".join(words)


RULES: dict[str, list[tuple[str, dict[str, Any], Any]]] = {
    "elementwise": [
        ("aten.relu.default", {"x": T("b 3")}, "b 3"),
        ("aten.relu.default", {"x": T("3 5")}, "3 5"),
        ("aten.relu.default", {"x": T("3*b 4")}, "3*b 4"),
        ("aten.add.Tensor", {"x": T("b 3"), "other": T("3")}, "b 3"),
        ("aten.add.Tensor", {"x": T("3"), "other": T("b 3")}, "b 3"),
        ("aten.add.Tensor", {"x": T("2 b 3"), "other": T("b 1")}, "2 b 3"),
        ("aten.add.Tensor", {"x": T("b 1"), "other": T("2 b 3")}, "2 b 3"),
        ("aten.add.Tensor", {"x": T("b 3"), "other": T("1 3")}, "b 3"),
        ("aten.add.Tensor", {"x": T("b*2 3"), "other": T("b*2 3")}, "b*2 3"),
        ("aten.add.Tensor", {"x": T("2*b 3"), "other": T("2*b 3")}, "2*b 3"),
        ("aten.add.Tensor", {"x": T("2*b 3"), "other": T("3")}, "2*b 3"),
        ("aten.add.Tensor", {"x": T("4 3"), "other": T("3")}, "4 3"),
        ("aten.add.Tensor", {"x": T("b 3"), "other": T("5 3")}, MIXES),
        ("aten.add.Tensor", {"x": T("5 3"), "other": T("b 3")}, MIXES),
        ("aten.add.Tensor", {"x": T("3 b"), "other": T("5")}, MIXES),
        ("aten.add.Tensor", {"x": T("b 3"), "other": T("2 5 3")}, MIXES),
        ("aten.add.Tensor", {"x": T("b 5"), "other": T("5 b")}, MIXES),
        ("aten.add.Tensor", {"x": T("b 5"), "other": T("b")}, MIXES),
        ("aten.add.Tensor", {"x": T("b*2 3"), "other": T("2*b 3")}, MIXES),
        ("aten.where.self", {"condition": truth("b 1"), "x": T("3"), "other": T("b 3")}, "b 3"),
        ("aten.where.self", {"condition": truth("5 1"), "x": T("3"), "other": T("b 3")}, MIXES),
        ("aten.lerp.Tensor", {"x": T("b 3"), "end": T("3"), "weight": T("")}, "b 3"),
    ],
    "batch_first": [
        ("aten.conv2d.default", {"x": T("b 2 4 4"), "weight": T("3 2 3 3"), "bias": T("3")}, "b 3 2 2"),
        ("aten.conv2d.default", {"x": T("5 2 4 4"), "weight": T("3 2 3 3")}, "5 3 2 2"),
        ("aten.conv1d.default", {"x": T("b 2 4"), "weight": T("3 2 3")}, "b 3 2"),
        ("aten.conv2d.default", {"x": T("2 b 4 4"), "weight": T("3 5 3 3")}, MIXES),
        ("aten.conv2d.default", {"x": T("5 2 4 4"), "weight": T("b 2 3 3")}, MIXES),
        ("aten.conv2d.default", {"x": T("b 2 4 4"), "weight": T("5 2 3 3"), "bias": T("b")}, MIXES),
        ("aten.prelu.default", {"x": T("b 2"), "weight": T("2")}, "b 2"),
        ("aten.prelu.default", {"x": T("b 2 3"), "weight": T("2")}, "b 2 3"),
        ("aten.prelu.default", {"x": T("b"), "weight": T("1")}, MIXES),
        ("aten.prelu.default", {"x": T("2 b"), "weight": T("5")}, MIXES),
        ("aten.prelu.default", {"x": T("4"), "weight": T("1")}, MIXES),
        ("aten.prelu.default", {"x": T("b 5"), "weight": T("b")}, MIXES),
        ("aten.max_pool1d.default", {"x": T("b 2 4"), "kernel_size": [2]}, "b 2 2"),
        ("aten.max_pool2d.default", {"x": T("b 4 4"), "kernel_size": [2]}, MIXES),
        ("aten.max_pool2d.default", {"x": T("b 2 4 4"), "kernel_size": [2]}, "b 2 2 2"),
        ("aten.max_pool3d.default", {"x": T("b 1 2 2 2"), "kernel_size": [2]}, "b 1 1 1 1"),
        ("aten.group_norm.default", {"x": T("b 4 3"), "num_groups": 2, "weight": T("4"), "bias": T("4")}, "b 4 3"),
        ("aten.group_norm.default", {"x": T("b*2 4"), "num_groups": 2}, "b*2 4"),
        ("aten.group_norm.default", {"x": T("2*b 4"), "num_groups": 2}, MIXES),
        ("aten.channel_shuffle.default", {"x": T("b 4 2 2"), "groups": 2}, "b 4 2 2"),
        ("aten.upsample_nearest1d.vec", {"x": T("b 2 3"), "output_size": [6]}, "b 2 6"),
        ("aten.adaptive_max_pool1d.default", {"x": T("b 2 4"), "output_size": [2]}, ["b 2 2", "b 2 2"]),
    ],
    "along": [
        ("aten.softmax.int", {"x": T("b 3 4"), "dim": 1}, "b 3 4"),
        ("aten.softmax.int", {"x": T("b 3 4"), "dim": -1}, "b 3 4"),
        ("aten.softmax.int", {"x": T("3 5"), "dim": 1}, "3 5"),
        ("aten.softmax.int", {"x": T("3 b"), "dim": 0}, "3 b"),
        ("aten.softmax.int", {"x": T("3 b"), "dim": 1}, MIXES),
        ("aten.softmax.int", {"x": T("3 b"), "dim": -1}, MIXES),
        ("aten.softmax.int", {"x": T("b 3"), "dim": 0}, MIXES),
        ("aten.softmax.int", {"x": T("3*b 4"), "dim": 1}, MIXES),
        ("aten.layer_norm.default", {"x": T("b 3 4"), "normalized_shape": [3, 4], "weight": T("3 4")}, "b 3 4"),
        ("aten.layer_norm.default", {"x": T("3 b 4"), "normalized_shape": [4], "bias": T("4")}, "3 b 4"),
        ("aten.layer_norm.default", {"x": T("3 b 4"), "normalized_shape": [5, 4]}, MIXES),
        ("aten.layer_norm.default", {"x": T("3 4"), "normalized_shape": [4], "weight": T("4")}, "3 4"),
        ("aten.layer_norm.default", {"x": T("3 5"), "normalized_shape": [5], "weight": T("b")}, MIXES),
        ("aten.cumsum.default", {"x": T("b 3"), "dim": 1}, "b 3"),
        ("aten.sort.default", {"x": T("b 3"), "dim": 0}, MIXES),
        ("aten.topk.default", {"x": T("b 3"), "k": 2, "dim": 1}, ["b 2", "b 2"]),
    ],
    "reduction": [
        ("aten.sum.dim_IntList", {"x": T("b 3 4"), "dims": [1]}, "b 4"),
        ("aten.sum.dim_IntList", {"x": T("3 b 4"), "dims": [0]}, "b 4"),
        ("aten.sum.dim_IntList", {"x": T("3 b 4"), "dims": [-3]}, "b 4"),
        ("aten.sum.dim_IntList", {"x": T("3 4 b 2"), "dims": [0, 1, 3]}, "b"),
        ("aten.sum.dim_IntList", {"x": T("3 4 b 2"), "dims": [0, -1], "keepdim": True}, "1 4 b 1"),
        ("aten.sum.dim_IntList", {"x": T("3 4"), "dims": [0]}, "4"),
        ("aten.sum.dim_IntList", {"x": T("3 4"), "dims": None}, ""),
        ("aten.sum.dim_IntList", {"x": T("b"), "dims": [0]}, MIXES),
        ("aten.sum.dim_IntList", {"x": T("3 b"), "dims": [-1], "keepdim": True}, MIXES),
        ("aten.sum.dim_IntList", {"x": T("b 3"), "dims": None}, MIXES),
        ("aten.sum.dim_IntList", {"x": T("b 3"), "dims": []}, MIXES),
        ("aten.amax.default", {"x": T("b 3")}, MIXES),
        ("aten.linalg_vector_norm.default", {"x": T("b 3"), "dims": [1]}, "b"),
    ],
    "cut": [
        ("aten.chunk.default", {"x": T("b 4"), "chunks": 2, "dim": 1}, ["b 2", "b 2"]),
        ("aten.chunk.default", {"x": T("b 4"), "chunks": 2, "dim": -1}, ["b 2", "b 2"]),
        ("aten.chunk.default", {"x": T("4"), "chunks": 2, "dim": 0}, ["2", "2"]),
        ("aten.chunk.default", {"x": T("4 b"), "chunks": 2, "dim": -1}, MIXES),
        ("aten.chunk.default", {"x": T("b 4"), "chunks": 2, "dim": 0}, MIXES),
        ("aten.glu.default", {"x": T("b 4")}, "b 2"),
        ("aten.glu.default", {"x": T("4 b*2")}, MIXES),
        ("aten.unfold.default", {"x": T("b 4"), "dimension": 1, "size": 2, "step": 2}, "b 2 2"),
    ],
    "reshape": [
        ("aten.view.default", {"x": T("b 3 4"), "sizes": [B, 12]}, "b 12"),
        ("aten.view.default", {"x": T("b 3 4"), "sizes": [-1, 4]}, "b*3 4"),
        ("aten.view.default", {"x": T("b*3 4"), "sizes": [-1, 3, 4]}, "b 3 4"),
        ("aten.view.default", {"x": T("b*3 4"), "sizes": [-1, 12]}, "b 12"),
        ("aten.view.default", {"x": T("3 b 4"), "sizes": [3, -1]}, "3 b*4"),
        ("aten.view.default", {"x": T("3 b 4"), "sizes": [-1, 4]}, "3*b 4"),
        ("aten.view.default", {"x": T("3*b 4"), "sizes": [3, -1, 4]}, "3 b 4"),
        ("aten.view.default", {"x": T("3*b 4"), "sizes": [3, B, 2, 2]}, "3 b 2 2"),
        ("aten.view.default", {"x": T("6*b 4"), "sizes": [2, -1, 4]}, "2 3*b 4"),
        ("aten.view.default", {"x": T("2 3 b 4"), "sizes": [2, -1, 4]}, "2 3*b 4"),
        ("aten.view.default", {"x": T("2 3 b 4"), "sizes": [6, -1]}, "6 b*4"),
        ("aten.view.default", {"x": T("2 3*b 4"), "sizes": [-1, 4]}, "6*b 4"),
        ("aten.view.default", {"x": T("2 3*b 4"), "sizes": [6, -1, 4]}, "6 b 4"),
        ("aten.view.default", {"x": T("b"), "sizes": [1, -1, 1]}, "1 b 1"),
        ("aten.view.default", {"x": T("b 2"), "sizes": [1, B, 2]}, "1 b 2"),
        ("aten.view.default", {"x": T("3 4"), "sizes": [12]}, "12"),
        ("aten.view.default", {"x": T("2 5"), "sizes": [FIXED, 2]}, "5 2"),
        ("aten.view.default", {"x": T("2 5"), "sizes": [B, 2]}, MIXES),
        ("aten.view.default", {"x": T("b 4"), "sizes": [4, -1]}, MIXES),
        ("aten.view.default", {"x": T("b 4"), "sizes": [2, -1]}, MIXES),
        ("aten.view.default", {"x": T("4 b"), "sizes": [2, -1]}, "2 2*b"),
        ("aten.view.default", {"x": T("4 b 3"), "sizes": [6, -1]}, MIXES),
        ("aten.view.default", {"x": T("4 b"), "sizes": [-1, 2]}, MIXES),
        ("aten.view.default", {"x": T("3*b 4"), "sizes": [2, -1]}, MIXES),
        ("aten.flatten.using_ints", {"x": T("b 3 4"), "start_dim": 1}, "b 12"),
        ("aten.flatten.using_ints", {"x": T("3 b 4"), "start_dim": 0, "end_dim": 1}, "3*b 4"),
        ("aten.unflatten.int", {"x": T("b 6"), "dim": 1, "sizes": [2, 3]}, "b 2 3"),
    ],
    "permute": [
        ("aten.permute.default", {"x": T("b 3 4"), "dims": [1, 2, 0]}, "3 4 b"),
        ("aten.permute.default", {"x": T("3 4 b"), "dims": [-1, 0, 1]}, "b 3 4"),
        ("aten.permute.default", {"x": T("3 4"), "dims": [1, 0]}, "4 3"),
        ("aten.permute.default", {"x": T("2*b 4"), "dims": [1, 0]}, MIXES),
    ],
    "transpose": [
        ("aten.transpose.int", {"x": T("b 3 4"), "first": 0, "second": 1}, "3 b 4"),
        ("aten.transpose.int", {"x": T("b 3 4"), "first": -1, "second": 0}, "4 3 b"),
        ("aten.transpose.int", {"x": T("b 3 4"), "first": 1, "second": 2}, "b 4 3"),
        ("aten.transpose.int", {"x": T("3 4"), "first": 0, "second": 1}, "4 3"),
    ],
    "matrix_transpose": [
        ("aten.t.default", {"x": T("b 3")}, "3 b"),
        ("aten.t.default", {"x": T("3 b")}, "b 3"),
        ("aten.t.default", {"x": T("b")}, "b"),
        ("aten.t.default", {"x": T("3 4")}, "4 3"),
    ],
    "unsqueeze": [
        ("aten.unsqueeze.default", {"x": T("b 3"), "dim": 0}, "1 b 3"),
        ("aten.unsqueeze.default", {"x": T("b 3"), "dim": 1}, "b 1 3"),
        ("aten.unsqueeze.default", {"x": T("b 3"), "dim": -1}, "b 3 1"),
        ("aten.unsqueeze.default", {"x": T("3 b"), "dim": -3}, "1 3 b"),
        ("aten.unsqueeze.default", {"x": T("3 b"), "dim": -2}, "3 1 b"),
        ("aten.unsqueeze.default", {"x": T("3"), "dim": 0}, "1 3"),
    ],
    "squeeze": [
        ("aten.squeeze.dim", {"x": T("1 b 1"), "dims": 0}, "b 1"),
        ("aten.squeeze.dim", {"x": T("1 b 1"), "dims": -1}, "1 b"),
        ("aten.squeeze.dim", {"x": T("3 b 1"), "dims": 0}, "3 b 1"),
        ("aten.squeeze.dims", {"x": T("1 1 b 1"), "dims": [0, 1, 3]}, "b"),
        ("aten.squeeze.dims", {"x": T("1 3 b 1"), "dims": [-4, 1]}, "3 b 1"),
        ("aten.squeeze.dims", {"x": T("1 3"), "dims": [0]}, "3"),
        ("aten.squeeze.dim", {"x": T("b 1"), "dims": 0}, MIXES),
        ("aten.squeeze.dims", {"x": T("1 b"), "dims": [0, -1]}, MIXES),
    ],
    "expand": [
        ("aten.expand.default", {"x": T("b 1"), "sizes": [-1, 3]}, "b 3"),
        ("aten.expand.default", {"x": T("b 1"), "sizes": [2, B, 3]}, "2 b 3"),
        ("aten.expand.default", {"x": T("1 3"), "sizes": [B, 3]}, "b 3"),
        ("aten.expand.default", {"x": T("3"), "sizes": [B, 3]}, "b 3"),
        ("aten.expand.default", {"x": T("3"), "sizes": [B, 2, 3]}, "b 2 3"),
        ("aten.expand.default", {"x": T("3 1"), "sizes": [3, B]}, "3 b"),
        ("aten.expand.default", {"x": T("3 1"), "sizes": [2, 3, Size(2)]}, "2 3 b*2"),
        ("aten.expand.default", {"x": T("1 3"), "sizes": [FIXED, 3]}, "5 3"),
        ("aten.expand.default", {"x": T("1 3"), "sizes": [4, 3]}, "4 3"),
        ("aten.expand.default", {"x": T("1 1"), "sizes": [B, B]}, MIXES),
        ("aten.expand.default", {"x": T("5 3"), "sizes": [B, 3]}, MIXES),
        ("aten.expand.default", {"x": T("5"), "sizes": [2, B]}, MIXES),
    ],
    "concatenation": [
        ("aten.cat.default", {"parts": [T("b 3"), T("b 4")], "dim": 1}, "b 7"),
        ("aten.cat.default", {"parts": [T("b 3"), T("b 4")], "dim": -1}, "b 7"),
        ("aten.cat.default", {"parts": [T("3 b"), T("4 b")], "dim": 0}, "7 b"),
        ("aten.cat.default", {"parts": [T("3"), T("4")], "dim": 0}, "7"),
        ("aten.cat.default", {"parts": [T("b 3"), T("b 3")], "dim": 0}, MIXES),
        ("aten.cat.default", {"parts": [T("3 b"), T("3 b")], "dim": -1}, MIXES),
        ("aten.cat.default", {"parts": [T("b 3"), T("5 4")], "dim": 1}, MIXES),
        ("aten.cat.default", {"parts": [T("b 5"), T("5 b")], "dim": 1}, MIXES),
    ],
    "stack": [
        ("aten.stack.default", {"parts": [T("b 3"), T("b 3")], "dim": 0}, "2 b 3"),
        ("aten.stack.default", {"parts": [T("b 3"), T("b 3")], "dim": 1}, "b 2 3"),
        ("aten.stack.default", {"parts": [T("3 b"), T("3 b")], "dim": -2}, "3 2 b"),
        ("aten.stack.default", {"parts": [T("3 b"), T("3 b")], "dim": -1}, "3 b 2"),
        ("aten.stack.default", {"parts": [T("3"), T("3")], "dim": 0}, "2 3"),
        ("aten.stack.default", {"parts": [T("b 3"), T("5 3")], "dim": 0}, MIXES),
    ],
    "select": [
        ("aten.select.int", {"x": T("b 3 4"), "dim": 1, "index": 0}, "b 4"),
        ("aten.select.int", {"x": T("3 b 4"), "dim": 0, "index": 0}, "b 4"),
        ("aten.select.int", {"x": T("3 b 4"), "dim": -1, "index": 0}, "3 b"),
        ("aten.select.int", {"x": T("3 4"), "dim": 0, "index": 0}, "4"),
        ("aten.select.int", {"x": T("b 3"), "dim": 0, "index": 0}, MIXES),
        ("aten.select.int", {"x": T("3 b"), "dim": -1, "index": 0}, MIXES),
        ("aten.unbind.int", {"x": T("2 b"), "dim": 0}, ["b", "b"]),
        ("aten.unbind.int", {"x": T("b 2"), "dim": 0}, MIXES),
    ],
    "slicing": [
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 1, "start": 1, "end": 3}, "b 2"),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 0}, "b 4"),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 0, "start": 0, "end": UNBOUNDED, "step": 1}, "b 4"),
        ("aten.slice.Tensor", {"x": T("4"), "dim": 0, "start": 1}, "3"),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 0, "start": 1}, MIXES),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 0, "end": 1}, MIXES),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 0, "end": 5}, MIXES),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": 0, "step": 2}, MIXES),
        ("aten.slice.Tensor", {"x": T("b 4"), "dim": -2, "start": -1}, MIXES),
    ],
    "padding": [
        ("aten.constant_pad_nd.default", {"x": T("b 3 4"), "pads": [1, 1]}, "b 3 6"),
        ("aten.constant_pad_nd.default", {"x": T("b 3 4"), "pads": [1, 1, 0, 1]}, "b 4 6"),
        ("aten.constant_pad_nd.default", {"x": T("3 4"), "pads": [1, 1, 1, 1]}, "5 6"),
        ("aten.constant_pad_nd.default", {"x": T("b 3"), "pads": [0, 0, 1, 0]}, MIXES),
        ("aten.constant_pad_nd.default", {"x": T("3 b"), "pads": [1, 0]}, MIXES),
        ("aten.constant_pad_nd.default", {"x": T("b 3"), "pads": [0, 0, 0, 0]}, "b 3"),
        ("aten.pad.default", {"x": T("b 3 4"), "pads": [1, 1], "mode": "reflect"}, "b 3 6"),
        ("aten.pad.default", {"x": T("b 3 4"), "pads": [0, 0, 1, 0, 0, 0]}, "b 4 4"),
        ("aten.pad.default", {"x": T("b 3 4"), "pads": [0, 0, 1, 0, 0, 1]}, MIXES),
        ("aten.pad.default", {"x": T("3 b 4"), "pads": [0, 0, 1, 0]}, MIXES),
    ],
    "expand_as": [
        ("aten.expand_as.default", {"x": T("1 3"), "other": T("b 3")}, "b 3"),
        ("aten.expand_as.default", {"x": T("b 1"), "other": T("2 b 3")}, "2 b 3"),
        ("aten.expand_as.default", {"x": T("3"), "other": T("4 3")}, "4 3"),
        ("aten.expand_as.default", {"x": T("5 3"), "other": T("b 3")}, MIXES),
        ("aten.expand_as.default", {"x": T("b 1"), "other": T("5 3")}, MIXES),
    ],
    "repeat": [
        ("aten.repeat.default", {"x": T("b 3"), "repeats": [1, 2]}, "b 6"),
        ("aten.repeat.default", {"x": T("b 3"), "repeats": [2, 1, 1]}, "2 b 3"),
        ("aten.repeat.default", {"x": T("1 3"), "repeats": [B, 1]}, "b 3"),
        ("aten.repeat.default", {"x": T("3"), "repeats": [B, 2]}, "b 6"),
        ("aten.repeat.default", {"x": T("3 1"), "repeats": [2, B]}, "6 b"),
        ("aten.repeat.default", {"x": T("3 1"), "repeats": [1, 2, Size(2)]}, "1 6 b*2"),
        ("aten.repeat.default", {"x": T("3"), "repeats": [2]}, "6"),
        ("aten.repeat.default", {"x": T("1 3"), "repeats": [FIXED, 1]}, "5 3"),
        ("aten.repeat.default", {"x": T("b 3"), "repeats": [2, 1]}, MIXES),
        ("aten.repeat.default", {"x": T("b 3"), "repeats": [2, 2, 1]}, MIXES),
        ("aten.repeat.default", {"x": T("b 3"), "repeats": [1, B]}, MIXES),
        ("aten.repeat.default", {"x": T("1 1"), "repeats": [B, B]}, MIXES),
        ("aten.repeat.default", {"x": T("2 3"), "repeats": [B, 1]}, "b*2 3"),
        ("aten.repeat.default", {"x": T("2"), "repeats": [1, B]}, "1 b*2"),
    ],
    "repeat_interleave": [
        ("aten.repeat_interleave.self_int", {"x": T("b 3"), "repeats": 2, "dim": 1}, "b 6"),
        ("aten.repeat_interleave.self_int", {"x": T("3 4"), "repeats": 2}, "24"),
        ("aten.repeat_interleave.self_int", {"x": T("b 3"), "repeats": 2}, MIXES),
        ("aten.repeat_interleave.self_int", {"x": T("3 b"), "repeats": 2, "dim": -1}, MIXES),
    ],
    "flipping": [
        ("aten.flip.default", {"x": T("b 3"), "dims": [1]}, "b 3"),
        ("aten.flip.default", {"x": T("3 4"), "dims": [0]}, "3 4"),
        ("aten.flip.default", {"x": T("3 b"), "dims": [0]}, "3 b"),
        ("aten.flip.default", {"x": T("3 b"), "dims": [-1]}, MIXES),
        ("aten.flip.default", {"x": T("b 3"), "dims": [1, 0]}, MIXES),
        ("aten.roll.default", {"x": T("b 3"), "shifts": [1], "dims": [1]}, "b 3"),
        ("aten.roll.default", {"x": T("b 3"), "shifts": [1]}, MIXES),
    ],
    "before_image": [
        ("aten.pixel_shuffle.default", {"x": T("b 4 2 3"), "factor": 2}, "b 1 4 6"),
        ("aten.pixel_shuffle.default", {"x": T("2 b 4 2 3"), "factor": 2}, "2 b 1 4 6"),
        ("aten.pixel_shuffle.default", {"x": T("4 2 3"), "factor": 2}, "1 4 6"),
        ("aten.pixel_unshuffle.default", {"x": T("2 b 2 2"), "factor": 2}, MIXES),
        ("aten.pixel_unshuffle.default", {"x": T("b 2 2"), "factor": 2}, MIXES),
    ],
    "index_select": [
        ("aten.index_select.default", {"x": T("b 3"), "dim": 1, "index": i("4")}, "b 4"),
        ("aten.index_select.default", {"x": T("3 4"), "dim": 0, "index": i("2")}, "2 4"),
        ("aten.index_select.default", {"x": T("b 3"), "dim": 0, "index": i("5")}, MIXES),
        ("aten.index_select.default", {"x": T("3 b"), "dim": -1, "index": i("5")}, MIXES),
        ("aten.index_select.default", {"x": T("3 4"), "dim": 0, "index": i("b")}, MIXES),
    ],
    "indexing": [
        ("aten.index.Tensor", {"x": T("b 3 4"), "indices": [None, i("2")]}, "b 2 4"),
        ("aten.index.Tensor", {"x": T("b 3 4"), "indices": [None, i("2"), i("2")]}, "b 2"),
        ("aten.index.Tensor", {"x": T("3 b"), "indices": [i("2 2")]}, "2 2 b"),
        ("aten.index.Tensor", {"x": T("3 4 b"), "indices": [i("2"), i("2")]}, "2 b"),
        ("aten.index.Tensor", {"x": T("3 b 4"), "indices": [None, None, i("2 2")]}, "3 b 2 2"),
        ("aten.index.Tensor", {"x": T("3 4"), "indices": [i("2")]}, "2 4"),
        ("aten.index.Tensor", {"x": T("b 3"), "indices": [i("5")]}, MIXES),
        ("aten.index.Tensor", {"x": T("b 3"), "indices": [i("5"), i("5")]}, MIXES),
        ("aten.index.Tensor", {"x": T("3 4"), "indices": [i("b")]}, MIXES),
        ("aten.index.Tensor", {"x": T("b 3"), "indices": [None, i("b")]}, MIXES),
    ],
    "gather": [
        ("aten.gather.default", {"x": T("b 3"), "dim": 1, "index": i("b 2")}, "b 2"),
        ("aten.gather.default", {"x": T("3 b"), "dim": 0, "index": i("2 b")}, "2 b"),
        ("aten.gather.default", {"x": T("3 4"), "dim": 1, "index": i("3 2")}, "3 2"),
        ("aten.gather.default", {"x": T("b 3"), "dim": 0, "index": i("b 3")}, MIXES),
        ("aten.gather.default", {"x": T("3 b"), "dim": -1, "index": i("3 b")}, MIXES),
        ("aten.gather.default", {"x": T("b 3"), "dim": 1, "index": i("5 2")}, MIXES),
        ("aten.gather.default", {"x": T("5 3"), "dim": 1, "index": i("b 2")}, MIXES),
        ("aten.gather.default", {"x": T("b*2 3"), "dim": 1, "index": i("b 2")}, MIXES),
    ],
    "slice_scatter": [
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("b 2"), "dim": 1, "start": 1, "end": 3}, "b 4"),
        ("aten.slice_scatter.default", {"x": T("4 3"), "src": T("2 3"), "dim": 0, "start": 1, "end": 3}, "4 3"),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("b 4"), "dim": 0}, "b 4"),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("b 4"), "dim": 0, "start": 0, "end": UNBOUNDED}, "b 4"),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("b 4"), "dim": 0, "end": 5}, MIXES),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("4 4"), "dim": 0, "start": 1}, MIXES),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("b 4"), "dim": 0, "start": -5}, MIXES),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("3 4"), "dim": 0, "step": 2}, MIXES),
        ("aten.slice_scatter.default", {"x": T("5 4"), "src": T("b 4"), "dim": 0}, MIXES),
        ("aten.slice_scatter.default", {"x": T("b 4"), "src": T("5 2"), "dim": 1, "start": 1, "end": 3}, MIXES),
    ],
    "select_scatter": [
        ("aten.select_scatter.default", {"x": T("b 4"), "src": T("b"), "dim": 1, "index": 0}, "b 4"),
        ("aten.select_scatter.default", {"x": T("4 b"), "src": T("b"), "dim": 0, "index": 0}, "4 b"),
        ("aten.select_scatter.default", {"x": T("4 b 3"), "src": T("4 b"), "dim": -1, "index": 0}, "4 b 3"),
        ("aten.select_scatter.default", {"x": T("4 3"), "src": T("3"), "dim": 0, "index": 0}, "4 3"),
        ("aten.select_scatter.default", {"x": T("b 4"), "src": T("5"), "dim": 1, "index": 0}, MIXES),
        ("aten.select_scatter.default", {"x": T("5 4"), "src": T("b"), "dim": 1, "index": 0}, MIXES),
        ("aten.select_scatter.default", {"x": T("b 4"), "src": T("4"), "dim": 0, "index": 0}, MIXES),
        ("aten.select_scatter.default", {"x": T("5 b 5"), "src": T("5 b"), "dim": 0, "index": 0}, MIXES),
    ],
    "scatter": [
        ("aten.scatter.src", {"x": T("b 4"), "dim": 1, "index": i("b 2"), "src": T("b 2")}, "b 4"),
        ("aten.scatter.src", {"x": T("4 b"), "dim": 0, "index": i("2 b"), "src": T("2 b")}, "4 b"),
        ("aten.scatter.src", {"x": T("4 3"), "dim": 0, "index": i("2 3"), "src": T("2 3")}, "4 3"),
        ("aten.scatter.value", {"x": T("b 4"), "dim": 1, "index": i("b 2"), "value": 1.0}, "b 4"),
        ("aten.scatter_add.default", {"x": T("b 4"), "dim": 1, "index": i("b 2"), "src": T("b 2")}, "b 4"),
        ("aten.scatter.value", {"x": T("b 4"), "dim": 0, "index": i("b 4"), "value": 1.0}, MIXES),
        ("aten.scatter.value", {"x": T("4 b"), "dim": -1, "index": i("4 b"), "value": 1.0}, MIXES),
        ("aten.scatter.value", {"x": T("b 4"), "dim": 1, "index": i("5 2"), "value": 1.0}, MIXES),
        ("aten.scatter.src", {"x": T("b 4"), "dim": 1, "index": i("b 2"), "src": T("5 2")}, MIXES),
        ("aten.scatter.src", {"x": T("5 4"), "dim": 1, "index": i("5 2"), "src": T("b 2")}, MIXES),
        ("aten.scatter.value", {"x": T("b*2 4"), "dim": 1, "index": i("b 2"), "value": 1.0}, MIXES),
        ("aten.scatter.src", {"x": T("b 4"), "dim": 1, "index": i("b 2"), "src": T("b*2 2")}, MIXES),
    ],
    "index_add": [
        ("aten.index_add.default", {"x": T("b 4"), "dim": 1, "index": i("2"), "source": T("b 2")}, "b 4"),
        ("aten.index_add.default", {"x": T("4 b"), "dim": 0, "index": i("2"), "source": T("2 b")}, "4 b"),
        ("aten.index_add.default", {"x": T("4 3"), "dim": 0, "index": i("2"), "source": T("2 3")}, "4 3"),
        ("aten.index_add.default", {"x": T("b 4"), "dim": 0, "index": i("5"), "source": T("b 4")}, MIXES),
        ("aten.index_add.default", {"x": T("4 b"), "dim": -1, "index": i("5"), "source": T("4 b")}, MIXES),
        ("aten.index_add.default", {"x": T("b 4"), "dim": 1, "index": i("2"), "source": T("5 2")}, MIXES),
        ("aten.index_add.default", {"x": T("5 4"), "dim": 1, "index": i("2"), "source": T("b 2")}, MIXES),
        ("aten.index_add.default", {"x": T("4 5"), "dim": 1, "index": i("b"), "source": T("4 5")}, MIXES),
    ],
    "last_axis_added": [
        ("aten.one_hot.default", {"x": i("b 3"), "num_classes": 4}, "b 3 4"),
        ("aten.one_hot.default", {"x": i("3"), "num_classes": 4}, "3 4"),
    ],
    "linear": [
        ("aten.linear.default", {"x": T("b 3"), "weight": T("4 3"), "bias": T("4")}, "b 4"),
        ("aten.linear.default", {"x": T("2 b 3"), "weight": T("4 3")}, "2 b 4"),
        ("aten.linear.default", {"x": T("2*b 3"), "weight": T("4 3")}, "2*b 4"),
        ("aten.linear.default", {"x": T("2 3"), "weight": T("4 3")}, "2 4"),
        ("aten.linear.default", {"x": T("3 b"), "weight": T("4 5")}, MIXES),
        ("aten.linear.default", {"x": T("b"), "weight": T("4 5")}, MIXES),
        ("aten.linear.default", {"x": T("2 3"), "weight": T("b 3")}, MIXES),
        ("aten.linear.default", {"x": T("b 3"), "weight": T("b 3")}, MIXES),
        ("aten.linear.default", {"x": T("2 3"), "weight": T("5 3"), "bias": T("b")}, MIXES),
    ],
    "embedding": [
        ("aten.embedding.default", {"weight": T("2 3"), "indices": i("b 4")}, "b 4 3"),
        ("aten.embedding.default", {"weight": T("2 3"), "indices": i("4")}, "4 3"),
        ("aten.embedding.default", {"weight": T("b 3"), "indices": i("4")}, MIXES),
    ],
    "matmul": [
        ("aten.matmul.default", {"a": T("b 3"), "b": T("3 4")}, "b 4"),
        ("aten.matmul.default", {"a": T("b 2 3"), "b": T("b 3 4")}, "b 2 4"),
        ("aten.matmul.default", {"a": T("b 2 3"), "b": T("3 4")}, "b 2 4"),
        ("aten.matmul.default", {"a": T("2 3"), "b": T("b 3 4")}, "b 2 4"),
        ("aten.matmul.default", {"a": T("2 b 3"), "b": T("3 4")}, "2 b 4"),
        ("aten.matmul.default", {"a": T("4 3"), "b": T("3 b")}, "4 b"),
        ("aten.matmul.default", {"a": T("4 3"), "b": T("2 3 b")}, "2 4 b"),
        ("aten.matmul.default", {"a": T("4 3"), "b": T("3 2")}, "4 2"),
        ("aten.matmul.default", {"a": T("3 b"), "b": T("5 4")}, MIXES),
        ("aten.matmul.default", {"a": T("3 5"), "b": T("b 4")}, MIXES),
        ("aten.matmul.default", {"a": T("3 b"), "b": T("5 1")}, MIXES),
        ("aten.matmul.default", {"a": T("1 5"), "b": T("b 4")}, MIXES),
        ("aten.matmul.default", {"a": T("b 3"), "b": T("3")}, MIXES),
        ("aten.matmul.default", {"a": T("3"), "b": T("3 b")}, MIXES),
        ("aten.matmul.default", {"a": T("3"), "b": T("b 3 4")}, MIXES),
        ("aten.matmul.default", {"a": T("3 b"), "b": T("b 4")}, MIXES),
        ("aten.matmul.default", {"a": T("b 3"), "b": T("3 b")}, MIXES),
        ("aten.matmul.default", {"a": T("b 3"), "b": T("b 3 4")}, MIXES),
        ("aten.matmul.default", {"a": T("b 2 3"), "b": T("3 b")}, MIXES),
        ("aten.matmul.default", {"a": T("b 2 3"), "b": T("5 3 4")}, MIXES),
    ],
    "addmm": [
        ("aten.addmm.default", {"x": T("4"), "a": T("b 3"), "b": T("3 4")}, "b 4"),
        ("aten.addmm.default", {"x": T("b 1"), "a": T("b 3"), "b": T("3 4")}, "b 4"),
        ("aten.addmm.default", {"x": T("b 4"), "a": T("b 3"), "b": T("3 4")}, "b 4"),
        ("aten.addmm.default", {"x": T("4 4"), "a": T("4 3"), "b": T("3 4")}, "4 4"),
        ("aten.addmm.default", {"x": T("5 4"), "a": T("b 3"), "b": T("3 4")}, MIXES),
        ("aten.addmm.default", {"x": T("b 4"), "a": T("5 3"), "b": T("3 4")}, MIXES),
        ("aten.addmm.default", {"x": T("b"), "a": T("b 3"), "b": T("3 5")}, MIXES),
    ],
    "einsum": [
        ("aten.einsum.default", {"equation": "bij,bjk->bik", "operands": [T("b 2 3"), T("b 3 4")]}, "b 2 4"),
        ("aten.einsum.default", {"equation": "bi, ji -> jb", "operands": [T("b 3"), T("4 3")]}, "4 b"),
        ("aten.einsum.default", {"equation": "ij->ji", "operands": [T("3 4")]}, "4 3"),
        ("aten.einsum.default", {"equation": "bi,ci->bc", "operands": [T("b 3"), T("b 3")]}, MIXES),
        ("aten.einsum.default", {"equation": "bi->i", "operands": [T("b 3")]}, MIXES),
        ("aten.einsum.default", {"equation": "bi,bi->b", "operands": [T("b 3"), T("5 3")]}, MIXES),
        ("aten.einsum.default", {"equation": "bi,ib->bi", "operands": [T("b 5"), T("5 b")]}, "b 5"),
        ("aten.einsum.default", {"equation": "ab,bc->ac", "operands": [T("b 5"), T("5 b")]}, MIXES),
        ("aten.einsum.default", {"equation": "ij,jk->ik", "operands": [T("3 b"), T("b 4")]}, MIXES),
        ("aten.einsum.default", {"equation": "ij,j->i", "operands": [T("b 3"), T("3")]}, "b"),
    ],
    "bilinear": [
        ("aten.bilinear.default", {"x": T("b 2"), "other": T("b 3"), "weight": T("4 2 3"), "bias": T("4")}, "b 4"),
        ("aten.bilinear.default", {"x": T("2 2"), "other": T("2 3"), "weight": T("4 2 3")}, "2 4"),
        ("aten.bilinear.default", {"x": T("b 2"), "other": T("5 3"), "weight": T("4 2 3")}, MIXES),
        ("aten.bilinear.default", {"x": T("5 2"), "other": T("b 3"), "weight": T("4 2 3")}, MIXES),
        ("aten.bilinear.default", {"x": T("2 b"), "other": T("2 b"), "weight": T("4 5 5")}, MIXES),
        ("aten.bilinear.default", {"x": T("2 2"), "other": T("2 3"), "weight": T("b 2 3")}, MIXES),
        ("aten.bilinear.default", {"x": T("2 2"), "other": T("2 3"), "weight": T("5 2 3"), "bias": T("b")}, MIXES),
    ],
    "attention": [
        ("attention", {"query": T("b 2 3"), "key": T("b 4 3"), "value": T("b 4 2")}, "b 2 2"),
        ("attention", {"query": T("2 b 2 3"), "key": T("b 4 3"), "value": T("b 4 2")}, "2 b 2 2"),
        ("attention", {"query": T("b 2 3"), "key": T("4 3"), "value": T("4 2")}, "b 2 2"),
        ("attention", {"query": T("b 2 3"), "key": T("b 4 3"), "value": T("b 4 2"), "attn_mask": T("2 4")}, "b 2 2"),
        ("attention", {"query": T("2 3"), "key": T("4 3"), "value": T("4 2")}, "2 2"),
        ("attention", {"query": T("2 b 3"), "key": T("2 4 3"), "value": T("2 4 2")}, MIXES),
        ("attention", {"query": T("b 3"), "key": T("4 3"), "value": T("4 2")}, MIXES),
        ("attention", {"query": T("2 4 3"), "key": T("2 b 3"), "value": T("2 b 2")}, MIXES),
        ("attention", {"query": T("b 2 3"), "key": T("5 4 3"), "value": T("b 4 2")}, MIXES),
        (
            "attention",
            {"query": T("b 2 3"), "key": T("b 4 3"), "value": T("b 4 2"), "attn_mask": T("5 2 4")},
            MIXES,
        ),
        (
            "attention",
            {"query": T("b 4 2 3"), "key": T("b 2 4 3"), "value": T("b 2 4 2"), "enable_gqa": True},
            "b 4 2 2",
        ),
        (
            "attention",
            {"query": T("2 b 2 3"), "key": T("2 b 4 3"), "value": T("2 b 4 2"), "enable_gqa": True},
            MIXES,
        ),
    ],
    "made": [
        ("aten.zeros.default", {"sizes": [B, 3]}, "b 3"),
        ("aten.zeros.default", {"sizes": [3, B]}, "3 b"),
        ("aten.zeros.default", {"sizes": [5, 3]}, "5 3"),
        ("aten.zeros.default", {"sizes": [FIXED, B]}, "5 b"),
        ("aten.zeros.default", {"sizes": [B, B]}, MIXES),
    ],
    "like": [
        ("aten.zeros_like.default", {"x": T("3 b")}, "3 b"),
        ("aten.full_like.default", {"x": T("3"), "value": 2.0}, "3"),
    ],
    "fixed": [("aten.arange.default", {"end": 5}, "5")],
    "triangle": [
        ("aten.tril.default", {"x": T("b 3 4")}, "b 3 4"),
        ("aten.triu.default", {"x": T("3 4")}, "3 4"),
        ("aten.tril.default", {"x": T("b 3")}, MIXES),
        ("aten.tril.default", {"x": T("3 b 4")}, MIXES),
        ("aten.tril.default", {"x": T("3 b")}, MIXES),
    ],
    "any_dim": [
        ("aten.argmax.default", {"x": T("b 3"), "dim": 1}, "b"),
        ("aten.argmax.default", {"x": T("3 b"), "dim": 0}, "b"),
        ("aten.argmax.default", {"x": T("3 b"), "dim": -2}, "b"),
        ("aten.argmax.default", {"x": T("3 b 2"), "dim": -1, "keepdim": True}, "3 b 1"),
        ("aten.argmax.default", {"x": T("3 b"), "dim": 0, "keepdim": True}, "1 b"),
        ("aten.argmax.default", {"x": T("3 4")}, ""),
        ("aten.argmax.default", {"x": T("b 3")}, MIXES),
        ("aten.argmax.default", {"x": T("b 3"), "dim": 0}, MIXES),
        ("aten.argmax.default", {"x": T("3 b"), "dim": -1, "keepdim": True}, MIXES),
        ("aten.max.dim", {"x": T("3 b"), "dim": 0}, ["b", "b"]),
    ],
    "two_along_dim": [
        ("aten.cosine_similarity.default", {"x": T("b 3"), "other": T("b 3"), "dim": 1}, "b"),
        ("aten.cosine_similarity.default", {"x": T("3 b"), "other": T("3 1"), "dim": 0}, "b"),
        ("aten.cosine_similarity.default", {"x": T("b 3 4"), "other": T("3 4"), "dim": -1}, "b 3"),
        ("aten.cosine_similarity.default", {"x": T("3 4"), "other": T("b 3 4"), "dim": -2}, "b 4"),
        ("aten.cosine_similarity.default", {"x": T("3 4"), "other": T("3 4"), "dim": 0}, "4"),
        ("aten.cosine_similarity.default", {"x": T("b 3"), "other": T("b 3"), "dim": 0}, MIXES),
        ("aten.cosine_similarity.default", {"x": T("3 b"), "other": T("3 b"), "dim": -1}, MIXES),
        ("aten.cosine_similarity.default", {"x": T("b 3"), "other": T("5 3"), "dim": 1}, MIXES),
    ],
}


def recurrent(x: str, *states: str, batch_first: bool = True, weight: str = "8 3") -> dict[str, Any]:
    """Arguments of an LSTM or GRU of 3 features to 2 (LSTM: four gates; the GRU's have six rows)."""
    return {
        "x": T(x),
        "hx": [T(s) for s in states] if len(states) > 1 else T(states[0]),
        "params": [T(weight), T("8 2" if len(states) > 1 else "6 2")],
        "has_biases": False,
        "num_layers": 1,
        "dropout": 0.0,
        "train": False,
        "bidirectional": False,
        "batch_first": batch_first,
    }


def cell(x: str, *states: str, **weights: T) -> dict[str, Any]:
    rows = "8" if len(states) > 1 else "6"
    given = {"w_ih": T(f"{rows} 3"), "w_hh": T(f"{rows} 2"), "b_ih": T(rows), "b_hh": T(rows)} | weights
    return {"x": T(x), "hx": [T(s) for s in states] if len(states) > 1 else T(states[0]), **given}


WIDE = {"w_ih": T("15 3"), "w_hh": T("15 5"), "b_ih": T("15"), "b_hh": T("15")}
"""Weights of a GRU of 3 features to 5, of which the batch's size could be a factor."""
LSTM, GRU = "aten.lstm.input", "aten.gru.input"
RULES["recurrent"] = [
    (LSTM, recurrent("b 4 3", "1 b 2", "1 b 2"), ["b 4 2", "1 b 2", "1 b 2"]),
    (LSTM, recurrent("4 b 3", "1 b 2", "1 b 2", batch_first=False), ["4 b 2", "1 b 2", "1 b 2"]),
    (GRU, recurrent("b 4 3", "1 b 2", weight="6 3"), ["b 4 2", "1 b 2"]),
    (LSTM, recurrent("b 5 3", "1 5 2", "1 5 2", batch_first=False), MIXES),
    (LSTM, recurrent("b 4 3", "1 5 2", "1 b 2"), MIXES),
    (LSTM, recurrent("b 4 3", "1 b 2", "1 5 2"), MIXES),
    (GRU, recurrent("b 4 3", "1 5 2", weight="6 3"), MIXES),
    (LSTM, recurrent("5 4 3", "1 b 2", "1 b 2"), MIXES),
    (GRU, recurrent("b 4 3", "1 b 5", weight="15 3") | {"params": [T("15 3"), T("15 5")]}, ["b 4 5", "1 b 5"]),
    (GRU, recurrent("b 4 3", "1 b 5", weight="15 3") | {"params": [T("b*3 3"), T("15 5")]}, MIXES),
    (GRU, recurrent("b 4 3", "1 b 5", weight="15 3") | {"params": [T("15 3"), T("15 b")]}, MIXES),
]
RULES["cell"] = [
    ("aten.lstm_cell.default", cell("b 3", "b 2", "b 2"), ["b 2", "b 2"]),
    ("aten.gru_cell.default", cell("b 3", "b 2"), "b 2"),
    ("aten.lstm_cell.default", cell("5 3", "b 2", "b 2"), MIXES),
    ("aten.lstm_cell.default", cell("b 3", "5 2", "b 2"), MIXES),
    ("aten.lstm_cell.default", cell("b 3", "b 2", "5 2"), MIXES),
    ("aten.gru_cell.default", cell("b 3", "5 2"), MIXES),
    *(
        ("aten.gru_cell.default", cell("b 3", "b 5", **(WIDE | {name: T(words)})), MIXES)
        for name, words in (("w_ih", "b*3 3"), ("w_hh", "15 b"), ("b_ih", "b*3"), ("b_hh", "b*3"))
    ),
    ("aten.gru_cell.default", cell("b 3", "b 5", **WIDE), "b 5"),
    ("aten.gru_cell.default", {"x": T("b 3"), "hx": T("b 2"), "w_ih": T("6 3"), "w_hh": T("6 2")}, "b 2"),
]


def full(op: str) -> str:
    return "aten.scaled_dot_product_attention.default" if op == "attention" else op


CASES = [
    pytest.param(full(op), arguments, wanted, id=f"{rule}-{number}")
    for rule, rows in RULES.items()
    for number, (op, arguments, wanted) in enumerate(rows)
]


@pytest.mark.parametrize(("op", "arguments", "wanted"), CASES)
def test_a_rule_says_where_the_batch_is(op: str, arguments: dict[str, Any], wanted: Any) -> None:
    if wanted == MIXES:
        with pytest.raises(BatchMixing, match=r"would mix examples: \w"):
            results(op, arguments)
        return
    found = [words_of(t) for t in results(op, arguments)]
    assert found == (wanted if isinstance(wanted, list) else [wanted])


# ------------------------------------------------------------------------------- the same of numbers


def example(tensor: Tensor, words: str, number: int) -> Tensor:
    """One example of a tensor, with a batch of one in the place of the batch."""
    for axis, word in enumerate(words.split()):
        if "b" in word:
            front, inner = factors(word)
            parts = tensor.unflatten(axis, (front, BATCH, inner)).narrow(axis + 1, number, 1)
            return parts.flatten(axis, axis + 2)
    return tensor


def numbers(t: T, generator: torch.Generator) -> Tensor:
    shape = shape_of(t.words, BATCH)
    if t.dtype == torch.float64:
        return torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.randint(0, 2, shape, generator=generator).to(t.dtype)


@pytest.mark.parametrize(("op", "arguments", "wanted"), [c for c in CASES if c.values[2] != MIXES])
def test_what_a_rule_accepts_is_true_of_numbers(op: str, arguments: dict[str, Any], wanted: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel, arithmetic = REGISTRY[op].kernel, Arithmetic("float64")
    given = {
        name: each(v, lambda v: (v, numbers(v, generator)) if isinstance(v, T) else v) for name, v in arguments.items()
    }

    def run(batch: int, change: Callable[[Tensor, str], Tensor]) -> list[Tensor]:
        def bare(value: Any) -> Any:
            if isinstance(value, tuple):
                return change(value[1].clone(), value[0].words)
            if isinstance(value, Size):
                return batch * value.times
            return value.value if isinstance(value, TracedInt) else value

        out = kernel(arithmetic, **{name: each(value, bare) for name, value in given.items()})
        return list(out) if isinstance(out, tuple | list) else [out]

    names = wanted if isinstance(wanted, list) else [wanted]
    together = run(BATCH, lambda tensor, words: tensor)
    for number in range(BATCH):
        alone = run(1, lambda tensor, words, number=number: example(tensor, words, number))
        for whole, one, words in zip(together, alone, names, strict=True):
            assert torch.equal(example(whole, words, number) + 0, one + 0)


# ------------------------------------------------------------------------------------ the framework


TOTAL = {
    "_transpose_axis",
    "_matrix_transpose_axis",
    "_unsqueeze_axis",
    "_like_axis",
    "_fixed_axis",
    "_last_axis_added_axis",
}
"""Rules that have nothing to refuse."""


def test_every_rule_of_the_registry_is_tried_both_ways() -> None:
    rules = {o.batch.__qualname__ for o in REGISTRY.values() if o.returns != "int"}
    for refused in (False, True):
        tried = {REGISTRY[c.values[0]].batch.__qualname__ for c in CASES if (c.values[2] == MIXES) is refused}
        assert tried | (TOTAL if refused else set()) >= rules


def test_a_batch_of_one_has_no_axis() -> None:
    """Not even where the rule of more would refuse it."""
    x = Traced(torch.empty(1, 3, device="meta"), 0)
    call = OperatorCall(
        operator="aten.sum.dim_IntList",
        arguments={"x": x, "dims": None, "keepdim": False},
        outputs=(torch.empty((), device="meta"),),
        batch=1,
    )
    assert [t.axis for t in results_of(REGISTRY["aten.sum.dim_IntList"].batch, call)] == [None]


def test_a_call_lists_its_tensors_also_those_in_lists() -> None:
    a, b, c = (Traced(torch.empty(2, device="meta"), None) for _ in range(3))
    call = OperatorCall(operator="x", arguments={"one": a, "n": 3, "two": [b, 1, c], "no": None}, outputs=(), batch=2)
    assert [id(t) for t in call.tensors()] == [id(a), id(b), id(c)]
    assert call["n"] == 3 and call.traced("one") is a


def test_the_output_of_a_call_is_its_first_result() -> None:
    first, second = (torch.empty(n, device="meta") for n in (2, 3))
    assert OperatorCall(operator="x", arguments={}, outputs=(first, second), batch=2).output is first


def test_a_slice_without_an_end_ends_at_the_largest_int64() -> None:
    assert torch.iinfo(torch.int64).max == UNBOUNDED


@pytest.mark.parametrize(
    ("words", "dim", "batched"), [("b 3", 0, True), ("b 3", -2, True), ("b 3", 1, False), ("5", 0, False)]
)
def test_a_size_follows_the_batch_where_the_batch_is(words: str, dim: int, batched: bool) -> None:
    assert traced_size(traced(T(words)), dim) == TracedInt(shape_of(words, BATCH)[dim], batched)


def test_results_of_one_call_may_hold_the_batch_at_different_axes() -> None:
    found = results(LSTM, recurrent("b 4 3", "1 b 2", "1 b 2"))
    assert [t.axis for t in found] == [0, 1, 1]
    assert all(a.axis != b.axis for a, b in itertools.pairwise(found[:2]))
