"""Released scores never change, whatever library, thread count or implementation computes them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pot_lab.scoring import exact_model, load_graph, unpack_dataset
from pot_lab.scoring.dataset import each_input
from pot_lab.scoring.operators import REGISTRY
from tests.scoring import golden_operators, numpy_scoring
from tests.scoring.golden import FOLDER, SEVERAL, computed
from tests.scoring.models import FAMILIES

VECTORS = sorted(FOLDER.glob("*.json"))


def read(path: Path) -> tuple[dict[str, bytes], int, dict]:
    vector = json.loads(path.read_text())
    assert vector["specification"] == 1
    files = {name: base64.b64decode(text) for name, text in vector["files"].items()}
    return files, vector.get("slices", 1), vector["expected"]


def functions(expected: dict) -> list[str]:
    return [name for name in expected if "/" in name]


def test_every_family_has_a_vector_with_one_slice_and_with_two() -> None:
    assert {p.stem for p in VECTORS} == {f"{name}{slices}" for name in (*FAMILIES, SEVERAL) for slices in ("", "-2")}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_a_released_score_is_computed_again(path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    files, slices, expected = read(path)
    assert computed(**files, slices=slices, functions=functions(expected)) == expected


OPERATORS = golden_operators.vectors()


def test_every_operator_has_a_vector() -> None:
    covered = {op for v in OPERATORS for op in golden_operators.operators_of(base64.b64decode(v["graph"]))}
    for path in VECTORS:
        covered |= golden_operators.operators_of(read(path)[0]["graph"])
    assert set(REGISTRY) <= covered


@pytest.mark.parametrize("vector", OPERATORS, ids=lambda v: v["name"])
def test_released_outputs_of_an_operator_are_computed_again(vector: dict) -> None:
    graph, weights, inputs = golden_operators.opened(vector)
    for slices in (1, 2):
        wanted = vector[f"outputs_sha256_slices_{slices}"]
        (ours,) = exact_model(load_graph(graph), weights, slices=slices).run(*inputs)
        theirs = numpy_scoring.run(graph, weights, *(x.numpy() for x in inputs), slices=slices)
        assert golden_operators.digest(ours) == wanted
        assert golden_operators.digest(torch.from_numpy(np.array(theirs))) == wanted


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_the_second_implementation_computes_it_too(path: Path) -> None:
    files, slices, expected = read(path)
    data = unpack_dataset(files["data"])
    inputs, targets = [x.numpy() for x in each_input(data.inputs)], data.targets.numpy()
    outputs = np.ascontiguousarray(numpy_scoring.run(files["graph"], files["weights"], *inputs, slices=slices) + 0.0)
    assert hashlib.sha256(outputs.tobytes()).hexdigest() == expected["outputs_sha256"]
    for name in functions(expected):
        assert numpy_scoring.scored(name, outputs, targets)[1] == expected[name]["total"]
