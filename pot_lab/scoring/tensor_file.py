"""Reading and writing safetensors, the only tensor file this project opens.

The header is checked against a size limit and a whitelist of number types before any tensor is made. Pickles, zip
archives and other formats are named in the refusal; nothing here can run code from a file.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as _load
from safetensors.torch import save as _save
from torch import Tensor

from pot_lab.crypto.nested_json import load_json
from pot_lab.errors import Oversize, PotLabError

HEADER_LIMIT_BYTES = 16 << 20
DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "bool": torch.bool,
}
"""Number types that files may hold, by the name that graphs use."""

FILE_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "I8": "int8",
    "BOOL": "bool",
}
"""safetensors' own names of number types."""

_MAGIC = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes it, with a pickle inside"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x93NUMPY", "a numpy file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip file"),
)


def dtype_name(dtype: torch.dtype) -> str:
    """A number type's name in graphs, such as "float32"."""
    return str(dtype).removeprefix("torch.")


def write_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Safetensors bytes of `tensors`, on the CPU, contiguous. Tensors that share memory are written each by itself."""
    own: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().to("cpu").contiguous()
        storage = here.untyped_storage().data_ptr()
        own[name] = here.clone() if storage in taken else here
        taken.add(storage)
    # The library copies a file twice, and a model may fill half of the memory. So it writes the file of empty tensors,
    # whose order and names of types are those of the whole one.
    empty = bytes(_save({name: t.new_empty(0) for name, t in own.items()}, metadata))
    header: dict[str, Any] = json.loads(empty[8 : 8 + struct.unpack("<Q", empty[:8])[0]])
    place, parts = 0, []
    for name, entry in header.items():
        if name != "__metadata__":
            data = own[name].reshape(-1).view(torch.uint8).numpy().data
            parts.append(data)
            entry |= {"shape": list(own[name].shape), "data_offsets": [place, place := place + data.nbytes]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def read_tensors(data: bytes, *, limit_bytes: int, what: str, error: type[PotLabError]) -> dict[str, Tensor]:
    """Tensors of a safetensors file from outside.

    Args:
        what: how to call the file in messages, such as "weights file".
        error: class of the refusals.
    Raises:
        Oversize: the file is longer than `limit_bytes`.
        error: a pickle, another format, a broken or ambiguous header, a number type that is not allowed.
    """
    read_header(data, limit_bytes=limit_bytes, what=what, error=error)
    try:
        tensors: dict[str, Tensor] = _load(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError, OverflowError) as problem:
        raise error(f"the {what} is no valid safetensors file: {problem}") from problem
    return tensors


class MappedTensors:
    """The tensors of a safetensors file from outside, in memory-mapped pages: read when they are used.

    Args:
        path: of the file, which must not change meanwhile.
        limit_bytes, what, error: as for `read_tensors`.
    Attributes:
        tensors: by name. Changes to them never reach the file.
    Raises: as `read_tensors`, and OSError.
    """

    def __init__(self, path: Path, *, limit_bytes: int, what: str, error: type[PotLabError]) -> None:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise error(f"the {what} is empty", seen=str(path))
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        header = read_header(self._map, limit_bytes=limit_bytes, what=what, error=error)
        try:
            with safe_open(path, "pt") as opened:  # checks that every byte belongs to one tensor
                names = set(opened.keys())
        except (SafetensorError, ValueError, RuntimeError, OverflowError) as problem:
            raise error(f"the {what} is no valid safetensors file: {problem}") from problem
        (length,) = struct.unpack("<Q", self._map[:8])
        entries = json.loads(self._map[8 : 8 + length])
        self.tensors: dict[str, Tensor] = {}
        for name in sorted(names):
            dtype, shape = header[name]
            start, stop = entries[name]["data_offsets"]
            size, place = DTYPES[dtype].itemsize, 8 + length + start
            if start == stop:
                self.tensors[name] = torch.empty(shape, dtype=DTYPES[dtype])
                continue
            if place % size:
                raise error(f"the {what} has a tensor at an odd place; larger number types go first", seen=name)
            flat = torch.frombuffer(self._map, dtype=DTYPES[dtype], count=(stop - start) // size, offset=place)
            self.tensors[name] = flat.reshape(shape)

    def release(self) -> None:
        """Drop the pages that were read from memory; they are read again when they are used."""
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)


def read_header(
    data: bytes | mmap.mmap, *, limit_bytes: int, what: str, error: type[PotLabError]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (number type, shape) of each tensor; checks as `read_tensors`, makes no tensor."""
    if len(data) > limit_bytes:
        raise Oversize(f"the {what} is too large", seen=f"{len(data)} bytes", wanted=f"at most {limit_bytes} bytes")
    header = _parsed(data, what, error)
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise error(f"the {what} has a bad header entry", seen=name)
        if entry["dtype"] not in FILE_DTYPES:
            raise error(
                f"the {what} holds a number type that is not accepted",
                seen=f"{name}: {entry['dtype']}",
                wanted=", ".join(FILE_DTYPES),
            )
        shape = entry["shape"]
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
            raise error(f"the {what} has a bad shape", seen=f"{name}: {shape}")
        found[name] = (FILE_DTYPES[entry["dtype"]], tuple(shape))
    return found


def _parsed(data: bytes | mmap.mmap, what: str, error: type[PotLabError]) -> dict[str, Any]:
    """The header's JSON object. A file is another format only if it is no safetensors: the length that it begins with
    may have any bytes, those of a pickle too."""
    if len(data) < 8:
        raise _other_format(data, what, error) or error(
            f"the {what} is no safetensors file: it is too short", seen=f"{len(data)} bytes"
        )
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(HEADER_LIMIT_BYTES, len(data) - 8):
        raise _other_format(data, what, error) or error(
            f"the {what} is no safetensors file: its header does not fit",
            seen=length,
            wanted=f"at most {len(data) - 8}",
        )
    try:
        header = load_json(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        other = _other_format(data, what, error)
        raise other or error(f"the {what} is no safetensors file: bad header: {problem}") from problem
    if not isinstance(header, dict):
        raise error(f"the {what} is no safetensors file: its header is no object")
    return header


def _other_format(data: bytes | mmap.mmap, what: str, error: type[PotLabError]) -> PotLabError | None:
    """The refusal of a file that begins as another known format does."""
    for magic, name in _MAGIC:
        if data[:8].startswith(magic):
            return error(f"the {what} is {name}; only safetensors are accepted", seen=data[:8])
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands twice")
    return names


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")
