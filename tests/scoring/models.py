"""Small mainstream models, as a client would write them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import ModelArtifact, export_model
from tests.scoring.architectures import (
    GPT,
    Bert,
    BertWithFeatures,
    GRUClassifier,
    Llama,
    LSTMTagger,
    MobileNetV2,
    PaddedEncoder,
    ResNet18,
    UNet,
    ViT,
)


class MLP(nn.Module):
    def __init__(self, features: int = 20, hidden: int = 32, classes: int = 5) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class CNN(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 12, 3, padding="same", bias=False), nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12)
        self.drop, self.head = nn.Dropout(0.25), nn.Linear(12 * 4 + 12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.b1(self.c1(x)), inplace=True), 2)
        x = F.relu(self.b2(self.c2(x)))
        x = F.silu(self.depthwise(x)) + x
        pooled, whole = F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 1)
        return self.head(self.drop(torch.cat([pooled.flatten(1), whole.view(x.size(0), -1)], 1)))


class SignalCNN(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, 6, 5, stride=2, padding=2, padding_mode="zeros"),
            nn.BatchNorm1d(6),
            nn.LeakyReLU(0.1),
            nn.MaxPool1d(2),
            nn.Conv1d(6, 8, 3, dilation=2),
            nn.GroupNorm(2, 8),
            nn.Tanh(),
            nn.AdaptiveAvgPool1d(3),
            nn.Flatten(),
            nn.Linear(24, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class SharedWeights(nn.Module):
    """A parameter under two names, a constant, a buffer that does not persist, and one that does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.arange(6.0) * 0.1)
        self.register_buffer("spread", torch.arange(6.0) * 0.2 + 1.0, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.sigmoid(self.first(x - self.shift) / self.spread)) * torch.tensor([2.0])


Inputs = tuple[tuple[int, ...], int | None]
"""Shape of an input, and how many words there are where inputs are words."""

_FAMILIES: dict[str, tuple[Callable[[], nn.Module], Inputs, Inputs]] = {
    "mlp": (MLP, ((20,), None), ((), 5)),
    "cnn": (CNN, ((1, 8, 8), None), ((), 10)),
    "signal": (SignalCNN, ((3, 40), None), ((), 4)),
    "shared": (SharedWeights, ((6,), None), ((), 6)),
    "lstm": (LSTMTagger, ((9,), 30), ((9,), 5)),
    "gru": (GRUClassifier, ((9,), 30), ((), 4)),
    "encoder": (PaddedEncoder, ((9,), 30), ((), 4)),
    "bert": (Bert, ((2, 12), 30), ((), 3)),
    "gpt": (GPT, ((10,), 24), ((10,), 24)),
    "llama": (Llama, ((10,), 24), ((10,), 24)),
    "resnet18": (ResNet18, ((3, 24, 24), None), ((), 10)),
    "mobilenet": (MobileNetV2, ((3, 16, 16), None), ((), 10)),
    "unet": (UNet, ((1, 18, 14), None), ((1, 18, 14), None)),
    "vit": (ViT, ((3, 16, 16), None), ((), 10)),
}
FAMILIES = tuple(_FAMILIES)
_USUAL = ("accuracy/1", "cross_entropy/1")
FUNCTIONS = dict.fromkeys(FAMILIES, _USUAL) | {
    "lstm": ("next_token_loss/1", "perplexity/1"),
    "gru": (*_USUAL, "macro_f1[classes=4]/1"),
    "gpt": ("next_token_loss/1", "perplexity/1"),
    "llama": ("next_token_loss/1", "perplexity/1"),
    "unet": ("mse/1", "mae[decimals=3]/1"),
    "vit": (*_USUAL, "top_k_accuracy[k=3]/1"),
}
"""What each family is scored by."""


def family(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A module with moved batch-norm statistics, 70 inputs and targets; a copy of the same each time."""
    module, inputs, targets = _family(name)
    return copy.deepcopy(module), inputs, targets


@functools.cache
def _family(name: str) -> tuple[nn.Module, Tensor, Tensor]:

    def some(kind: Inputs) -> Tensor:
        shape, words = kind
        return torch.randn(70, *shape) if words is None else torch.randint(0, words, (70, *shape))

    make, inputs_kind, targets_kind = _FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module, inputs, targets = make(), some(inputs_kind), some(targets_kind)
        if name == "bert":
            inputs[:, 1] = torch.arange(12) < torch.randint(3, 13, (70, 1))
        if name == "gpt":
            targets = torch.cat([inputs[:, 1:], torch.full((70, 1), -100)], 1)
        module.train()
        for _ in range(3):
            module(inputs)
        for p in module.parameters():
            p.data.add_(torch.randn_like(p) * 0.05)
    return module.eval(), inputs, targets


@functools.cache
def several_inputs() -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor], Tensor]:
    """A module of three inputs, 70 examples of them, and targets."""
    with torch.random.fork_rng():
        torch.manual_seed(8)
        module = BertWithFeatures().eval()
        mask = (torch.arange(12) < torch.randint(3, 13, (70, 1))).long()
        inputs = torch.randint(0, 30, (70, 12)), mask, torch.randn(70, 4)
        return module, inputs, torch.randint(0, 3, (70,))


@functools.cache
def exported(name: str) -> ModelArtifact:
    """A family's graph and weights."""
    module, inputs, _ = family(name)
    return export_model(module, inputs[:2])
