"""What comes back from an order prints as something that its owner knows again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pot_lab.scoring import export_model, load_graph, trainable


def test_a_twin_prints_its_weights_by_name_and_shape() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    artifact = export_model(net, torch.rand(2, 1, 8, 8))
    shown = str(trainable(load_graph(artifact.graph), artifact.weights)).splitlines()
    assert shown[0] == "TrainableModel(" and shown[1].endswith("operations, 338 weights")
    assert "  (0): Weights(weight [4, 1, 3, 3], bias [4])" in shown
    assert "  (3): Weights(weight [2, 144], bias [2])" in shown
    assert "_Scope" not in "".join(shown)


@pytest.mark.parametrize("examples", [3, 12])
def test_group_norm_of_data_with_channels_last_does_not_end_the_process(examples: int) -> None:
    net = nn.Sequential(nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(216, 2))
    x = torch.randn(examples, 6, 6, 6).to(memory_format=torch.channels_last)
    artifact = export_model(net, x)
    twin = trainable(load_graph(artifact.graph), artifact.weights)
    for _ in range(3):
        twin(x).square().sum().backward()
    plain = trainable(load_graph(artifact.graph), artifact.weights)
    for _ in range(3):
        plain(x.contiguous()).square().sum().backward()
    for mine, other in zip(twin.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)
