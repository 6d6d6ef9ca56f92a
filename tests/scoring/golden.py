"""Golden vectors: graph, weights, data and the scores they have for ever under specification version 1.

A vector that was released is never made again: whoever must change one has changed the specification. To add vectors
of a new family, `NAME.json` with one slice and `NAME-2.json` with two: `python -m tests.scoring.golden NAME`, which
refuses to overwrite.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pot_lab.scoring import exact_model, export_model, load_graph, pack_dataset, score, unpack_dataset
from pot_lab.scoring.dataset import each_input, some_rows
from tests.scoring.models import FAMILIES, FUNCTIONS, family, several_inputs

FOLDER = Path(__file__).parent / "golden_vectors"
EXAMPLES = 12
SEVERAL = "several"
"""The vector of a model with several inputs."""


def computed(
    graph: bytes, weights: bytes, data: bytes, slices: int = 1, functions: Sequence[str] = ()
) -> dict[str, Any]:
    """What a golden vector pins: outputs, and the scores of these functions."""
    loaded = load_graph(graph)
    inputs, targets = unpack_dataset(data)
    exact = exact_model(loaded, weights, slices=slices)
    (outputs,) = exact.run(*each_input(inputs))
    found: dict[str, Any] = {
        "graph_sha256": loaded.sha256.hex(),
        "outputs_sha256": hashlib.sha256((outputs + 0.0).numpy().tobytes()).hexdigest(),
        "first_output": [v.hex() for v in outputs[0].flatten()[:64].tolist()],
    }
    for name in functions:
        result = score(exact, inputs, targets, name, slices=slices)
        found[name] = {"total": result.total, "count": result.count, "valid": result.valid}
        found[name] |= {"root": result.root.hex(), "digest": result.digest.hex()}
    return found


def make(name: str, slices: int) -> None:
    path = FOLDER / (f"{name}.json" if slices == 1 else f"{name}-{slices}.json")
    if path.exists():
        print(f"{path.name} is released; it is never made again")
        return
    torch.set_num_threads(1)
    module, inputs, targets = several_inputs() if name == SEVERAL else family(name)
    artifact = export_model(module, each_input(some_rows(inputs, slice(2))))
    files = {
        "graph": artifact.graph,
        "weights": artifact.weights,
        "data": pack_dataset(some_rows(inputs, slice(EXAMPLES)), targets[:EXAMPLES]),
    }
    vector = {"specification": 1, "files": {k: base64.b64encode(v).decode() for k, v in files.items()}}
    if slices != 1:
        vector["slices"] = slices
    vector["expected"] = computed(
        **files, slices=slices, functions=FUNCTIONS.get(name, ("accuracy/1", "cross_entropy/1"))
    )
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(vector, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    for family_name in sys.argv[1:] or (*FAMILIES, SEVERAL):
        for count in (1, 2):
            make(family_name, count)
