"""Ways to write a model that many people use: exported, trained as in torch, scored alike by both implementations."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from pot_lab.scoring.errors import ExportFailed
from tests.scoring import numpy_scoring
from tests.scoring.operators.test_families import same_bits

G = torch.Generator().manual_seed(0)
X = torch.randn(6, 8, generator=G)
STATES = torch.randn(6, 12, 5, generator=G)
PICTURES = torch.randn(6, 3, 8, 8, generator=G)
WORDS = torch.randint(0, 20, (6, 9), generator=G)
ENDS = torch.randint(0, 12, (6,), generator=G)


class Net(nn.Module):
    """Layers that the test gives, and a forward."""

    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, *given: Tensor) -> object:
        return self._forward(self, *given)


def linear(*sizes: int) -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(*sizes)


def drop_path(n: Net, x: Tensor) -> Tensor:
    y = n.first(x)
    if n.training:
        y = y * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(0.8).div_(0.8)
    return n.last(x + y)


def stochastic_depth(n: Net, x: Tensor) -> Tensor:
    y = n.first(x)
    if n.training:
        noise = torch.empty([x.shape[0]] + [1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        noise = noise.bernoulli_(0.7)
        noise.div_(0.7)
        y = y * noise
    return n.last(x + y)


def frozen_backbone(n: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        features = torch.relu(n.norm(n.first(x)))
        with torch.enable_grad():
            pass
    return n.last(features)


def two_blocks(n: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        left = n.first(x)
    right = n.first(x)
    with torch.no_grad():
        shift = right.mean(1, keepdim=True)
    return n.last(left + right - shift)


def copied(n: Net, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y.copy_(n.first(x))
    return n.last(y)


def cleared(n: Net, x: Tensor) -> Tensor:
    y = n.first(x).clone()
    y[:, :2].zero_()
    return n.last(y)


class StandardConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.reshape(1, self.out_channels, -1)
        w = F.batch_norm(w, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


@dataclass
class Named:
    loss: Tensor | None
    logits: Tensor


Pair = namedtuple("Pair", ["logits", "loss"])
torch.export.register_dataclass(Named)
FIRST = {"first": linear(8, 8), "last": linear(8, 3)}
CASES: dict[str, tuple[Net, tuple[Tensor, ...]]] = {
    "drop path": (Net(drop_path, **FIRST), (X,)),
    "stochastic depth": (Net(stochastic_depth, **FIRST), (X,)),
    "a backbone without gradients": (Net(frozen_backbone, norm=nn.BatchNorm1d(8), **FIRST), (X,)),
    "blocks without gradients beside others": (Net(two_blocks, **FIRST), (X,)),
    "a copy into memory without numbers": (Net(copied, **FIRST), (X,)),
    "a part set to zero": (Net(cleared, **FIRST), (X,)),
    "the last state of each example": (
        Net(lambda n, x, end: n.last(x[torch.arange(x.size(0)), end]), last=linear(5, 3)),
        (STATES, ENDS),
    ),
    "a state from the end": (
        Net(lambda n, x, end: n.last(x[torch.arange(x.shape[0]), end - 12]), last=linear(5, 3)),
        (STATES, ENDS),
    ),
    "neighbours of each example": (
        Net(lambda n, x, near: n.last(x[torch.arange(x.size(0))[:, None], near].mean(1)), last=linear(5, 3)),
        (STATES, torch.randint(0, 12, (6, 4), generator=G)),
    ),
    "one column of each example": (
        Net(lambda n, x, k: n.last(x * x[torch.arange(x.shape[0]), k].unsqueeze(1)), last=linear(8, 3)),
        (X, ENDS % 8),
    ),
    "fixed places of each example": (
        Net(
            lambda n, x: n.last(x[torch.arange(x.size(0))[:, None, None], torch.tensor([[[1], [7]]])].flatten(1)),
            last=linear(10, 3),
        ),
        (STATES,),
    ),
    "numbers of the examples that nothing needs": (
        Net(lambda n, x: (torch.arange(x.size(0))[:, None] + 1, n.last(x))[1], last=linear(8, 3)),
        (X,),
    ),
    "whole numbers in 32 bits": (
        Net(
            lambda n, w: n.last(n.words(w.ne(1).int().cumsum(1).type_as(w)).mean(1)),
            words=nn.Embedding(20, 8),
            last=linear(8, 3),
        ),
        (WORDS,),
    ),
    "words in another order": (
        Net(
            lambda n, w, order: n.last(n.words(w.gather(1, order))[:, 0]), words=nn.Embedding(20, 8), last=linear(8, 3)
        ),
        (WORDS, torch.rand(6, 9, generator=G).argsort(1)),
    ),
    "a norm used twice": (
        Net(lambda n, x: n.last(n.norm(x) - n.norm(x * 2)), norm=nn.BatchNorm1d(8), last=linear(8, 3)),
        (X,),
    ),
    "a norm used three times": (
        Net(lambda n, x: n.last(n.norm(n.norm(n.norm(x)))), norm=nn.BatchNorm1d(8), last=linear(8, 3)),
        (X,),
    ),
    "a weight that is standardised": (
        Net(lambda n, x: n.last(n.conv(x).mean((2, 3))), conv=StandardConv(3, 8, 3), last=linear(8, 3)),
        (PICTURES,),
    ),
    "logits and no loss": (Net(lambda n, x: (n.last(x), None), last=linear(8, 3)), (X,)),
    "logits by name": (Net(lambda n, x: {"loss": x.sum(1), "logits": n.last(x)}, last=linear(8, 3)), (X,)),
    "a dataclass": (Net(lambda n, x: Named(None, n.last(x)), last=linear(8, 3)), (X,)),
    "a named tuple": (Net(lambda n, x: Pair(n.last(x), None), last=linear(8, 3)), (X,)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mainstream_form_is_exported_trained_and_scored(name: str) -> None:
    module, inputs = CASES[name]
    artifact = export_model(module, inputs)
    graph = load_graph(artifact.graph)
    twin = trainable(graph, artifact.weights)
    module.load_state_dict(twin.state_dict())
    (found,) = exact_model(graph, artifact.weights).run(*inputs)
    assert same_bits(found, numpy_scoring.run(artifact.graph, artifact.weights, *(x.numpy() for x in inputs)))
    wanted = module.eval()(*inputs)
    module.train()
    if isinstance(wanted, dict):
        wanted = wanted["logits"]
    wanted = getattr(wanted, "logits", wanted[0] if isinstance(wanted, tuple) else wanted)
    assert torch.allclose(found, wanted.detach().double(), atol=1e-5)


def test_a_norm_that_is_used_twice_counts_twice() -> None:
    module, inputs = CASES["a norm used twice"]
    artifact = export_model(module, inputs)
    twin = trainable(load_graph(artifact.graph), artifact.weights)
    twin.train()(*inputs)
    assert int(twin.get_buffer("norm.num_batches_tracked")) == 2


def test_what_follows_a_weight_is_looked_at_once() -> None:
    """Forty residual blocks have a million million paths from the first weight to the output."""
    blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(40))

    def forward(n: Net, x: Tensor) -> Tensor:
        for block in n.blocks:
            x = x + torch.relu(block(x))
        return n.last(x)

    module = Net(forward, blocks=blocks, last=linear(4, 3))
    assert len(load_graph(export_model(module, X[:, :4]).graph).state) == 82


def test_a_backbone_without_gradients_is_not_trained() -> None:
    module, inputs = CASES["a backbone without gradients"]
    artifact = export_model(module, inputs)
    twin = trainable(load_graph(artifact.graph), artifact.weights).train()
    twin(*inputs).square().sum().backward()
    assert twin.get_parameter("first.weight").grad is None
    assert int(twin.get_buffer("norm.num_batches_tracked")) == 1


def test_a_whole_number_from_outside_is_outside_of_every_table() -> None:
    module, (words, order) = CASES["words in another order"]
    artifact = export_model(module, (words, order))
    exact = exact_model(load_graph(artifact.graph), artifact.weights)
    (found,) = exact.run(words, order + 9 * (torch.arange(6) == 2).unsqueeze(1))
    assert torch.isnan(found[2]).all() and not torch.isnan(found[[0, 1, 3, 4, 5]]).any()


@pytest.mark.parametrize(
    "forward",
    [
        lambda n, x: n.last(x * torch.empty(x.shape[0], 1).bernoulli_(0.5)),
        lambda n, x: n.last(x * torch.empty(x.shape[0], 1).bernoulli_(0.5)) if n.training else n.last(x),
    ],
)
def test_noise_that_eval_mode_does_not_undo_is_refused(forward: Callable[..., Tensor]) -> None:
    with pytest.raises(ExportFailed, match="eval mode"):
        export_model(Net(forward, last=linear(8, 3)), X)
