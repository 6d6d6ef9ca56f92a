"""Small mainstream models, as a client would write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def family(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A module with moved batch-norm statistics, 70 inputs and targets; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module, shape, classes = {
            "mlp": lambda: (MLP(), (20,), 5),
            "cnn": lambda: (CNN(), (1, 8, 8), 10),
            "signal": lambda: (SignalCNN(), (3, 40), 4),
            "shared": lambda: (SharedWeights(), (6,), 6),
        }[name]()
        inputs = torch.randn(70, *shape)
        targets = torch.randint(0, classes, (70,))
        module.train()
        for _ in range(3):
            module(inputs)
        for p in module.parameters():
            p.data.add_(torch.randn_like(p) * 0.05)
    return module.eval(), inputs, targets


FAMILIES = ("mlp", "cnn", "signal", "shared")
