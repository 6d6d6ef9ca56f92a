"""A GPU computes the processor's bits, whatever its settings. Skipped where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pot_lab.scoring import exact_model, load_graph, run_self_test, score, score_file
from pot_lab.scoring.backends import BACKENDS
from tests.scoring import golden_operators
from tests.scoring.models import FAMILIES, FUNCTIONS, exported, family
from tests.scoring.test_files import written
from tests.scoring.test_identity import digest

pytestmark = pytest.mark.gpu
BATCHES = (1, 7, 64, 70)


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """TF32 in ordinary products and convolutions, as a user may have set it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_gpu_gives_the_same_bits(name: str, slices: int) -> None:
    _, inputs, targets = family(name)
    artifact = exported(name)
    graph = load_graph(artifact.graph)
    wanted = digest(exact_model(graph, artifact.weights, slices=slices).run(inputs)[0])
    for allowed in (False, True):
        with tensor_float_32(allowed):
            for backend in ("float64", "int8", None):
                exact = exact_model(graph, artifact.weights, backend=backend, device="cuda", slices=slices)
                for batch in BATCHES:
                    parts = [exact.run(inputs[i : i + batch])[0].cpu() for i in range(0, len(inputs), batch)]
                    assert digest(torch.cat(parts)) == wanted, (backend, batch, allowed)
    for function in FUNCTIONS[name]:
        on_gpu = score(artifact, inputs, targets, function, device="cuda", slices=slices)
        assert on_gpu == score(artifact, inputs, targets, function, slices=slices)


def test_a_gpu_computes_every_operators_golden_vector() -> None:
    for vector in golden_operators.vectors():
        graph, weights, inputs = golden_operators.opened(vector)
        for slices in (1, 2):
            (out,) = exact_model(load_graph(graph), weights, device="cuda", slices=slices).run(*inputs)
            assert golden_operators.digest(out.cpu()) == vector[f"outputs_sha256_slices_{slices}"], vector["name"]


@pytest.mark.parametrize("backend", ["float64", "int8", None])
def test_a_gpu_computes_the_known_answers(backend: str | None) -> None:
    run_self_test("cuda", BACKENDS[backend] if backend else None)


def test_emulated_float64_products_change_no_bit(tmp_path: Path) -> None:
    _, inputs, targets = family("mlp")
    artifact = exported("mlp")
    files = written(tmp_path, artifact, inputs, targets)
    program = "import sys; from pot_lab.cli.main import main; sys.exit(main(sys.argv[1:]))"
    options = ["--graph", str(files[0]), "--weights", str(files[1]), "--data", str(files[2])]
    command = [sys.executable, "-c", program, "score", *options, "--device", "cuda", "--json"]
    env = os.environ | {"CUBLAS_EMULATE_DOUBLE_PRECISION": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert score(artifact, inputs, targets).root.hex() in done.stdout


def test_workers_on_gpus_give_the_same_score(tmp_path: Path) -> None:
    _, inputs, targets = family("cnn")
    files = written(tmp_path, exported("cnn"), inputs, targets)
    assert score_file(*files, workers=2, device="cuda") == score_file(*files)
