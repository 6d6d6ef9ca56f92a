"""Data sets as bytes: what goes in comes out, anything else is refused, and each example has a place under the root."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.errors import Oversize, PotLabError
from pot_lab.scoring import Limits, dataset_proof, dataset_root, example_leaf, pack_dataset, unpack_dataset
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.tensor_file import write_tensors


@given(st.integers(1, 9), st.sampled_from([torch.float32, torch.float64, torch.int64]), st.integers(0, 2**31))
def test_a_data_set_comes_back(count: int, dtype: torch.dtype, seed: int) -> None:
    inputs = (torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(seed)) * 100).to(dtype)
    targets = torch.arange(count)
    pair = unpack_dataset(pack_dataset(inputs, targets))
    assert torch.equal(pair.inputs, inputs) and torch.equal(pair.targets, targets) and pair.inputs.dtype == dtype
    assert dataset_root(*pair) == dataset_root(inputs, targets)


def test_numpy_arrays_are_taken() -> None:
    pair = unpack_dataset(pack_dataset(np.ones((3, 2), dtype=np.float32), np.array([0, 1, 0])))
    assert pair.examples == 3 and pair.targets.dtype == torch.int64


def test_the_root_names_every_example() -> None:
    inputs, targets = torch.randn(7, 4), torch.arange(7)
    root = dataset_root(inputs, targets)
    for i in range(7):
        proof = dataset_proof(inputs, targets, i)
        assert proof.verify(root, example_leaf(inputs, targets, i))
        assert not proof.verify(root, example_leaf(inputs, targets, (i + 1) % 7))
    changed = inputs.clone()
    changed[3, 2] += 1e-6
    others = [
        dataset_root(changed, targets),
        dataset_root(inputs, targets.flip(0)),
        dataset_root(inputs.double(), targets),
        dataset_root(inputs.reshape(7, 2, 2), targets),
        dataset_root(inputs[:6], targets[:6]),
    ]
    assert len({root, *others}) == 6


@pytest.mark.parametrize(
    ("inputs", "targets", "error"),
    [
        (torch.zeros(3, 2, dtype=torch.complex64), torch.zeros(3), DtypeMismatch),
        (torch.zeros(3, 2, dtype=torch.bool), torch.zeros(3), DtypeMismatch),
        (torch.zeros(3, 2), torch.zeros(2), ShapeMismatch),
        (torch.zeros(0, 2), torch.zeros(0), ShapeMismatch),
        (torch.tensor(1.0), torch.tensor(1.0), ShapeMismatch),
        (torch.tensor([[0.0, math.inf]]), torch.zeros(1), BadDataset),
        (torch.zeros(2), torch.tensor([0.0, math.nan]), BadDataset),
    ],
)
def test_bad_data_are_refused(inputs: torch.Tensor, targets: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error):
        pack_dataset(inputs, targets)
    try:
        data = write_tensors({"inputs": inputs, "targets": targets})
    except Exception:
        return
    with pytest.raises(PotLabError):
        unpack_dataset(data)


def test_other_files_are_refused() -> None:
    good = pack_dataset(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(BadDataset, match="holds inputs and targets"):
        unpack_dataset(write_tensors({"inputs": torch.zeros(3)}))
    with pytest.raises(BadDataset, match="holds inputs and targets"):
        unpack_dataset(write_tensors({"inputs": torch.zeros(3), "targets": torch.zeros(3), "more": torch.zeros(3)}))
    with pytest.raises(BadDataset):
        unpack_dataset(good[:-1])
    with pytest.raises(Oversize):
        unpack_dataset(good, Limits(dataset_bytes=len(good) - 1))
    with pytest.raises(BadDataset, match="too many"):
        unpack_dataset(good, Limits(examples=2))
