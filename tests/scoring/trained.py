"""The families after a short but real training, since what training does to weights is what scores are asked for.

Images and tables are scikit-learn's small data sets; text is the English of their own descriptions, character by
character. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn import datasets
from torch import Tensor, nn

from pot_lab.scoring import ModelArtifact, exact_model, export_model, load_graph, trainable
from tests.scoring import models

Data = tuple[Tensor, Tensor]
"""Inputs and targets of all examples."""

TEST_EXAMPLES = 128


@dataclass(frozen=True)
class Trained:
    """A family with the weights that training gave it.

    Attributes:
        inputs, targets: examples that training did not see.
        first_loss, last_loss: of the first and the last batches that training saw, in nats or mean squares.
    """

    module: nn.Module
    artifact: ModelArtifact
    inputs: Tensor
    targets: Tensor
    first_loss: float
    last_loss: float


# ------------------------------------------------------------------------------------------- data


def _table(load: Callable[..., tuple], columns: int) -> Data:
    x, y = load(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)[:, :columns]
    return (x - x.mean(0)) / x.std(0), torch.tensor(y)


def _digits(scale: int, channels: int = 1) -> Data:
    found = datasets.load_digits()
    images = torch.tensor(found.images / 16.0, dtype=torch.float32).unsqueeze(1)
    return F.interpolate(images, scale_factor=scale).expand(-1, channels, -1, -1).contiguous(), torch.tensor(
        found.target
    )


def _lines() -> Data:
    """Digits as signals: an image read along its rows, its columns, and its rows from the back; four classes."""
    images, digits = _digits(1)
    images = images[:, 0]
    lines = torch.stack([images.flatten(1), images.mT.flatten(1), images.flatten(1).flip(1)], 1)
    return lines[digits < 4], digits[digits < 4]


def _noisy() -> Data:
    """Images with noise, and without."""
    images, _ = _digits(2)
    return images + torch.randn(images.shape, generator=torch.Generator().manual_seed(1)) * 0.3, images


@functools.cache
def _texts() -> tuple[str, ...]:
    names = ("iris", "wine", "breast_cancer", "diabetes", "digits", "linnerud")
    return tuple(re.sub(r"[^a-z.]+", " ", getattr(datasets, f"load_{n}")().DESCR.lower()) for n in names)


def _numbers(text: str, count: int) -> Tensor:
    """Letters as numbers below `count`: 1 is a rare letter, 2 a space, then the letters by how often they stand."""
    alphabet = " etaoinsrhldcumfpgwybvk.xjqz"[: count - 2]
    return torch.tensor([alphabet.find(c) + 2 for c in text])


def _windows(length: int, words: int) -> Tensor:
    return _numbers(" ".join(_texts()), words).unfold(0, length, 3)


def _words(length: int, most: int) -> Data:
    """How many words begin in a piece of text, `most` or more being one class."""
    inputs = _windows(length, 30)
    begins = (inputs[:, :-1] == 2) & (inputs[:, 1:] > 2)
    return inputs, begins.sum(1).clamp(max=most)


def _padded_words() -> Data:
    """The same of a piece that ends in padding, with its mask."""
    inputs = _windows(12, 30)
    ends = torch.randint(6, 13, (len(inputs), 1), generator=torch.Generator().manual_seed(2))
    seen = torch.arange(12) < ends
    inputs = inputs * seen
    return torch.stack([inputs, seen.long()], 1), ((inputs[:, :-1] == 2) & (inputs[:, 1:] > 2)).sum(1).clamp(max=2)


def _places_in_words() -> Data:
    """Of each letter: between words, a word of its own, or the first, an inner or the last letter of a word."""
    inputs = _windows(11, 30)
    letter = inputs > 2
    before, here, after = letter[:, :-2], letter[:, 1:-1], letter[:, 2:]
    tags = torch.where(before, torch.where(after, 3, 4), torch.where(after, 2, 1))
    return inputs[:, 1:-1].contiguous(), torch.where(here, tags, 0)


def _next_letters() -> Data:
    inputs = _windows(11, 24)
    return inputs[:, :-1].contiguous(), inputs[:, 1:].contiguous()


# --------------------------------------------------------------------------------------- training

_RECIPES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Data], int, float]] = {
    "mlp": (lambda: models.MLP(30, 32, 2), lambda: _table(datasets.load_breast_cancer, 30), 150, 3e-3),
    "cnn": (models.CNN, lambda: _digits(1), 120, 1e-2),
    "signal": (models.SignalCNN, _lines, 120, 1e-2),
    "shared": (models.SharedWeights, lambda: _table(datasets.load_wine, 6), 200, 2e-2),
    "lstm": (models.LSTMTagger, _places_in_words, 80, 2e-2),
    "gru": (models.GRUClassifier, lambda: _words(9, 3), 80, 1e-2),
    "encoder": (models.PaddedEncoder, lambda: _words(9, 3), 80, 1e-2),
    "bert": (models.Bert, _padded_words, 100, 1e-2),
    "gpt": (models.GPT, _next_letters, 90, 1e-2),
    "llama": (models.Llama, _next_letters, 90, 1e-2),
    "resnet18": (models.ResNet18, lambda: _digits(3, 3), 60, 1e-2),
    "mobilenet": (models.MobileNetV2, lambda: _digits(2, 3), 80, 1e-2),
    "unet": (models.UNet, _noisy, 30, 5e-3),
    "vit": (models.ViT, lambda: _digits(2, 3), 90, 7e-3),
}
"""Module, data, steps of 64 examples, learning rate."""


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return F.mse_loss(outputs, targets)
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


@functools.cache
def trained(name: str) -> Trained:
    """A family, trained for a second or a few; once in a process."""
    make, load, steps, rate = _RECIPES[name]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        module, (inputs, targets) = make(), load()
        order = torch.randperm(len(inputs))
        held_out, rest = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
        if len(rest) < TEST_EXAMPLES:
            held_out, rest = order[: len(order) // 4], order[len(order) // 4 :]
        optimizer = torch.optim.AdamW(module.parameters(), rate)
        losses = []
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate * (0.55 + 0.45 * math.cos(math.pi * step / steps))
            chosen = rest[torch.randint(0, len(rest), (64,))]
            loss = _loss(module.train()(inputs[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    module.eval()
    few = max(1, steps // 20)
    first, last = (sum(part) / len(part) for part in (losses[:few], losses[-few:]))
    artifact = export_model(module, inputs[:2])
    return Trained(module, artifact, inputs[held_out], targets[held_out], first, last)


TRAINED = tuple(_RECIPES)


def errors(name: str) -> dict[str, dict[str, float]]:
    """By way of computing ("float32", "one slice", "two slices"): the largest difference of an output from float64's
    over the largest output, and the length of all differences over that of all outputs."""
    model = trained(name)
    graph = load_graph(model.artifact.graph)
    twin = trainable(graph, model.artifact.weights).eval()
    with torch.no_grad():
        found = {"float32": twin(model.inputs).double()}
        wanted = twin.double()(model.inputs.double() if model.inputs.is_floating_point() else model.inputs)
    for slices, called in ((1, "one slice"), (2, "two slices")):
        (found[called],) = exact_model(graph, model.artifact.weights, slices=slices).run(model.inputs)
    return {
        way: {
            "largest": float((outputs - wanted).abs().max() / wanted.abs().max()),
            "length": float((outputs - wanted).norm() / wanted.norm()),
        }
        for way, outputs in found.items()
    }
