"""Ready-made orders: a model and data that come with scikit-learn, so that an order can be posted from a form.

Each is small enough to be trained within a minute on two cores. The data need no download.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

_TEST_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class OrderTemplate:
    """One ready-made order.

    Attributes:
        name: what it is called by; `title` is what people read.
        about: model and data in a sentence.
        score: the score function.
        reward: POT, and `train_for` how long providers may train: what the form begins with.
        make: the module with its first weights, inputs and targets.
    """

    name: str
    title: str
    about: str
    score: str
    reward: str
    train_for: str
    make: Callable[[], tuple[nn.Module, Tensor, Tensor]]

    def parts(self) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The module, the training and the test data; the same ones each time."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module, inputs, targets = self.make()
            places = torch.randperm(len(inputs))
        test, train = places[: round(_TEST_SHARE * len(inputs))], places[round(_TEST_SHARE * len(inputs)) :]
        return module, (inputs[train], targets[train]), (inputs[test], targets[test])


def _digits() -> tuple[nn.Module, Tensor, Tensor]:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    data = load_digits()
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )
    return module, torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(data.target)


def _wine() -> tuple[nn.Module, Tensor, Tensor]:
    import torch
    from sklearn.datasets import load_wine
    from torch import nn

    data = load_wine()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3)), inputs, torch.tensor(data.target)


def _diabetes() -> tuple[nn.Module, Tensor, Tensor]:
    import torch
    from sklearn.datasets import load_diabetes
    from torch import nn

    data = load_diabetes()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    targets = torch.tensor(data.target, dtype=torch.float32).unsqueeze(1)
    module = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    return module, inputs / inputs.std(0), (targets - targets.mean()) / targets.std()


TEMPLATES = {
    one.name: one
    for one in (
        OrderTemplate(
            name="digits",
            title="Handwritten digits",
            about="A small convolutional network for 1,797 pictures of handwritten digits, 8 by 8 pixels.",
            score="accuracy",
            reward="25",
            train_for="60s",
            make=_digits,
        ),
        OrderTemplate(
            name="wine",
            title="Kinds of wine",
            about="A network of two layers that tells three kinds of wine apart by 13 measurements of 178 bottles.",
            score="accuracy",
            reward="10",
            train_for="30s",
            make=_wine,
        ),
        OrderTemplate(
            name="diabetes",
            title="Progress of diabetes",
            about="A regression by two layers on 10 measurements of 442 patients.",
            score="mse",
            reward="10",
            train_for="30s",
            make=_diabetes,
        ),
    )
}
