"""A refusal names the part it is about; tables looked up by number are taken over."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from pot_lab.scoring.errors import ExportFailed, UnsupportedOperator

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Part(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def around(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), part), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (Part(lambda x: F.dropout(x, 0.5)), r"in eval mode too.*, in '1\.1' \(Part\)"),
        (Part(lambda x: x + random.random()), r"Python's `random`.*, in '1\.1' \(Part\)"),
        (Part(lambda x: x + float(np.random.rand())), r"NumPy.*, in '1\.1' \(Part\)"),
        (Counting(), r"counts in an attribute.*'calls' of 1\.1 \(Counting\)"),
        (Part(lambda x: Sign.apply(x)), r"calls Sign at test_culprits\.py:\d+"),
        (Part(Sign.apply), r"it calls Sign \(seen"),
        (Part(lambda x: torch.from_numpy(x.detach().numpy() * 2)), r"write \.detach\(\).*test_culprits\.py:\d+"),
        (Part(lambda x: x[:4].repeat(2, 1)[: x.shape[0]]), r"fixes the batch's size.*test_culprits\.py:\d+"),
    ],
)
def test_a_refusal_names_the_part(part: nn.Module, reason: str) -> None:
    net = around(part)
    with pytest.raises(ExportFailed, match=reason):
        export_model(net, X)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert "apply" in torch.autograd.Function.__dict__ and Sign.apply(torch.ones(1)) == 1


def test_the_part_is_the_innermost() -> None:
    with pytest.raises(ExportFailed, match=r"in '0\.1\.1' \(Part\)"):
        export_model(nn.Sequential(around(Part(lambda x: F.dropout(x, 0.5))), nn.Linear(3, 2)), X)


@pytest.mark.parametrize(
    ("net", "advice"),
    [
        (
            nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
            r"keep it in eval mode.*parametrizations.weight_norm",
        ),
        (nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), "use weight_norm"),
        (nn.Sequential(Part(lambda x: x.cummax(1)[0]), nn.Linear(4, 3)), "amax"),
        (nn.Sequential(Part(lambda x: x.index_fill(1, torch.tensor([1]), 0.5)), nn.Linear(4, 3)), "torch.where"),
    ],
)
def test_an_operator_without_a_rule_comes_with_what_to_write(net: nn.Module, advice: str) -> None:
    with pytest.raises(UnsupportedOperator, match=advice):
        export_model(net, X)


def test_what_is_advised_works() -> None:
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)
    net = nn.Sequential(
        Part(lambda x: x.unsqueeze(-2).masked_fill(later, -1e9).amax(-1)),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    )
    artifact = export_model(net, X)
    twin = trainable(load_graph(artifact.graph), artifact.weights).eval()
    assert torch.equal(net[0](X), X.cummax(1)[0])
    assert torch.allclose(twin(X), net(X))


class Lookup(nn.Module):
    """A learned table, read at places that the data give."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(*shape))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, numbers: Tensor) -> Tensor:
        return (self.table * self.scale)[numbers].flatten(1)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3)])
@pytest.mark.parametrize("places", [(), (4,), (2, 2)])
def test_a_table_is_looked_up_by_each_examples_numbers(shape: tuple[int, ...], places: tuple[int, ...]) -> None:
    if not places and len(shape) == 1:
        places = (1,)
    net = Lookup(*shape)
    numbers = torch.randint(-5, 5, (7, *places), generator=torch.Generator().manual_seed(1))
    artifact = export_model(net, numbers)
    graph = load_graph(artifact.graph)
    twin = trainable(graph, artifact.weights)
    assert torch.equal(twin(numbers), net(numbers))
    (exact,) = exact_model(graph, artifact.weights).run(numbers)
    assert torch.equal(exact, net(numbers).double())
    for module in (net, twin):
        (module(numbers) * torch.arange(net(numbers).numel()).reshape(7, -1)).sum().backward()
    assert torch.allclose(net.table.grad, twin.table.grad)  # type: ignore[arg-type]
