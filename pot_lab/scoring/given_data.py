"""The one gate for data that users give: tensors, arrays, and what has `to_numpy`, such as pandas, as tensors.

Numbers are never changed: what would have to be rounded, guessed or filled in is refused with its place.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch

Inputs = Tensor | tuple[Tensor, ...]
"""What a model takes: one tensor [examples, ...], or a tuple of two and more."""
TensorLike = Tensor | NDArray[Any]
InputsLike = TensorLike | tuple[TensorLike, ...]
"""`Inputs` as users may give them: tensors, arrays, pandas tables and columns."""

_WANTED = "a tensor, an array or a pandas column; for several inputs a tuple of them"
_KINDS = {
    "U": "text (str); give each word or class a whole number",
    "S": "bytes (str in C); give each word or class a whole number",
    "M": "dates; give numbers, such as days since the first one",
    "m": "durations; give numbers, such as seconds",
    "V": "records with fields; give one array for each field",
    "c": "complex numbers; give real and imaginary parts",
}


def as_inputs(inputs: InputsLike) -> Inputs:
    """Inputs as tensors: a tuple is several inputs, anything else is one.

    Raises: DtypeMismatch, ShapeMismatch.
    """
    if not isinstance(inputs, tuple):
        return as_tensor(inputs, "inputs")
    found = tuple(as_tensor(x, f"inputs, number {i},") for i, x in enumerate(inputs))
    return found[0] if len(found) == 1 else found


def as_tensor(data: Any, name: str) -> Tensor:
    """Data as a tensor that shares their memory where it can.

    Args:
        data: a tensor; an array, of any strides and byte order; a pandas column or table, or anything else with
            `to_numpy`; a list of numbers.
        name: what error messages call it.
    Raises: DtypeMismatch for what is no tensor of numbers, ShapeMismatch for lists of different lengths.
    """
    if isinstance(data, Tensor):
        return _dense(data, name)
    if data is None or isinstance(data, str | bytes | dict | set):
        raise DtypeMismatch(f"{name} are no tensor of numbers", seen=type(data).__name__, wanted=_WANTED)
    if isinstance(data, list) and data and isinstance(data[0], Tensor):
        try:
            return torch.stack(data).detach()
        except (TypeError, RuntimeError) as problem:
            raise DtypeMismatch(
                f"{name} are a list of tensors that make no array",
                seen=str(problem),
                wanted="one tensor, or for a model with several inputs a tuple of them",
            ) from problem
    return _of_array(_array(data, name), data, name)


def _dense(data: Tensor, name: str) -> Tensor:
    if data.is_nested:
        raise DtypeMismatch(
            f"{name} are a nested tensor, whose examples differ in length", seen="nested", wanted="padded examples"
        )
    if data.layout is not torch.strided or data.is_quantized:
        kind = "quantised" if data.is_quantized else str(data.layout).removeprefix("torch.")
        wanted = "its dequantize()" if data.is_quantized else "its to_dense()"
        raise DtypeMismatch(f"{name} are a tensor of another layout", seen=kind, wanted=wanted)
    return data.detach()


def _array(data: Any, name: str) -> NDArray[Any]:
    if np.ma.isMaskedArray(data) and bool(np.ma.getmaskarray(data).any()):
        place = np.argwhere(np.ma.getmaskarray(data))[0]
        _refuse_missing(name, data, place, "masked")
    if callable(getattr(data, "to_numpy", None)) and callable(getattr(data, "isna", None)):
        missing = np.asarray(data.isna())
        if missing.any():
            _refuse_missing(name, data, np.argwhere(missing)[0], "missing")
    try:
        if callable(getattr(data, "to_numpy", None)):
            return np.asarray(data.to_numpy())
        if callable(getattr(data, "toarray", None)):
            raise DtypeMismatch(f"{name} are a sparse matrix", seen=type(data).__name__, wanted="its toarray()")
        return np.asarray(data)
    except ValueError as problem:
        raise ShapeMismatch(f"{name} are no array: {problem}", seen=type(data).__name__) from problem
    except (TypeError, RuntimeError) as problem:
        raise DtypeMismatch(
            f"{name} are no tensor of numbers: {problem}", seen=type(data).__name__, wanted=_WANTED
        ) from problem


def _refuse_missing(name: str, data: Any, place: NDArray[Any], what: str) -> None:
    columns = [str(c) for c in getattr(data, "columns", [])]
    where = f"row {place[0]}"
    if len(place) > 1:
        where += f", column {columns[place[1]]!r}" if columns else f", place {tuple(int(n) for n in place[1:])}"
    raise DtypeMismatch(
        f"{name} hold a value that is {what}",
        seen=where,
        wanted="numbers in all places: leave out the row, or fill in a number, beside a column that says so",
    )


def _of_array(array: NDArray[Any], data: Any, name: str) -> Tensor:
    if array.dtype.kind == "O":
        kinds = {type(v).__name__ for v in array.flat}
        if all(isinstance(v, bool | int | float | np.number) for v in array.flat):
            raise DtypeMismatch(
                f"{name} hold numbers of several types",
                seen=", ".join(sorted(kinds)),
                wanted='one type for all, as with .astype("float32")',
            )
        place, value = _first_that_is_no_number(array, data)
        raise DtypeMismatch(
            f"{name} hold something that is no number",
            seen=f"{type(value).__name__} {value!r:.40} {place}".strip(),
            wanted="numbers of one type; leave out or fill in what is missing, and give text whole numbers",
        )
    if array.dtype.kind in _KINDS:
        kind = _KINDS[array.dtype.kind]
        raise DtypeMismatch(f"{name} hold {kind}", seen=array.dtype, wanted=_WANTED)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides) or any(s % max(1, array.itemsize) for s in array.strides):
        array = np.ascontiguousarray(array)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arrays that may not be written to: nobody writes to data
            return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise DtypeMismatch(
            f"{name} are no tensor of numbers: {problem}", seen=array.dtype, wanted=_WANTED
        ) from problem


def _first_that_is_no_number(array: NDArray[Any], data: Any) -> tuple[str, Any]:
    """Where it stands, in words, and what it is."""
    columns = [str(c) for c in getattr(data, "columns", [])]
    for place in np.ndindex(array.shape):
        value: Any = array[place]
        if isinstance(value, bool | int | float | np.number) and value == value:
            continue
        if len(place) > 1 and len(columns) == array.shape[1]:
            return f"in row {place[0]}, column {columns[place[1]]!r}", value
        return (f"in row {place[0]}" if place else ""), value
    return "", array
