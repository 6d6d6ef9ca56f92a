"""What a client may give as data, and which of it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pot_lab.errors import Oversize, PotLabError
from pot_lab.notebook.data import read_data
from pot_lab.notebook.errors import BadArgument
from pot_lab.scoring import Limits, pack_dataset
from pot_lab.scoring.errors import BadDataset

X = torch.arange(12, dtype=torch.float32).reshape(6, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2])
ROOM = Limits(examples=6, dataset_bytes=6 * (8 + 8))


class Examples(Dataset):
    """A map-style data set of whatever `example(index)` returns."""

    def __init__(self, count: int, example: Callable[[int], object]) -> None:
        self.count, self.example = count, example
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> object:
        self.read.append(index)
        return self.example(index)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield X[0], Y[0]


class NoLength(Dataset):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return X[index], Y[index]


def test_pairs_of_tensors_and_arrays_are_read_alike() -> None:
    for data in ((X, Y), [X, Y], (X.numpy(), Y.numpy()), (X.clone().requires_grad_(), Y), ((X,), Y)):
        found = read_data("train", data)
        assert torch.equal(found.inputs, X) and torch.equal(found.targets, Y)
        assert not found.inputs.requires_grad


def test_a_torch_dataset_gives_the_tensors_it_was_made_of() -> None:
    found = read_data("train", TensorDataset(X, Y))
    assert torch.equal(found.inputs, X) and found.inputs.dtype is torch.float32
    assert torch.equal(found.targets, Y) and found.targets.dtype is torch.int64


def test_each_example_of_a_torch_dataset_is_read_once_in_order() -> None:
    data = Examples(6, lambda i: (X[i].numpy(), int(Y[i])))
    found = read_data("train", data)
    assert data.read == [0, 1, 2, 3, 4, 5]
    assert torch.equal(found.inputs, X) and torch.equal(found.targets, Y)


def test_a_torch_dataset_may_have_several_inputs() -> None:
    found = read_data("train", Examples(6, lambda i: ((X[i], Y[i]), X[i] * 2)))
    assert isinstance(found.inputs, tuple) and len(found.inputs) == 2
    assert torch.equal(found.inputs[1], Y) and torch.equal(found.targets, X * 2)


def test_a_data_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    path.write_bytes(pack_dataset(X, Y))
    for given in (path, str(path)):
        found = read_data("train", given)
        assert torch.equal(found.inputs, X) and torch.equal(found.targets, Y)


def test_the_limits_are_the_last_that_is_read(tmp_path: Path) -> None:
    assert read_data("train", TensorDataset(X, Y), ROOM).examples == 6
    path = tmp_path / "train.safetensors"
    path.write_bytes(pack_dataset(X, Y))
    size = path.stat().st_size
    assert read_data("train", path, Limits(dataset_bytes=size)).examples == 6
    with pytest.raises(Oversize, match="the data file given as `train` is too large"):
        read_data("train", path, Limits(dataset_bytes=size - 1))


def test_a_torch_dataset_that_is_too_large_is_refused_after_one_example() -> None:
    data = Examples(7, lambda i: (X[0], Y[0]))
    with pytest.raises(Oversize, match=r"`train` has too many examples \(seen: 7, wanted: at most 6\)"):
        read_data("train", data, ROOM)
    assert data.read == []
    wide = Examples(6, lambda i: (torch.zeros(3), Y[0]))
    with pytest.raises(Oversize, match=r"`test` is too large \(seen: 120 bytes, wanted: at most 96 bytes\)"):
        read_data("test", wide, ROOM)
    assert wide.read == [0]


def _broken(index: int) -> object:
    if index == 4:
        raise FileNotFoundError("image-4.png")
    return X[index], Y[index]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (X, "`train` is not a pair of tensors"),
        ((X, X, Y), "`train` is not a pair of tensors"),
        ({"x": X}, "`train` is not a pair of tensors"),
        ((X, ["cat", "dog"]), "`train` cannot be used: its targets hold text"),
        (((X, "mask"), Y), "`train` cannot be used: its inputs, number 1, are no tensor"),
        (Path("nowhere.safetensors"), "`train` cannot be read"),
        (Stream(), "without a length"),
        (NoLength(), "without a length"),
        (Examples(0, lambda i: (X[i], Y[i])), "without examples"),
        (Examples(6, _broken), "example 4 of `train` cannot be read.*FileNotFoundError: image-4.png"),
        (Examples(6, lambda i: (X[i], X[i], Y[i])), r"example 0 of `train` is not a pair \(seen: 3 values"),
        (Examples(6, lambda i: X[i]), r"example 0 of `train` is not a pair \(seen: Tensor"),
        (Examples(6, lambda i: (X[i], "cat")), "example 0 of `train` holds something that is not a tensor"),
        (
            Examples(6, lambda i: (X[i][: 2 - i // 5], Y[i])),
            r"differ in their shapes.*example 5: float32 \(1,\), int64 \(\), wanted: as example 0: float32 \(2,\)",
        ),
        (Examples(6, lambda i: (X[i].double() if i == 3 else X[i], Y[i])), "differ in their.*example 3: float64"),
        (Examples(6, lambda i: ((X[i],) * (1 + i // 2), Y[i])), "differ in their.*example 2"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data: object, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        read_data("train", data)  # type: ignore[arg-type]


def test_a_damaged_data_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    path.write_bytes(pack_dataset(X, Y)[:-1])
    with pytest.raises(BadDataset):
        read_data("train", path)


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(PotLabError, match="something that is no number"):
        read_data("test", (np.array([object()]), Y))


def loaders() -> list[DataLoader]:
    examples = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
    return [
        DataLoader(examples, batch_size=4),
        DataLoader(examples, batch_size=4, shuffle=True, drop_last=True),
        DataLoader(examples, batch_size=None),
    ]


@pytest.mark.parametrize("loader", loaders(), ids=["in order", "shuffled", "unbatched"])
def test_a_loader_is_read_as_its_data_set(loader: DataLoader) -> None:
    found = read_data("train", loader)
    assert torch.equal(found.inputs, torch.arange(12.0).reshape(6, 2)) and torch.equal(found.targets, torch.arange(6))


class Counter(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sampler": WeightedRandomSampler([1.0] * 6, 6)}, "chooses among the examples.*WeightedRandomSampler"),
        ({"sampler": SubsetRandomSampler(range(3))}, "chooses among the examples.*SubsetRandomSampler"),
        ({"sampler": RandomSampler(range(6), replacement=True)}, "chooses among the examples.*RandomSampler"),
        ({"batch_sampler": [[0, 1], [2]]}, "chooses among the examples.*list"),
        ({"collate_fn": lambda rows: rows}, "makes examples with a collate_fn.*<lambda>"),
    ],
)
def test_a_loader_that_gives_other_examples_is_refused(arguments: dict[str, Any], reason: str) -> None:
    examples = TensorDataset(torch.zeros(6, 2), torch.arange(6))
    with pytest.raises(BadArgument, match=reason):
        read_data("train", DataLoader(examples, **arguments))
    with pytest.raises(BadArgument, match="without a length"):
        read_data("train", DataLoader(Counter()))
