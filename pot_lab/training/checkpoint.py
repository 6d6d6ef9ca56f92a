"""Checkpoints of a training: one safetensors file, its JSON in the file's metadata, replaced as a whole.

A job killed at any moment finds either the old or the new checkpoint, never a half. Never pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pot_lab.files import replace_durably
from pot_lab.scoring.tensor_file import write_tensors
from pot_lab.training.errors import BadCheckpoint

FILE_NAME = "checkpoint.safetensors"
VERSION = 1
_KEY = "pot-lab-checkpoint"


def save_checkpoint(directory: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Replace the checkpoint in `directory`, durably."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": VERSION, **values}, sort_keys=True)
    replace_durably(directory / FILE_NAME, write_tensors(tensors, {_KEY: text}))


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
