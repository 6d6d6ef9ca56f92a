"""Architectures that users of the field meet: each exports, has the second implementation's bits, is itself."""

from __future__ import annotations

import pytest
import torch

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from tests.scoring import numpy_scoring
from tests.scoring.operators.test_families import same_bits
from tests.scoring.zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_an_architecture_is_scored_to_the_bit(name: str) -> None:
    module, inputs = ZOO[name]
    module.eval()
    artifact = export_model(module, inputs)
    graph = load_graph(artifact.graph)
    for slices in (1, 2):
        exact = exact_model(graph, artifact.weights, slices=slices)
        (out,) = exact.run(*inputs)
        oracle = numpy_scoring.run(artifact.graph, artifact.weights, *(x.numpy() for x in inputs), slices=slices)
        assert same_bits(out, oracle)
        alone = torch.cat([exact.run(*(x[i : i + 1] for x in inputs))[0] for i in range(5)])
        assert same_bits(out, alone.numpy())
    wanted, twin = module(*inputs), trainable(graph, artifact.weights).eval()
    assert torch.equal(twin(*inputs), wanted)
    assert set(twin.state_dict()) == set(module.state_dict())
    assert torch.allclose(out, wanted.double(), rtol=1e-4, atol=1e-4)
