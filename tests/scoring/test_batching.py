"""Whatever the batch rules accept gives each example the result it has alone; what they cannot prove they refuse."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pot_lab.scoring import load_graph
from pot_lab.scoring.errors import BatchMixing, HostileGraph, ShapeMismatch
from pot_lab.scoring.graph import encode_graph
from pot_lab.scoring.tensor_file import write_tensors
from tests.scoring.graphs import document, entry

WEIGHTS = write_tensors({"row": torch.arange(1.0, 5.0), "square": torch.arange(16.0).reshape(4, 4)})
STATE = [
    {"name": "row", "kind": "parameter", "dtype": "float32", "shape": [4]},
    {"name": "square", "kind": "parameter", "dtype": "float32", "shape": [4, 4]},
]
SIZES = st.sampled_from([-1, 1, 2, 3, 4, 6, 8, 12, 24])
DIMS = st.integers(-4, 3)


@st.composite
def calls(draw: st.DrawFn, last: int) -> dict[str, Any]:
    """A call on the last value, or on the last and an earlier one."""
    v, earlier = {"$": last}, {"$": draw(st.integers(0, last))}
    op, args = draw(
        st.sampled_from(
            [
                ("aten.view.default", [v, draw(st.lists(SIZES, min_size=1, max_size=4))]),
                ("aten.reshape.default", [v, draw(st.lists(SIZES, min_size=1, max_size=4))]),
                ("aten.permute.default", [v, draw(st.permutations(range(draw(st.integers(1, 4)))))]),
                ("aten.transpose.int", [v, draw(DIMS), draw(DIMS)]),
                ("aten.flatten.using_ints", [v, draw(DIMS), draw(DIMS)]),
                ("aten.unsqueeze.default", [v, draw(DIMS)]),
                ("aten.squeeze.dim", [v, draw(DIMS)]),
                ("aten.select.int", [v, draw(DIMS), draw(st.integers(-2, 1))]),
                ("aten.slice.Tensor", [v, draw(DIMS), draw(st.integers(-2, 2)), draw(st.integers(-1, 4)), 1]),
                ("aten.expand.default", [v, draw(st.lists(SIZES, min_size=1, max_size=4))]),
                ("aten.sum.dim_IntList", [v, [draw(DIMS)], draw(st.booleans())]),
                ("aten.softmax.int", [v, draw(DIMS)]),
                ("aten.add.Tensor", [v, earlier]),
                ("aten.mul.Tensor", [v, earlier]),
                ("aten.matmul.default", [v, earlier]),
                ("aten.linear.default", [v, earlier]),
                ("aten.cat.default", [[v, earlier], draw(DIMS)]),
                ("aten.stack.default", [[v, v], draw(DIMS)]),
                ("aten.layer_norm.default", [v, [4]]),
                ("aten.constant_pad_nd.default", [v, [1, 0, 0, 1][: 2 * draw(st.integers(1, 2))]]),
            ]
        )
    )
    return {"op": op, "args": args, "kwargs": {}}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    first = 3
    nodes = [draw(calls(first - 1 + i)) for i in range(draw(st.integers(1, 4)))]
    return document(inputs=[entry((2, 3, 4))], state=STATE, nodes=nodes, outputs=[first - 1 + len(nodes)])


def test_an_accepted_graph_never_mixes_examples() -> None:
    seen: Counter[str] = Counter()
    inputs = torch.randn(6, 2, 3, 4, generator=torch.Generator().manual_seed(0))

    @settings(max_examples=500, derandomize=True, database=None)
    @given(documents())
    def check(graph: dict[str, Any]) -> None:
        try:
            loaded = load_graph(encode_graph(graph))
        except (BatchMixing, ShapeMismatch, HostileGraph) as refusal:
            seen[type(refusal).__name__] += 1
            return
        seen["accepted"] += 1
        exact = loaded.exact(WEIGHTS)
        alone = torch.cat([exact.run(inputs[i : i + 1])[0] for i in range(6)]).numpy() + 0.0
        for batch in (2, 4, 6):
            try:
                parts = [exact.run(inputs[i : i + batch])[0] for i in range(0, 6, batch)]
            except BatchMixing:
                continue
            assert np.array_equal(torch.cat(parts).numpy() + 0.0, alone, equal_nan=True)

    check()
    assert seen["accepted"] >= 20 and seen["BatchMixing"] >= 20, f"the walk must reach both answers: {seen}"


def test_a_shape_that_fits_by_chance_is_refused_for_that_batch() -> None:
    """Six examples of a fixed tensor's height are no reason to add its rows to them."""
    graph = document(
        inputs=[entry((4,))],
        state=STATE,
        nodes=[{"op": "aten.add.Tensor", "args": [{"$": 2}, {"$": 1}], "kwargs": {}}],
        outputs=[3],
    )
    try:
        load_graph(encode_graph(graph))
    except (BatchMixing, ShapeMismatch):
        return
    raise AssertionError("rows of a fixed tensor were added to examples")
