"""Checkpoints of a training: one safetensors file, its JSON in the file's metadata, replaced as a whole.

A job killed at any moment finds either the old or the new checkpoint, never a half. Never pickle. The file is written
tensor by tensor, so writing needs no memory beside the tensors.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pot_lab.files import move_durably
from pot_lab.scoring.tensor_file import FILE_DTYPES, dtype_name
from pot_lab.training.errors import BadCheckpoint

FILE_NAME = "checkpoint.safetensors"
VERSION = 2
_KEY = "pot-lab-checkpoint"
_CHUNK_BYTES = 8 << 20


def save_checkpoint(
    directory: Path,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    *,
    abandoned: Callable[[], bool] = lambda: False,
) -> bool:
    """Replace the checkpoint in `directory`, durably.

    Args:
        directory: made if missing.
        tensors: what it holds, by name.
        values: what JSON can hold.
        abandoned: asked while the file is written; True gives up, and the old checkpoint stays.
    Returns: whether the new one is there.
    Raises: OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob(f".{FILE_NAME}.*.tmp"):  # of a job that was killed meanwhile
        left.unlink(missing_ok=True)
    text = json.dumps({"version": VERSION, **values}, sort_keys=True)
    temporary = directory / f".{FILE_NAME}.{secrets.token_hex(8)}.tmp"
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if not _write(file, tensors, {_KEY: text}, abandoned):
                return False
        if abandoned():
            return False
        move_durably(temporary, directory / FILE_NAME)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _write(
    file: IO[bytes], tensors: Mapping[str, Tensor], metadata: dict[str, str], abandoned: Callable[[], bool]
) -> bool:
    codes = {known: code for code, known in FILE_DTYPES.items()}
    order = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # so that each is aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    place = 0
    for name, tensor in order:
        stop = place + tensor.numel() * tensor.element_size()
        code = codes[dtype_name(tensor.dtype)]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [place, stop]}
        place = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, tensor in order:
        data = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data
        for start in range(0, len(data), _CHUNK_BYTES):
            if abandoned():
                return False
            file.write(data[start : start + _CHUNK_BYTES])
    return True


def load_checkpoint(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and values of the checkpoint in `directory`, or None where there is none.

    Raises: BadCheckpoint.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, KeyError) as problem:
        raise BadCheckpoint("a checkpoint cannot be read; remove it to start again", seen=path.name) from problem
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise BadCheckpoint("a checkpoint has another version; remove it to start again", seen=values, wanted=VERSION)
    return tensors, values
