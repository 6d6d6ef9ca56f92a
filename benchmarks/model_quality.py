"""What an order returns against what its client's own training loop would, in the same time on the same machine.

Each task is trained twice by each seed, one after the other: by the default trainer, as a provider's notebook runs it,
and by a plain PyTorch loop with sensible defaults (AdamW at 1e-3, batches of 64, a tenth held out, looked at each
epoch, the best kept). Both have the same seconds of processor time on one thread. What is compared is the score on
test data that neither saw: a ratio below 1 means that the default trainer's model has the smaller loss, or the
smaller rate of errors.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from report import main
from sklearn import datasets
from torch import Tensor, nn

from pot_lab.scoring import export_model, load_graph, score_function, trainable
from pot_lab.training import Trainer, TrainerSettings
from pot_lab.training.losses import summed_loss, weight_of

Data = tuple[Tensor, Tensor]
"""Inputs and targets."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One order.

    Attributes:
        make: the model, with fresh weights.
        data: inputs and targets of all examples; a third is for the test.
        function: what is scored.
    """

    make: Callable[[], nn.Module]
    data: Callable[[], Data]
    function: str


def _mlp(*sizes: int, dropout: float = 0.0) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


class _CNN(nn.Module):
    """8 x 8 images, two convolutions with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c2, self.b2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.head = nn.Linear(32 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.b1(self.c1(x))), 2)
        return self.head(F.max_pool2d(F.relu(self.b2(self.c2(x))), 2).flatten(1))


class _Decoder(nn.Module):
    """A small causal transformer over characters."""

    def __init__(self, words: int, tokens: int = 32, width: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.n1, self.n2, self.n3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down, self.head = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
            nn.Linear(width, words),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places
        q, k, v = (y.unflatten(-1, (4, -1)).transpose(1, 2) for y in self.qkv(self.n1(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return self.head(self.n3(x + self.down(F.gelu(self.up(self.n2(x))))))


class _Recurrent(nn.Module):
    """An LSTM whose last state names the class."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def _scaled(load: Callable[..., Any], classes: bool = True) -> Data:
    x, y = load(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    if classes:
        return x, torch.tensor(y)
    targets = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    return x, (targets - targets.mean()) / targets.std()


def _digits() -> Data:
    found = datasets.load_digits()
    return torch.tensor(found.images / 16.0, dtype=torch.float32).unsqueeze(1), torch.tensor(found.target)


def _noisy_digits() -> Data:
    """A fifth of the labels is wrong: what is learned by heart is worth nothing."""
    images, labels = _digits()
    random = torch.Generator().manual_seed(5)
    wrong = torch.rand(len(labels), generator=random) < 0.2
    return images.flatten(1), torch.where(wrong, torch.randint(10, labels.shape, generator=random), labels)


def _spirals() -> Data:
    random = torch.Generator().manual_seed(6)
    place, arm = torch.rand(3000, generator=random), torch.randint(3, (3000,), generator=random)
    angle = 12 * place + arm * 2 * math.pi / 3 + 0.15 * torch.randn(3000, generator=random)
    return torch.stack([place * angle.cos(), place * angle.sin()], 1), arm


def _friedman() -> Data:
    x, y = datasets.make_friedman1(4000, noise=0.5, random_state=7)
    targets = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    return torch.tensor(x, dtype=torch.float32), (targets - targets.mean()) / targets.std()


def _first_seen() -> Data:
    """Sequences of 12 noisy one-hot marks; the class is the mark that came first twice in a row."""
    random = torch.Generator().manual_seed(8)
    marks = torch.randint(4, (4000, 12), generator=random)
    marks[:, 11] = marks[:, 10]
    twice = (marks[:, 1:] == marks[:, :-1]).int().argmax(1)
    noise = 0.2 * torch.randn(4000, 12, 4, generator=random)
    return F.one_hot(marks, 4).float() + noise, marks[torch.arange(4000), twice]


@functools.lru_cache
def _letters() -> tuple[Tensor, int]:
    """The descriptions of scikit-learn's data sets as numbers of characters, and how many characters there are."""
    loads = (datasets.load_breast_cancer, datasets.load_diabetes, datasets.load_digits, datasets.load_iris)
    text = " ".join(load().DESCR for load in (*loads, datasets.load_wine, datasets.load_linnerud))
    known = {letter: number for number, letter in enumerate(sorted(set(text)))}
    return torch.tensor([known[letter] for letter in text]), len(known)


def _text() -> Data:
    ids, _ = _letters()
    windows = ids[: (len(ids) - 1) // 32 * 32].reshape(-1, 32)
    return windows, ids[1 : 1 + windows.numel()].reshape(-1, 32)


TASKS = {
    "digits, CNN": Task(make=_CNN, data=_digits, function="accuracy"),
    "digits, CNN, loss": Task(make=_CNN, data=_digits, function="cross_entropy"),
    "digits, a fifth mislabelled": Task(make=lambda: _mlp(64, 128, 10), data=_noisy_digits, function="cross_entropy"),
    "breast cancer": Task(
        make=lambda: _mlp(30, 64, 2, dropout=0.1),
        data=lambda: _scaled(datasets.load_breast_cancer),
        function="cross_entropy",
    ),
    "diabetes": Task(
        make=lambda: _mlp(10, 64, 1), data=lambda: _scaled(datasets.load_diabetes, classes=False), function="mse"
    ),
    "three spirals": Task(make=lambda: _mlp(2, 64, 64, 3), data=_spirals, function="accuracy"),
    "Friedman's function": Task(make=lambda: _mlp(10, 128, 128, 1), data=_friedman, function="mse"),
    "sequences, LSTM": Task(make=_Recurrent, data=_first_seen, function="cross_entropy"),
    "English letters, decoder": Task(make=lambda: _Decoder(_letters()[1]), data=_text, function="perplexity"),
}


def by_plain_loop(
    module: nn.Module, inputs: Tensor, targets: Tensor, function: str, seed: int, window_s: float
) -> nn.Module:
    """What a client would write, in so many seconds of processor time."""
    began, chosen = time.process_time(), score_function(function)
    torch.manual_seed(seed)
    order = torch.randperm(len(targets))
    held, rows = order[: len(order) // 10], order[len(order) // 10 :]
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    best, kept = math.inf, copy.deepcopy(module.state_dict())
    while time.process_time() - began < window_s:
        module.train()
        for batch in rows[torch.randperm(len(rows))].split(64):
            if time.process_time() - began >= window_s:
                break
            optimizer.zero_grad()
            loss = summed_loss(chosen, module(inputs[batch]), targets[batch], 0.0) / weight_of(chosen, targets[batch])
            loss.backward()
            optimizer.step()
        found = _badness(module, inputs[held], targets[held], function)
        if found < best:
            best, kept = found, copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)
    return module


def by_default_trainer(
    module: nn.Module, inputs: Tensor, targets: Tensor, function: str, seed: int, window_s: float
) -> nn.Module:
    """What a provider's notebook does with the order, in so many seconds of processor time."""
    artifact, began = export_model(module, inputs[:2]), time.process_time()
    trainer = Trainer(
        artifact.graph,
        artifact.weights,
        inputs,
        targets,
        function=function,
        settings=TrainerSettings(seed=seed),
        clock=time.process_time,
    )
    trained = trainer.train_until(deadline_monotonic=began + window_s)
    return trainable(load_graph(artifact.graph), trained.weights)


def _badness(module: nn.Module, inputs: Tensor, targets: Tensor, function: str) -> float:
    """The smaller the better: the mean loss, or the rate of errors."""
    chosen = score_function(function)
    module.eval()
    with torch.inference_mode():
        outputs = module(inputs)
        if function == "accuracy":
            return float((outputs.argmax(-1) != targets).double().mean())
        return float(summed_loss(chosen, outputs, targets, 0.0) / weight_of(chosen, targets))


def compare(task: Task, seed: int, window_s: float) -> dict[str, float]:
    """Train one task in both ways; the order of the two changes with the seed."""
    inputs, targets = task.data()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    test, train = order[: len(order) // 3], order[len(order) // 3 :]
    torch.manual_seed(seed)
    module = task.make()
    ways = {"default": by_default_trainer, "plain": by_plain_loop}
    found = {}
    for name in sorted(ways, reverse=bool(seed % 2)):
        trained = ways[name](copy.deepcopy(module), inputs[train], targets[train], task.function, seed, window_s)
        found[name] = _badness(trained, inputs[test], targets[test], task.function)
    return found


def _ratio(found: list[dict[str, float]], examples: int) -> float:
    """Of the means over the seeds. A rate of errors counts half an error more, so that none at all has a ratio."""
    half = 0.5 / examples
    return (statistics.mean(f["default"] for f in found) + half) / (statistics.mean(f["plain"] for f in found) + half)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every task with every seed."""
    torch.set_num_threads(1)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in TASKS}
    for seed in range(options.seeds):
        for name, task in TASKS.items():
            runs[name].append(compare(task, seed, options.window))
    figures: dict[str, Any] = {}
    for name, found in runs.items():
        examples = len(TASKS[name].data()[1]) // 3 if TASKS[name].function == "accuracy" else 1 << 40
        figures[name] = {
            "function": TASKS[name].function,
            "default": statistics.mean(f["default"] for f in found),
            "plain": statistics.mean(f["plain"] for f in found),
            "ratio": _ratio(found, examples),
            "better_in": sum(f["default"] <= f["plain"] for f in found),
        }
    figures["geometric mean of the ratios"] = math.exp(statistics.mean(math.log(f["ratio"]) for f in figures.values()))
    return figures


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each task by each way (3)")
    parser.add_argument("--window", type=float, default=6.0, help="seconds of processor time of one training (6)")


if __name__ == "__main__":
    main(__doc__, measure, options=_options)
