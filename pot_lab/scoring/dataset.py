"""Data sets as safetensors with the tensors `inputs` and `targets`, whose first axes are the examples.

A model with several inputs has data with `inputs.0`, `inputs.1` and so on instead of `inputs`, in the order of the
graph's inputs; in Python they are a tuple of tensors.

Train data are named by the hash of their blob. Test data are named by the Merkle root over their examples, which
stands in the order before anyone has seen them (scoring-spec.md, "10. Test data"). Floating-point data must be finite:
NaN or infinity in data is the client's error and is refused here, so an invalid score is always the model's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pot_lab.crypto.canonical import encode, tagged_hash
from pot_lab.crypto.merkle import MerkleProof, merkle_proof, merkle_root
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.functions import score_function
from pot_lab.scoring.given_data import Inputs, InputsLike, TensorLike, as_inputs, as_tensor
from pot_lab.scoring.graph.model_graph import LARGEST_INPUTS, ModelGraph
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.score_records import ScoreFunction
from pot_lab.scoring.tensor_file import (
    FILE_DTYPES,
    MappedTensors,
    dtype_name,
    read_header,
    read_tensors,
    write_tensors,
)

TARGET_DTYPES = (torch.float32, torch.float64, torch.int64)
INPUT_DTYPES = (*TARGET_DTYPES, torch.uint8, torch.int8)
"""Small whole numbers, such as pictures, stay as they are; a model casts them itself."""
_EXAMPLE_TAG = "pot-lab/example/1"
_CHECKED_ROWS = 4096


def each_input(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of a model's inputs, one or more."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def some_rows(inputs: Inputs, rows: slice | Tensor) -> Inputs:
    """Some examples of all inputs: a slice, or their numbers."""
    return tuple(x[rows] for x in inputs) if isinstance(inputs, tuple) else inputs[rows]


class Dataset(NamedTuple):
    """`inputs`: one tensor, or a tuple of tensors for a model that takes several."""

    inputs: Inputs
    targets: Tensor

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.targets.shape[0])

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under the names that a data file gives them."""
        if isinstance(self.inputs, tuple):
            return {f"inputs.{i}": x for i, x in enumerate(self.inputs)} | {"targets": self.targets}
        return {"inputs": self.inputs, "targets": self.targets}


def pack_dataset(inputs: InputsLike, targets: TensorLike, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Safetensors bytes of a data set, as orders and workers take them.

        >>> import numpy as np
        >>> from pot_lab import pack_dataset
        >>> from pot_lab.scoring import unpack_dataset
        >>> data = pack_dataset(np.zeros((3, 4), np.float32), np.array([0, 1, 2]))
        >>> unpack_dataset(data).inputs.shape
        torch.Size([3, 4])

    Args:
        inputs: float32, float64, int64, uint8 or int8 [examples, ...], finite, a tensor or an array; a tuple of 2 to 16
            of them for a model that takes several inputs.
        targets: float32, float64 or int64 [examples, ...], finite.
        limits: bounds of the number of examples.
    Raises:
        DtypeMismatch: a number type that data may not have.
        ShapeMismatch: no example, or inputs and targets of different lengths.
        BadDataset: a value that is not finite, too many examples, or too many inputs.
    """
    pair = Dataset(as_inputs(inputs), as_tensor(targets, "targets"))
    _check(pair, limits)
    return write_tensors(pair.tensors())


def unpack_dataset(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Dataset:
    """Read a data set from outside; refuses whatever `pack_dataset` would not have written.

    Raises: BadDataset, DtypeMismatch, ShapeMismatch, Oversize.
    """
    _check_names(read_header(data, limit_bytes=limits.dataset_bytes, what="data file", error=BadDataset))
    tensors = read_tensors(data, limit_bytes=limits.dataset_bytes, what="data file", error=BadDataset)
    pair = _paired(tensors)
    _check(pair, limits)
    return pair


def _check_names(names: Iterable[str]) -> None:
    found = set(names)
    count = len(found) - 1
    several = {f"inputs.{i}" for i in range(count)} if 2 <= count <= LARGEST_INPUTS else set()
    if found not in ({"inputs", "targets"}, several | {"targets"}) or found == {"targets"}:
        raise BadDataset(
            "a data file holds inputs and targets",
            seen=", ".join(sorted(found)[:8]),
            wanted=f"inputs, targets; or inputs.0, inputs.1 and so on, at most {LARGEST_INPUTS}, and targets",
        )


def _paired(tensors: Mapping[str, Tensor]) -> Dataset:
    several = tuple(tensors[f"inputs.{i}"] for i in range(len(tensors) - 1) if f"inputs.{i}" in tensors)
    return Dataset(several or tensors["inputs"], tensors["targets"])


class DatasetFile:
    """A data file that may be larger than memory: `inputs` and `targets` lie in memory-mapped pages.

    Types and shapes are checked here, values where they are scored (`check_values`).

    Raises: BadDataset, DtypeMismatch, ShapeMismatch, Oversize, OSError.
    """

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self._file = MappedTensors(path, limit_bytes=limits.dataset_bytes, what="data file", error=BadDataset)
        _check_names(self._file.tensors)
        self.path = path
        self.inputs, self.targets = pair = _paired(self._file.tensors)
        self.examples = pair.examples
        _check_form(pair, limits)

    def release(self) -> None:
        """Drop the pages that were read from memory."""
        self._file.release()

    def check_finite(self) -> None:
        """Whether all values are finite, read some examples at a time. Raises: BadDataset."""
        for rows in _blocks(self.examples):
            _check_finite(Dataset(some_rows(self.inputs, rows), self.targets[rows]), rows.start)
            self.release()

    def root(self) -> bytes:
        """`dataset_root` of the examples, some at a time."""

        def leaves() -> Iterator[bytes]:
            for rows in _blocks(self.examples):
                for index in range(rows.start, rows.stop):
                    yield example_leaf(self.inputs, self.targets, index)
                self.release()

        return merkle_root(leaves())

    def check(self, graph: ModelGraph, function: str | ScoreFunction) -> None:
        """`check_dataset`, some examples at a time."""
        check_dataset(graph, self.inputs, self.targets, function, after_rows=self.release)


def save_dataset(path: Path, inputs: Inputs, targets: Tensor, limits: Limits = DEFAULT_LIMITS) -> None:
    """Write a data file some rows at a time; what `pack_dataset` does, for data larger than memory.

    Raises: BadDataset, DtypeMismatch, ShapeMismatch, OSError.
    """
    pair = Dataset(inputs, targets)
    _check(pair, limits)
    codes = {known: code for code, known in FILE_DTYPES.items()}
    order = sorted(pair.tensors().items(), key=lambda item: -item[1].element_size())  # so that each is aligned
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
        _check_finite(Dataset(some_rows(pair.inputs, rows), pair.targets[rows]), rows.start)


def _check_form(pair: Dataset, limits: Limits) -> None:
    if isinstance(pair.inputs, tuple) and not 2 <= len(pair.inputs) <= LARGEST_INPUTS:
        raise BadDataset(
            "data have one tensor of inputs or several", seen=len(pair.inputs), wanted=f"1 to {LARGEST_INPUTS}"
        )
    for name, tensor in pair.tensors().items():
        allowed = TARGET_DTYPES if name == "targets" else INPUT_DTYPES
        if tensor.dtype not in allowed:
            raise DtypeMismatch(
                f"{name} have a number type that data may not have",
                seen=tensor.dtype,
                wanted=", ".join(map(str, allowed))
                + ("; as with .float()" if tensor.dtype.is_floating_point else "; as with .long()"),
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ShapeMismatch(f"{name} need at least one example", seen=tuple(tensor.shape), wanted="(examples, ...)")
    for name, tensor in pair.tensors().items():
        if tensor.shape[0] != pair.examples:
            raise ShapeMismatch(
                f"{name} and targets have different numbers of examples",
                seen=f"{tensor.shape[0]} and {pair.examples}",
            )
    if pair.examples > limits.examples:
        raise BadDataset("too many examples", seen=pair.examples, wanted=f"at most {limits.examples}")


def _check_finite(pair: Dataset, first: int) -> None:
    for name, tensor in pair.tensors().items():
        if tensor.dtype.is_floating_point:
            finite = torch.isfinite(tensor.reshape(tensor.shape[0], -1)).all(1)
            if not bool(finite.all()):
                row = int((~finite).nonzero()[0])
                place = (~torch.isfinite(tensor[row])).nonzero()[0].tolist()
                value = float(tensor[row][tuple(place)])
                raise BadDataset(
                    f"{name} hold a value that is not finite",
                    seen=f"{value} in example {first + row}" + (f", place {', '.join(map(str, place))}" * bool(place)),
                    wanted="leave out the example, or fill in a number",
                )


def example_leaf(inputs: Inputs, targets: Tensor, index: int) -> bytes:
    """32 bytes that name one example: its types, shapes and little-endian elements, all inputs before the target."""
    parts = []
    for tensor in (*(x[index] for x in each_input(inputs)), targets[index]):
        parts.append(encode((dtype_name(tensor.dtype), list(tensor.shape))))
        parts.append(tensor.detach().cpu().contiguous().numpy().tobytes())
    return tagged_hash(_EXAMPLE_TAG, *parts)


def dataset_root(inputs: Inputs, targets: Tensor) -> bytes:
    """Merkle root (32 bytes) over the examples in order."""
    return merkle_root(example_leaf(inputs, targets, i) for i in range(len(targets)))


def dataset_proof(inputs: Inputs, targets: Tensor, index: int) -> MerkleProof:
    """Proof that an example is in the data set of `dataset_root`; its leaf is `example_leaf`."""
    return merkle_proof([example_leaf(inputs, targets, i) for i in range(len(targets))], index)


def check_dataset(
    graph: ModelGraph,
    inputs: Inputs,
    targets: Tensor,
    function: str | ScoreFunction,
    *,
    after_rows: Callable[[], None] = lambda: None,
) -> None:
    """Whether data fit a model and a score function. `after_rows`: called each time some rows were read.

    Raises: ShapeMismatch, DtypeMismatch, BadDataset, naming the argument and both sides.
    """
    chosen = score_function(function)
    check_form(graph, inputs, targets, chosen)
    for rows in _blocks(len(targets)):
        check_values(graph, some_rows(inputs, rows), targets[rows], chosen, rows.start)
        after_rows()


def check_form(graph: ModelGraph, inputs: Inputs, targets: Tensor, function: ScoreFunction) -> None:
    """Whether types and shapes of data fit a model and a score function; reads no value.

    Raises: ShapeMismatch, DtypeMismatch, BadDataset.
    """
    check_inputs(graph, inputs)
    _check_form(Dataset(inputs, targets), graph.limits)
    if len(graph.outputs) != 1:
        raise ShapeMismatch("a scored model has one output", seen=len(graph.outputs), wanted=1)
    function.check(graph.outputs[0], targets.dtype, tuple(targets.shape[1:]))


def check_values(graph: ModelGraph, inputs: Inputs, targets: Tensor, function: ScoreFunction, first: int) -> None:
    """Whether the values of some examples, `first` being the first's number, are finite and possible targets.

    Raises: BadDataset.
    """
    _check_finite(Dataset(inputs, targets), first)
    reason = function.check_targets(graph.outputs[0], targets)
    if reason is not None:
        raise BadDataset("targets do not fit the model", seen=reason)


def check_inputs(graph: ModelGraph, inputs: Inputs) -> None:
    """Whether inputs fit a model. Raises: ShapeMismatch, DtypeMismatch."""
    given = each_input(inputs)
    if len(given) != len(graph.inputs):
        names = ", ".join(i.name for i in graph.inputs)
        raise ShapeMismatch(
            "the model takes another number of inputs",
            seen=len(given),
            wanted=f"a tuple of {len(graph.inputs)}: {names}" if len(graph.inputs) > 1 else "one tensor",
        )
    for place, (x, wanted) in enumerate(zip(given, graph.inputs, strict=True)):
        ours, theirs = "the inputs", "the model's input"
        if wanted.name:
            ours, theirs = f"inputs, number {place},", f"the model's input {wanted.name!r}"
        if dtype_name(x.dtype) != wanted.dtype:
            raise DtypeMismatch(
                f"{ours} have another number type than {theirs}", seen=dtype_name(x.dtype), wanted=wanted.dtype
            )
        if tuple(x.shape[1:]) != wanted.shape:
            raise ShapeMismatch(
                f"{ours} have another shape than {theirs}",
                seen=("examples", *x.shape[1:]),
                wanted=("examples", *wanted.shape),
            )
