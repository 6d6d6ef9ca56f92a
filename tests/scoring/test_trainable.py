"""What comes back from an order prints as something that its owner knows again."""

from __future__ import annotations

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
