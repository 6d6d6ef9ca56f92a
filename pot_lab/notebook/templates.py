"""Ready-made orders: a model and data that come with scikit-learn, so that an order can be posted from a form.

Each is small enough to be trained within a minute on two cores. The data need no download. `notebooks/tasks.ipynb`
shows the same tasks with data of one's own.
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
        task: what kind of problem it is; templates of one task stand together.
        about: model and data in a sentence.
        score: the score function.
        reward: POT, and `train_for` how long providers may train: what the form begins with.
        make: the module with its first weights, inputs and targets.
    """

    name: str
    title: str
    task: str
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


def _tumours() -> tuple[nn.Module, Tensor, Tensor]:
    import torch
    from sklearn.datasets import load_breast_cancer
    from torch import nn

    data = load_breast_cancer()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2)), inputs, torch.tensor(data.target)


def _ink() -> tuple[nn.Module, Tensor, Tensor]:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    images = torch.tensor(load_digits().images, dtype=torch.float32)
    noisy = images / 16 + 0.3 * torch.randn(images.shape)
    module = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    return module, noisy.unsqueeze(1), (images > 8).long()


def _pieces() -> tuple[Tensor, Tensor]:
    """Pieces of 40 letters of the descriptions of three data sets, and whose description each is from."""
    import torch
    from sklearn.datasets import load_diabetes, load_iris, load_wine

    texts = [load().DESCR for load in (load_iris, load_wine, load_diabetes)]
    pieces = [(text[at : at + 40], kind) for kind, text in enumerate(texts) for at in range(0, len(text) - 40, 20)]
    letters = torch.tensor([[min(ord(letter), 127) for letter in piece] for piece, _ in pieces])
    return letters, torch.tensor([kind for _, kind in pieces])


def _passages() -> tuple[nn.Module, Tensor, Tensor]:
    from torch import nn

    letters, kinds = _pieces()
    return nn.Sequential(nn.EmbeddingBag(128, 16, mode="mean"), nn.Linear(16, 3)), letters, kinds


def _letters() -> tuple[nn.Module, Tensor, Tensor]:
    from torch import nn

    letters, _ = _pieces()
    module = nn.Sequential(
        nn.Embedding(128, 32),
        nn.Linear(32, 64),
        nn.ReLU(),
        nn.Linear(64, 128),
    )
    return module, letters[:, :-1].contiguous(), letters[:, 1:].contiguous()


TEMPLATES = {
    one.name: one
    for one in (
        OrderTemplate(
            name="digits",
            title="Handwritten digits",
            task="Pictures",
            about="A small convolutional network for 1,797 pictures of handwritten digits, 8 by 8 pixels.",
            score="accuracy",
            reward="25",
            train_for="60s",
            make=_digits,
        ),
        OrderTemplate(
            name="wine",
            title="Kinds of wine",
            task="Tables",
            about="A network of two layers that tells three kinds of wine apart by 13 measurements of 178 bottles.",
            score="accuracy",
            reward="10",
            train_for="30s",
            make=_wine,
        ),
        OrderTemplate(
            name="diabetes",
            title="Progress of diabetes",
            task="Regression",
            about="A regression by two layers on 10 measurements of 442 patients.",
            score="mse",
            reward="10",
            train_for="30s",
            make=_diabetes,
        ),
        OrderTemplate(
            name="tumours",
            title="Benign or malignant",
            task="Tables",
            about="Two layers on 30 measurements of 569 tumours; what counts is the area under the ROC curve.",
            score="auc",
            reward="10",
            train_for="30s",
            make=_tumours,
        ),
        OrderTemplate(
            name="ink",
            title="Ink under noise",
            task="Pictures",
            about="Two convolutions that tell ink from paper in 1,797 noisy pictures, place by place.",
            score="mean_iou",
            reward="15",
            train_for="45s",
            make=_ink,
        ),
        OrderTemplate(
            name="passages",
            title="Where a passage is from",
            task="Text",
            about="A bag of letters that tells which of three texts a piece of 40 letters is from.",
            score="macro_f1[classes=3]",
            reward="10",
            train_for="30s",
            make=_passages,
        ),
        OrderTemplate(
            name="letters",
            title="The next letter",
            task="Text",
            about="A small model that tells the next letter of English text by the one before.",
            score="next_token_loss",
            reward="10",
            train_for="30s",
            make=_letters,
        ),
    )
}
