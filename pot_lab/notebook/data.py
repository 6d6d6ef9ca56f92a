"""What a client may give `Lab.order` as training and test data, read into one form: tensors in memory.

A pair of tensors or arrays, a table and the name of its target, a torch `Dataset`, a folder of images, or the path of a
data file. Nothing is read that exceeds the data limits
of the scoring specification (scoring-spec.md, "10. Test data").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)
from torch.utils.data import Dataset as TorchDataset

from pot_lab.errors import Oversize
from pot_lab.notebook.columns import is_table, read_columns
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.image_folder import read_folder
from pot_lab.scoring import DEFAULT_LIMITS, Dataset, Limits, unpack_dataset
from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch
from pot_lab.scoring.given_data import as_tensor

Array = Tensor | np.ndarray
"""One tensor: float32, float64 or int64 [examples, ...]; inputs also uint8 or int8."""

Data = (
    tuple[Array | tuple[Array, ...], Array]
    | tuple[object, str]
    | TorchDataset[object]
    | DataLoader[object]
    | Path
    | str
)
"""`(inputs, targets)`, `(table, "target")`, a map-style torch `Dataset`, a `DataLoader` of one, or the path of a data
file or of a folder of images."""


def read_data(name: str, data: Data, limits: Limits = DEFAULT_LIMITS) -> Dataset:
    """Read training or test data into tensors.

    Types, shapes and values are checked against the model later (`pot_lab.scoring.check_dataset`).

    Args:
        name: the argument's name, for error messages.
        data: one of

            - `(inputs, targets)`: tensors, arrays, or pandas tables and columns, whose first axis is the example;
              `inputs` is a tuple of them for a model that takes several.
            - a map-style torch `Dataset` (it has `__len__` and `__getitem__`) of `(input, target)` examples, all of
              the same shapes and number types; `((input, input, ...), target)` for a model that takes several inputs.
              Each example is read once, so a random transform is applied once.
            - a `DataLoader` of such a `Dataset`, shuffled or not: each example is taken once, in the set's order.
            - `(table, "column")`: a Parquet or Arrow file, an Arrow or pandas table or a Hugging Face dataset, and
              the name of the target's column. Columns of numbers are one input, columns of arrays one input each.
            - the path of a folder with a folder of images for each class; the images are uint8.
            - the path of a data file, as `pot_lab.pack_dataset` writes it.
        limits: the largest number of examples and bytes that is read.
    Raises:
        BadArgument: `data` is none of these, or an example of a `Dataset` cannot be used; the message names it.
        Oversize: there are more examples or bytes than `limits` allow.
        BadDataset, DtypeMismatch, ShapeMismatch: the data file breaks the data rules.

    Example:
        >>> read_data("train", (torch.zeros(3, 2), torch.tensor([0, 1, 0]))).examples
        3
    """
    if isinstance(data, str | Path) and Path(data).is_dir():
        return _dataset(*read_folder(name, Path(data), limits))
    if is_table(data):
        raise BadArgument(
            f"`{name}` is a table, and which column is the target is open",
            seen=str(data) if isinstance(data, str | Path) else type(data).__name__,
            wanted='(table, "target"), with the name of the target\'s column',
        )
    if isinstance(data, str | Path):
        return _from_file(name, Path(data), limits)
    if isinstance(data, DataLoader):
        return _from_torch(name, _dataset_of(name, data), limits)
    if isinstance(data, TorchDataset):
        return _from_torch(name, data, limits)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise BadArgument(
            f"`{name}` is not a pair of tensors",
            seen=type(data).__name__,
            wanted="(inputs, targets), a torch Dataset, or the path of a data file",
        )
    if isinstance(data[1], str) and is_table(data[0]):
        columns, targets = read_columns(name, data[0], data[1], limits)
        return _dataset(*columns, targets)
    try:
        return _dataset(*_tensors(data[0], data[1]))
    except (DtypeMismatch, ShapeMismatch) as error:
        wanted = error.wanted or "tensors, arrays or pandas columns; a tuple of them for a model with several inputs"
        raise BadArgument(f"`{name}` cannot be used: its {error.message}", seen=error.seen, wanted=wanted) from error


def _dataset_of(name: str, loader: DataLoader[object]) -> TorchDataset[object]:
    """The data set whose examples a loader gives, each once, in whatever batches and order.

    Raises: BadArgument for a loader that gives other examples: made by a `collate_fn`, or chosen by a sampler.
    """
    if isinstance(loader.dataset, IterableDataset):
        return loader.dataset  # which is refused as one
    sampler: object = loader.sampler
    whole = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement and len(sampler) == len(sampler.data_source)
    )
    usual = loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler
    if not whole or not usual:
        raise BadArgument(
            f"`{name}` is a DataLoader that chooses among the examples",
            seen=type(sampler if usual else loader.batch_sampler).__name__,
            wanted="its `dataset`, or a torch.utils.data.Subset of it",
        )
    if loader.collate_fn not in (default_collate, default_convert):
        raise BadArgument(
            f"`{name}` is a DataLoader that makes examples with a collate_fn",
            seen=getattr(loader.collate_fn, "__name__", type(loader.collate_fn).__name__),
            wanted="(inputs, targets), or a Dataset whose examples are finished",
        )
    return loader.dataset


def _from_file(name: str, path: Path, limits: Limits) -> Dataset:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > limits.dataset_bytes:
            raise Oversize(
                f"the data file given as `{name}` is too large",
                seen=f"{size_bytes} bytes",
                wanted=f"at most {limits.dataset_bytes} bytes",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise BadArgument(
            f"`{name}` cannot be read", seen=f"{path}: {error.strerror}", wanted="a data file, or (inputs, targets)"
        ) from error
    return unpack_dataset(raw, limits)


def _from_torch(name: str, data: TorchDataset[object], limits: Limits) -> Dataset:
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise BadArgument(
            f"`{name}` is a torch Dataset without a length",
            seen=type(data).__name__,
            wanted="a map-style Dataset with __len__ and __getitem__",
        )
    count: int = len(data)
    if count < 1:
        raise BadArgument(f"`{name}` is a torch Dataset without examples", wanted="at least one example")
    if count > limits.examples:
        raise Oversize(f"`{name}` has too many examples", seen=count, wanted=f"at most {limits.examples}")
    first = _example(name, data, 0)
    size_bytes = count * sum(tensor.numel() * tensor.element_size() for tensor in first)
    if size_bytes > limits.dataset_bytes:
        raise Oversize(
            f"`{name}` is too large", seen=f"{size_bytes} bytes", wanted=f"at most {limits.dataset_bytes} bytes"
        )
    columns = [torch.empty((count, *tensor.shape), dtype=tensor.dtype) for tensor in first]
    for index in range(count):
        example = _example(name, data, index) if index else first
        if _form(example) != _form(first):
            raise BadArgument(
                f"the examples of `{name}` differ in their shapes or number types",
                seen=f"example {index}: {_form(example)}",
                wanted=f"as example 0: {_form(first)}",
            )
        for column, tensor in zip(columns, example, strict=True):
            column[index] = tensor
    return _dataset(*columns)


def _example(name: str, data: TorchDataset[object], index: int) -> tuple[Tensor, ...]:
    """Inputs and target of one example of a torch Dataset."""
    try:
        example = data[index]
    except Exception as error:  # the client's own code: any failure of it is an unusable example
        raise BadArgument(
            f"example {index} of `{name}` cannot be read", seen=f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(example, tuple | list) or len(example) != 2:
        seen = f"{len(example)} values" if isinstance(example, tuple | list) else type(example).__name__
        raise BadArgument(
            f"example {index} of `{name}` is not a pair",
            seen=seen,
            wanted="(input, target), or ((input, input, ...), target) for a model that takes several inputs",
        )
    try:
        return _tensors(example[0], example[1])
    except (DtypeMismatch, ShapeMismatch) as error:
        wanted = "tensors, arrays or numbers; for images, a transform such as torchvision's ToTensor"
        raise BadArgument(
            f"example {index} of `{name}` holds something that is not a tensor", seen=str(error), wanted=wanted
        ) from error


def _form(example: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}" for tensor in example)


def _tensors(inputs: object, targets: object) -> tuple[Tensor, ...]:
    """Inputs, one or several, and targets as tensors.

    Raises:
        DtypeMismatch, ShapeMismatch: something is not a tensor of numbers.
    """
    several = [as_tensor(x, f"inputs, number {i},") for i, x in enumerate(inputs)] if isinstance(inputs, tuple) else []
    return (*(several or [as_tensor(inputs, "inputs")]), as_tensor(targets, "targets"))


def _dataset(*columns: Tensor) -> Dataset:
    *inputs, targets = columns
    return Dataset(inputs[0] if len(inputs) == 1 else tuple(inputs), targets)
