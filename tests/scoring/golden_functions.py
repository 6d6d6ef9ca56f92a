"""Golden vectors of score functions: outputs, targets, and the values, total and digest that they have for ever.

A vector that was released is never made again. `python -m tests.scoring.golden_functions` adds the missing ones.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pot_lab.scoring import Transcript, pack_dataset, score_function, unpack_dataset
from tests.scoring.function_cases import cases
from tests.scoring.golden import FOLDER

FILE = FOLDER / "functions.jsonl"


def computed(identifier: str, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """Values, total and digest of a function."""
    function = score_function(identifier)
    values = function.evaluate(outputs.double(), targets)
    transcript = Transcript.of(function, values.numpy(), np.zeros(len(values), bool))
    return {"values": values.tolist(), "total": transcript.total, "digest": transcript.digest.hex()}


def vectors() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def opened(vector: dict[str, Any]) -> tuple[Tensor, Tensor]:
    outputs, targets = unpack_dataset(base64.b64decode(vector["data"]))
    assert isinstance(outputs, Tensor)
    return outputs, targets


if __name__ == "__main__":
    torch.set_num_threads(1)
    known = {v["function"] for v in vectors()}
    with FILE.open("a") as file:
        for name, (outputs, targets) in cases().items():
            if name not in known:
                data = base64.b64encode(pack_dataset(outputs, targets)).decode()
                vector = {"specification": 1, "function": name, "data": data}
                file.write(json.dumps(vector | {"expected": computed(name, outputs, targets)}, sort_keys=True) + "\n")
