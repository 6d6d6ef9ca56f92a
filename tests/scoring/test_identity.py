"""The bits of a score do not depend on batch size, threads or the way products are computed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from pot_lab.scoring import exact_product, export_model, load_graph, score
from tests.scoring import numpy_scoring
from tests.scoring.models import FAMILIES, family


def digest(outputs: torch.Tensor | np.ndarray) -> str:
    return hashlib.sha256((np.asarray(outputs) + 0.0).tobytes()).hexdigest()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_score_is_the_same_for_any_batch_threads_and_backend(name: str) -> None:
    module, inputs, targets = family(name)
    artifact = export_model(module, inputs[:2])
    graph = load_graph(artifact.graph)
    found = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for backend in ("float64", "int64"):
            exact = graph.exact(artifact.weights, backend=backend)
            for batch in (1, 7, 64, len(inputs)):
                outputs = torch.cat([exact.run(inputs[i : i + batch])[0] for i in range(0, len(inputs), batch)])
                scores = [score(exact, inputs, targets, f, batch_size=batch) for f in ("accuracy", "cross_entropy")]
                found.add((digest(outputs), *((s.total, s.valid, s.root, s.digest) for s in scores)))
    assert len(found) == 1


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_second_implementation_gives_the_same_bits_and_scores(name: str, slices: int) -> None:
    module, inputs, targets = family(name)
    artifact = export_model(module, inputs[:2])
    ours = load_graph(artifact.graph).exact(artifact.weights, slices=slices).run(inputs)[0]
    theirs = numpy_scoring.run(artifact.graph, artifact.weights, inputs.numpy(), slices)
    assert digest(ours) == digest(theirs)
    for function, per_example in (("accuracy", numpy_scoring.accuracy), ("cross_entropy", numpy_scoring.cross_entropy)):
        values = score(artifact, inputs, targets, function, slices=slices).transcript.values
        assert values.tolist() == per_example(theirs, targets.numpy())


@pytest.mark.parametrize(("slices", "bound"), [(1, 5e-6), (2, 1e-11)])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_score_is_close_to_float64(name: str, slices: int, bound: float) -> None:
    module, inputs, targets = family(name)
    artifact = export_model(module, inputs[:2])
    (ours,) = load_graph(artifact.graph).exact(artifact.weights, slices=slices).run(inputs)
    if name == "shared":  # its constant in forward is float32, so the module itself cannot run in float64
        reference = load_graph(artifact.graph).trainable(artifact.weights).double().eval()(inputs.double())
    else:
        reference = module.double()(inputs.double())
    assert float((ours - reference).abs().max() / reference.abs().max()) <= bound
    assert score(artifact, inputs, targets, slices=slices).total == int((reference.argmax(-1) == targets).sum())
    loss = torch.nn.functional.cross_entropy(reference, targets, reduction="sum").item()
    total = score(artifact, inputs, targets, "cross_entropy", slices=slices).total
    assert total / 1e6 == pytest.approx(loss, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_a_gpu_gives_the_same_bits(name: str) -> None:
    module, inputs, targets = family(name)
    artifact = export_model(module, inputs[:2])
    scores = {score(artifact, inputs, targets, "cross_entropy", device=d).digest for d in ("cpu", "cuda")}
    assert len(scores) == 1


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding", "dilation"),
    [
        ((2, 30, 33, 35), (4, 30, 3, 3), [1, 1], [1, 1], [1, 1]),
        ((2, 16, 65, 66), (3, 16, 3, 5), [2, 1], [0, 2], [1, 2]),
        ((1, 600, 12, 13), (2, 600, 3, 3), [1, 1], [1, 1], [1, 1]),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_large_convolutions_are_exact_however_they_are_computed(
    shape: tuple, weight: tuple, stride: list, padding: list, dilation: list, threads: int
) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    w = torch.randn(weight, dtype=torch.float64, generator=generator)
    pads = [(p, p) for p in padding]
    found = [
        exact_product.convolution(
            backend, exact_product.sample_grid(x), exact_product.channel_grid(w), stride, pads, dilation, 1
        )
        for backend in (exact_product.Float64Backend(), exact_product.Int64Backend())
    ]
    assert torch.equal(*found)
    reference = torch.nn.functional.conv2d(x, w, None, stride, padding, dilation)
    assert float((found[0] - reference).abs().max()) <= 1e-5 * float(reference.abs().max())
