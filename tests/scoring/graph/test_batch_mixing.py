"""Whatever the batch rules accept gives each example the result it has alone; what they cannot prove they refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pot_lab.scoring import exact_model, export_model, load_graph
from pot_lab.scoring.errors import BatchMixing, ExportFailed, HostileGraph, ShapeMismatch
from pot_lab.scoring.graph.model_graph import encode_graph
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
                ("aten.cumsum.default", [v, draw(DIMS)]),
                ("aten.flip.default", [v, [draw(DIMS)]]),
                ("aten.repeat.default", [v, draw(st.lists(st.integers(1, 2), min_size=1, max_size=4))]),
                ("aten.unflatten.int", [v, draw(DIMS), draw(st.lists(SIZES, min_size=1, max_size=3))]),
                ("aten.amax.default", [v, [draw(DIMS)], draw(st.booleans())]),
                ("aten.scaled_dot_product_attention.default", [v, earlier, earlier]),
                ("aten.expand_as.default", [v, earlier]),
                ("aten.addmm.default", [v, earlier, v]),
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

    @settings(max_examples=300, derandomize=True, database=None)
    @given(documents())
    def check(graph: dict[str, Any]) -> None:
        try:
            loaded = load_graph(encode_graph(graph))
        except (BatchMixing, ShapeMismatch, HostileGraph) as refusal:
            seen[type(refusal).__name__] += 1
            return
        seen["accepted"] += 1
        exact = exact_model(loaded, WEIGHTS)
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


REFUSED: dict[str, Callable[..., torch.Tensor]] = {
    "places in the batch": lambda x: x + torch.arange(x.shape[0])[:, None, None],
    "attention over the batch": lambda x: F.scaled_dot_product_attention(
        x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1)
    ).transpose(0, 1),
    "a triangle of the batch": lambda x: x[:, 0].tril()[:, None].expand(-1, 3, -1),
    "rolled examples": lambda x: x.roll(1, 0),
    "picked examples": lambda x: x[torch.tensor([0, 0])] if x.shape[0] == 2 else x.index_select(0, torch.tensor([0])),
    "a running sum over examples": lambda x: x.cumsum(0),
    "the best of all examples": lambda x: x - x.amax((0, 2), keepdim=True),
    "einsum over examples": lambda x: torch.einsum("bij,cij->bc", x, x)[:, :1, None].expand(-1, 3, 4),
    "a product of two batches": lambda x: torch.einsum("bij,cij->bij", x, x),
    "gathered from other examples": lambda x: x.gather(0, torch.zeros_like(x, dtype=torch.long)),
    "normalised over examples": lambda x: F.normalize(x, dim=0),
    "softmax of interleaved examples": lambda x: (
        F.softmax(x.transpose(0, 1).reshape(-1, 4), 0).reshape(3, -1, 4).transpose(0, 1)
    ),
    "noise of interleaved examples": lambda x: x.transpose(0, 1).reshape(-1, 4).reshape(-1, 3, 4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_looks_at_other_examples_is_refused(name: str) -> None:
    class Mixing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return REFUSED[name](x)

    with pytest.raises((BatchMixing, ExportFailed, HostileGraph)):
        export_model(Mixing(), torch.randn(5, 3, 4))


def test_examples_may_be_interleaved_with_time_and_come_back() -> None:
    """As multi-head attention does: [time, batch] as one axis for a linear layer."""

    class Interleaved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = F.relu(self.layer(x.transpose(0, 1).reshape(-1, 4)))
            return flat.view(3, -1, 4).transpose(0, 1)

    module, inputs = Interleaved(), torch.randn(6, 3, 4)
    artifact = export_model(module, inputs)
    exact = exact_model(load_graph(artifact.graph), artifact.weights)
    alone = torch.cat([exact.run(inputs[i : i + 1])[0] for i in range(6)])
    assert torch.equal(exact.run(inputs)[0], alone)
    assert torch.allclose(alone, module(inputs).double(), atol=1e-5)
