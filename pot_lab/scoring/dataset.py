"""Data sets as safetensors with two tensors, `inputs` and `targets`, whose first axes are the examples.

Train data are named by the hash of their blob. Test data are named by the Merkle root over their examples, which
stands in the order before anyone has seen them (protocol.md, "Test data"). Floating-point data must be finite: NaN or
infinity in data is the client's error and is refused here, so an invalid score is always the model's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pot_lab.crypto.canonical import encode, tagged_hash
from pot_lab.crypto.merkle import MerkleProof, merkle_proof, merkle_root
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.functions import ScoreFunction, score_function
from pot_lab.scoring.graph import ModelGraph
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.tensor_file import (
    FILE_DTYPES,
    MappedTensors,
    dtype_name,
    read_header,
    read_tensors,
    write_tensors,
)

INPUT_DTYPES = (torch.float32, torch.float64, torch.int64)
_EXAMPLE_TAG = "pot-lab/example/1"
_CHECKED_ROWS = 4096


class Dataset(NamedTuple):
    inputs: Tensor
    targets: Tensor

    @property
    def examples(self) -> int:
        return int(self.inputs.shape[0])


def pack_dataset(inputs: Tensor | np.ndarray, targets: Tensor | np.ndarray, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Safetensors bytes of a data set.

    Args:
        inputs: float32, float64 or int64 [examples, ...], finite.
        targets: float32, float64 or int64 [examples, ...], finite.
    Raises: BadDataset, DtypeMismatch, ShapeMismatch.
    """
    pair = Dataset(torch.as_tensor(inputs), torch.as_tensor(targets))
    _check(pair, limits)
    return write_tensors({"inputs": pair.inputs, "targets": pair.targets})


def unpack_dataset(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Dataset:
    """Read a data set from outside; refuses whatever `pack_dataset` would not have written.

    Raises: BadDataset, DtypeMismatch, ShapeMismatch, Oversize.
    """
    names = set(read_header(data, limit_bytes=limits.dataset_bytes, what="data file", error=BadDataset))
    if names != {"inputs", "targets"}:
        raise BadDataset("a data file holds two tensors", seen=", ".join(sorted(names)[:8]), wanted="inputs, targets")
    tensors = read_tensors(data, limit_bytes=limits.dataset_bytes, what="data file", error=BadDataset)
    pair = Dataset(tensors["inputs"], tensors["targets"])
    _check(pair, limits)
    return pair


class DatasetFile:
    """A data file that may be larger than memory: `inputs` and `targets` lie in memory-mapped pages.

    Types and shapes are checked here, values where they are scored (`check_values`).

    Raises: BadDataset, DtypeMismatch, ShapeMismatch, Oversize, OSError.
    """

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self._file = MappedTensors(path, limit_bytes=limits.dataset_bytes, what="data file", error=BadDataset)
        found = self._file.tensors
        if set(found) != {"inputs", "targets"}:
            names = ", ".join(sorted(found)[:8])
            raise BadDataset("a data file holds two tensors", seen=names, wanted="inputs, targets")
        self.path = path
        self.inputs, self.targets = found["inputs"], found["targets"]
        _check_form(Dataset(self.inputs, self.targets), limits)

    def release(self) -> None:
        """Let go of the pages that were read."""
        self._file.release()


def save_dataset(path: Path, inputs: Tensor, targets: Tensor, limits: Limits = DEFAULT_LIMITS) -> None:
    """Write a data file some rows at a time; what `pack_dataset` does, for data larger than memory.

    Raises: BadDataset, DtypeMismatch, ShapeMismatch, OSError.
    """
    pair = Dataset(inputs, targets)
    _check(pair, limits)
    codes = {known: code for code, known in FILE_DTYPES.items()}
    order = sorted(pair._asdict().items(), key=lambda item: -item[1].element_size())  # so that each is aligned
    header, place = {}, 0
    for name, tensor in order:
        stop = place + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": codes[dtype_name(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [place, stop],
        }
        place = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in order:
            for rows in _blocks(pair.examples):
                file.write(tensor[rows].detach().cpu().contiguous().numpy().tobytes())


def _blocks(examples: int) -> Iterator[slice]:
    """All rows, some at a time."""
    return (slice(start, min(start + _CHECKED_ROWS, examples)) for start in range(0, examples, _CHECKED_ROWS))


def _check(pair: Dataset, limits: Limits) -> None:
    _check_form(pair, limits)
    for rows in _blocks(pair.examples):
        _check_finite(Dataset(pair.inputs[rows], pair.targets[rows]), rows.start)


def _check_form(pair: Dataset, limits: Limits) -> None:
    for name, tensor in pair._asdict().items():
        if tensor.dtype not in INPUT_DTYPES:
            raise DtypeMismatch(
                f"{name} have a number type that data may not have",
                seen=tensor.dtype,
                wanted=", ".join(map(str, INPUT_DTYPES)),
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ShapeMismatch(f"{name} need at least one example", seen=tuple(tensor.shape), wanted="(examples, ...)")
    if pair.inputs.shape[0] != pair.targets.shape[0]:
        raise ShapeMismatch(
            "inputs and targets have different numbers of examples",
            seen=f"{pair.inputs.shape[0]} and {pair.targets.shape[0]}",
        )
    if pair.examples > limits.examples:
        raise BadDataset("too many examples", seen=pair.examples, wanted=f"at most {limits.examples}")


def _check_finite(pair: Dataset, first: int) -> None:
    for name, tensor in pair._asdict().items():
        if tensor.dtype.is_floating_point:
            finite = torch.isfinite(tensor.reshape(tensor.shape[0], -1)).all(1)
            if not bool(finite.all()):
                row = first + int((~finite).nonzero()[0])
                raise BadDataset(f"{name} hold a value that is not finite", seen=f"example {row}")


def example_leaf(inputs: Tensor, targets: Tensor, index: int) -> bytes:
    """32 bytes that name one example: its types, shapes and little-endian elements."""
    parts = []
    for tensor in (inputs[index], targets[index]):
        parts.append(encode((dtype_name(tensor.dtype), list(tensor.shape))))
        parts.append(tensor.detach().cpu().contiguous().numpy().tobytes())
    return tagged_hash(_EXAMPLE_TAG, *parts)


def dataset_root(inputs: Tensor, targets: Tensor) -> bytes:
    """Merkle root (32 bytes) over the examples in order."""
    return merkle_root([example_leaf(inputs, targets, i) for i in range(inputs.shape[0])])


def dataset_proof(inputs: Tensor, targets: Tensor, index: int) -> MerkleProof:
    """Proof that an example is in the data set of `dataset_root`; its leaf is `example_leaf`."""
    return merkle_proof([example_leaf(inputs, targets, i) for i in range(inputs.shape[0])], index)


def check_dataset(graph: ModelGraph, inputs: Tensor, targets: Tensor, function: str | ScoreFunction) -> None:
    """Whether data fit a model and a score function.

    Raises: ShapeMismatch, DtypeMismatch, BadDataset, naming the argument and both sides.
    """
    chosen = score_function(function)
    check_form(graph, inputs, targets, chosen)
    for rows in _blocks(int(inputs.shape[0])):
        check_values(graph, inputs[rows], targets[rows], chosen, rows.start)


def check_form(graph: ModelGraph, inputs: Tensor, targets: Tensor, function: ScoreFunction) -> None:
    """Whether types and shapes of data fit a model and a score function; looks at no value.

    Raises: ShapeMismatch, DtypeMismatch, BadDataset.
    """
    check_inputs(graph, inputs)
    _check_form(Dataset(inputs, targets), graph.limits)
    if len(graph.outputs) != 1:
        raise ShapeMismatch("a scored model has one output", seen=len(graph.outputs), wanted=1)
    function.check(graph.outputs[0], targets.dtype, tuple(targets.shape[1:]))


def check_values(graph: ModelGraph, inputs: Tensor, targets: Tensor, function: ScoreFunction, first: int) -> None:
    """Whether the values of some examples, `first` being the first's number, are finite and possible targets.

    Raises: BadDataset.
    """
    _check_finite(Dataset(inputs, targets), first)
    reason = function.check_targets(graph.outputs[0], targets)
    if reason is not None:
        raise BadDataset("targets do not fit the model", seen=reason)


def check_inputs(graph: ModelGraph, inputs: Tensor) -> None:
    """Whether inputs fit a model. Raises: ShapeMismatch, DtypeMismatch."""
    if len(graph.inputs) != 1:
        raise ShapeMismatch("a scored model has one input", seen=len(graph.inputs), wanted=1)
    wanted = graph.inputs[0]
    if dtype_name(inputs.dtype) != wanted.dtype:
        raise DtypeMismatch(
            "the inputs have another number type than the model's input",
            seen=dtype_name(inputs.dtype),
            wanted=wanted.dtype,
        )
    if tuple(inputs.shape[1:]) != wanted.shape:
        raise ShapeMismatch(
            "the inputs have another shape than the model's input",
            seen=("examples", *inputs.shape[1:]),
            wanted=("examples", *wanted.shape),
        )
