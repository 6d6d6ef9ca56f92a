"""Golden vectors of operators: for each operator the smallest case that has it, with the outputs it has for ever.

A line of `golden_vectors/operators.jsonl` is one case, never made again. `python -m tests.scoring.golden_operators`
adds cases for operators that have none.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring import exact_model, load_graph
from pot_lab.scoring.errors import BadDataset
from pot_lab.scoring.operators import REGISTRY
from pot_lab.scoring.tensor_file import read_tensors, write_tensors
from tests.scoring.golden import FOLDER
from tests.scoring.graphs import one_call
from tests.scoring.operators import test_families as families
from tests.scoring.operators import test_operators as single

FILE = FOLDER / "operators.jsonl"


def digest(outputs: Tensor) -> str:
    return hashlib.sha256((outputs.double() + 0.0).contiguous().numpy().tobytes()).hexdigest()


def operators_of(graph: bytes) -> set[str]:
    return {n["op"] for n in json.loads(graph)["nodes"]}


def vectors() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def opened(vector: dict[str, Any]) -> tuple[bytes, bytes, list[Tensor]]:
    """(graph, weights, inputs) of a vector."""
    graph, weights, data = (base64.b64decode(vector[name]) for name in ("graph", "weights", "inputs"))
    tensors = read_tensors(data, limit_bytes=1 << 20, what="vector", error=BadDataset)
    return graph, weights, [tensors[name] for name in sorted(tensors)]


def cases() -> Iterator[tuple[str, bytes, bytes, tuple[Tensor, ...]]]:
    """(name, graph, weights, inputs) of every case of the operators' tests."""
    for number, case in enumerate(single.CASES):
        op, shape, args, kwargs = (*case, {}) if len(case) == 3 else case
        positive, shape = shape[:1] == (-1,), tuple(n for n in shape if n != -1)
        item = 0 if REGISTRY[op].returns == "tensors" else None
        inputs = single.numbers(5, *shape, seed=3, scale=2.0)
        yield (
            f"{number} {op}",
            *one_call(op, shape, args, kwargs, item=item),
            (inputs.abs() + 0.01 if positive else inputs,),
        )
    for name, (_, inputs) in families.CASES.items():
        artifact = families.exported(name)
        yield name, artifact.graph, artifact.weights, inputs


def make() -> None:
    torch.set_num_threads(1)
    kept = vectors()
    covered = {op for v in kept for op in operators_of(base64.b64decode(v["graph"]))}
    found = sorted(cases(), key=lambda c: len(c[1]) + len(c[2]) + sum(x.numel() * x.element_size() for x in c[3]))
    for name, graph, weights, inputs in found:
        if operators_of(graph) <= covered:
            continue
        covered |= operators_of(graph)
        files = {"graph": graph, "weights": weights}
        files["inputs"] = write_tensors({f"{i:02}": x for i, x in enumerate(inputs)})
        vector = {"name": name, **{k: base64.b64encode(v).decode() for k, v in files.items()}}
        for slices in (1, 2):
            (out,) = exact_model(load_graph(graph), weights, slices=slices).run(*inputs)
            vector[f"outputs_sha256_slices_{slices}"] = digest(out)
        kept.append(vector)
    FILE.write_text("".join(json.dumps(v, sort_keys=True) + "\n" for v in kept))


if __name__ == "__main__":
    make()
