"""Tables of which one column is the target: Parquet and Arrow files, Arrow tables, Hugging Face datasets, pandas.

`(table, "column")` is read into inputs and targets. Columns of numbers become one tensor [examples, columns]; a column
of arrays of one shape becomes a tensor of its own. What would have to be rounded, guessed or filled in is refused with
its row and column. pyarrow is loaded only where it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.errors import Oversize, one_of
from pot_lab.notebook.errors import BadArgument
from pot_lab.scoring import Limits
from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch
from pot_lab.scoring.given_data import as_tensor

_FILES = {".parquet": "parquet", ".pq": "parquet", ".arrow": "feather", ".feather": "feather"}
_WIDER = {torch.int32: torch.int64, torch.int16: torch.int64, torch.float16: torch.float32}
"""Number types that data may not have, by one that holds the same numbers."""


def is_table(given: object) -> bool:
    """Whether this is a table, or the path of one, of which a target column can be named."""
    if isinstance(given, str | Path):
        return Path(given).suffix.lower() in _FILES
    return _kind(given) != ""


def _kind(given: object) -> str:
    """ "arrow", "pandas", "datasets", or "" for what is no table. Nothing is imported for it."""
    package = type(given).__module__.split(".")[0]
    if package == "pyarrow" and hasattr(given, "column_names"):
        return "arrow"
    if package == "pandas" and hasattr(given, "columns"):
        return "pandas"
    return "datasets" if package == "datasets" and hasattr(given, "with_format") else ""


def read_columns(name: str, table: object, target: str, limits: Limits) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs and targets of a table.

    Args:
        name: the argument's name, for error messages.
        table: a path, an Arrow table, a pandas table or a Hugging Face dataset.
        target: the column that a model is to tell.
        limits: the largest number of examples and bytes that is read.
    Raises:
        BadArgument: there is no such column, or a value cannot be used; the message names row and column.
        Oversize: there are more examples or bytes than `limits` allow.
    """
    if isinstance(table, str | Path):
        table = _opened(name, Path(table), limits)
    names = [str(c) for c in (table.columns if _kind(table) == "pandas" else table.column_names)]  # type: ignore[attr-defined]
    if target not in names or len(set(names)) != len(names):
        raise BadArgument(
            f"`{name}` has no column of the target's name" if target not in names else f"`{name}` has a column twice",
            seen=target if target not in names else ", ".join(sorted(c for c in set(names) if names.count(c) > 1)),
            wanted=one_of(target, names) if target not in names else "columns of different names",
        )
    if len(names) < 2:
        raise BadArgument(f"`{name}` has no column beside the target", seen=target, wanted="columns of inputs")
    count = len(table)  # type: ignore[arg-type]
    if not 1 <= count <= limits.examples:
        raise (BadArgument if count < 1 else Oversize)(
            f"`{name}` has too {'few' if count < 1 else 'many'} examples", seen=count, wanted=f"1 to {limits.examples}"
        )
    read = _reader(name, table, names)
    columns = {c: _tensor(name, c, read(c)) for c in names}
    if (size := sum(t.numel() * t.element_size() for t in columns.values())) > limits.dataset_bytes:
        raise Oversize(f"`{name}` is too large", seen=f"{size} bytes", wanted=f"at most {limits.dataset_bytes} bytes")
    return _inputs(name, {c: t for c, t in columns.items() if c != target}), columns[target]


def _opened(name: str, path: Path, limits: Limits) -> Any:
    kind = _FILES[path.suffix.lower()]
    try:
        if (size := path.stat().st_size) > limits.dataset_bytes:
            raise Oversize(
                f"the file given as `{name}` is too large",
                seen=f"{size} bytes",
                wanted=f"at most {limits.dataset_bytes} bytes",
            )
        module = importlib.import_module(f"pyarrow.{kind}")
        return module.read_table(path)
    except ImportError as error:
        raise BadArgument(
            f"`{name}` is a file that pyarrow reads, and pyarrow is not installed",
            seen=path,
            wanted="pip install pyarrow",
        ) from error
    except OSError as error:
        raise BadArgument(f"`{name}` cannot be read", seen=f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # pyarrow's own ArrowInvalid
        raise BadArgument(f"`{name}` is no {kind} file", seen=f"{path}: {str(error).splitlines()[0]}") from error


def _reader(name: str, table: Any, names: Sequence[str]) -> Callable[[str], Any]:
    """A function that gives a column as an array, or as a list of values of which some may be arrays."""
    kind = _kind(table)
    if kind == "pandas":
        places = {str(c): i for i, c in enumerate(table.columns)}
        return lambda c: table.iloc[:, places[c]].to_numpy()
    if kind == "datasets":
        rows = table.with_format("numpy")

        def column(c: str) -> Any:
            try:
                return rows[c][:]
            except Exception as error:  # whatever a feature's decoder raises, the column cannot be read
                raise BadArgument(
                    f"column {c!r} of `{name}` cannot be read", seen=f"{type(error).__name__}: {error}"
                ) from error

        return column
    return lambda c: _of_arrow(name, c, table.column(c))


def _of_arrow(name: str, column: str, values: Any) -> Any:
    if values.null_count:
        row = next(i for i, value in enumerate(values.is_null().to_pylist()) if value)
        raise BadArgument(
            f"`{name}` has a place without a value",
            seen=f"row {row}, column {column!r}",
            wanted="a number; leave out or fill in what is missing",
        )
    whole = values.combine_chunks() if hasattr(values, "combine_chunks") else values
    if str(whole.type).startswith(("list", "large_list", "fixed_size_list")):
        return whole.to_pylist()
    return whole.to_numpy(zero_copy_only=False)


def _tensor(name: str, column: str, values: Any) -> Tensor:
    """A column as a tensor [examples, ...] of a number type that data may have."""
    array = values if isinstance(values, np.ndarray) and values.dtype.kind != "O" else _stacked(name, column, values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.nonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[0][0])
        raise BadArgument(
            f"`{name}` has a place that is no finite number",
            seen=f"row {row}, column {column!r}",
            wanted="a number; leave out or fill in what is missing",
        )
    try:
        tensor = as_tensor(array, f"column {column!r} of `{name}`")
    except (DtypeMismatch, ShapeMismatch) as error:
        raise BadArgument(error.message, seen=error.seen, wanted=error.wanted) from error
    small = tensor.dtype in (torch.uint8, torch.int8) and tensor.dim() == 1
    return tensor.to(torch.int64 if small or tensor.dtype is torch.bool else _WIDER.get(tensor.dtype, tensor.dtype))


def _stacked(name: str, column: str, values: Any) -> NDArray[Any]:
    """Values that may be arrays or lists, as one array."""
    parts: list[NDArray[Any]] = []
    for row, value in enumerate(values):
        try:
            part = np.asarray(value)
        except ValueError as error:
            raise BadArgument(
                f"`{name}` has a list of lists of different lengths", seen=f"row {row}, column {column!r}"
            ) from error
        if part.dtype.kind not in "biuf":
            shown = f"{type(value).__name__} {value!r:.40}"
            raise BadArgument(
                f"`{name}` holds something that is no number",
                seen=f"{shown} in row {row}, column {column!r}",
                wanted="numbers; give each word or class a whole number, and leave out or fill in what is missing",
            )
        if parts and part.shape != parts[0].shape:
            raise BadArgument(
                f"the arrays in column {column!r} of `{name}` have different shapes",
                seen=f"row {row}: {part.shape}",
                wanted=f"{parts[0].shape}, as in row 0; cut, fill or resize them",
            )
        parts.append(part)
    return np.stack(parts)


def _inputs(name: str, columns: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Columns of numbers as one tensor, columns of arrays as one tensor each."""
    plain = [c for c, t in columns.items() if t.dim() == 1]
    if not plain:
        return tuple(columns.values())
    if len(plain) < len(columns):
        raise BadArgument(
            f"`{name}` has columns of numbers and columns of arrays, and which are the model's inputs is open",
            seen=f"numbers: {', '.join(plain[:6])}; arrays: {', '.join(c for c in columns if c not in plain)[:200]}",
            wanted="a table of the columns that the model takes and the target, or (inputs, targets)",
        )
    types = {t.dtype for t in columns.values()}
    if len(types) > 1 and any(t.dtype is torch.float32 for t in columns.values()):
        odd = next(c for c, t in columns.items() if t.dtype is not torch.float32)
        raise BadArgument(
            f"the columns of `{name}` have different number types",
            seen=f"column {odd!r}: {columns[odd].dtype}",
            wanted="torch.float32, as the others have, such as table.astype('float32')",
        )
    common = torch.float64 if len(types) > 1 else next(iter(types))
    for c, t in columns.items():
        if common is torch.float64 and t.dtype is torch.int64 and bool((t.abs() > 1 << 53).any()):
            raise BadArgument(
                f"a whole number of `{name}` has no equal among float64's, which other columns have",
                seen=f"column {c!r}: {int(t.abs().max())}",
                wanted="whole numbers up to 2^53",
            )
    return (torch.stack([t.to(common) for t in columns.values()], 1),)
