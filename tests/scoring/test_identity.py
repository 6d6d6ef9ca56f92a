"""The bits of a score do not depend on batch size, threads or the way products are computed."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
import torch

from pot_lab.scoring import backends, exact_model, exact_product, grids, load_graph, score
from pot_lab.scoring.errors import SelfTestFailed
from tests.scoring import numpy_scoring, other_backends
from tests.scoring.models import FAMILIES, FUNCTIONS, exported, family


def digest(outputs: torch.Tensor | np.ndarray) -> str:
    return hashlib.sha256((np.asarray(outputs) + 0.0).tobytes()).hexdigest()


EVERY = list(itertools.product(other_backends.ALL, (1, 7, 64, 70), (1, 2)))
FEWER = [("float64", 1, 1), ("float64", 3, 2), *((name, 8, 2) for name in other_backends.ALL)]


def assert_one_digest(name: str, slices: int, configurations: list[tuple[str, int, int]], examples: int) -> None:
    _, inputs, targets = family(name)
    inputs, targets = inputs[:examples], targets[:examples]
    artifact = exported(name)
    graph = load_graph(artifact.graph)
    models = {
        backend: exact_model(graph, artifact.weights, backend=make(), slices=slices)
        for backend, make in other_backends.ALL.items()
    }
    found = {}
    for configuration in configurations:
        backend, batch, threads = configuration
        torch.set_num_threads(threads)
        exact = models[backend]
        outputs = torch.cat([exact.run(inputs[i : i + batch])[0] for i in range(0, len(inputs), batch)])
        found[configuration] = digest(outputs)
    assert len(set(found.values())) == 1, found
    function = FUNCTIONS[name][0]
    scores = [score(models["float64"], inputs, targets, function, slices=slices, batch_size=b) for b in (7, examples)]
    assert len({(s.total, s.valid, s.root, s.digest) for s in scores}) == 1


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_bits_are_the_same_for_any_batch_threads_and_backend(name: str, slices: int) -> None:
    assert_one_digest(name, slices, FEWER, 8)


@pytest.mark.long
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_bits_are_the_same_for_every_batch_threads_and_backend_together(name: str, slices: int) -> None:
    assert_one_digest(name, slices, EVERY, 70)


@pytest.mark.parametrize("name", other_backends.ALL)
def test_a_backend_is_exact_at_the_bounds(name: str) -> None:
    """Sums of 4096 products of 20 bits, in one matrix and in many, digits at their ends too."""
    backend = other_backends.ALL[name]()
    for left, right in (((40, 4096), (4096, 24)), ((3, 2, 5, 700), (3, 2, 700, 9)), ((1, 2, 6, 9), (4, 2, 9, 7))):
        a, b = (extremes(shape, seed) for seed, shape in enumerate((left, right)))
        found = backend.matmul(backend.left(a), backend.right(b))
        assert found.dtype == torch.float64
        assert torch.equal(found.to(torch.int64), torch.matmul(a.to(torch.int64), b.to(torch.int64)))
    longest = torch.full((30, 4096), 2.0**20, dtype=torch.float64)
    found = backend.matmul(backend.left(longest), backend.right(-longest.t().contiguous()))
    assert bool((found == -(2.0**52)).all())


def extremes(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([-(2**20), 2**20, 2**20 - 1, -64 - 64 * 128, 63 + 63 * 128, 0, 1, -64, -65, 12345])
    return values[torch.randint(0, len(values), shape, generator=generator)].double()


def test_the_quickest_backend_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.fastest("cpu").name in ("float64", "int8")

    class Careless(backends.Backend):
        def matmul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.zeros(a.shape[-2], b.shape[-1], dtype=torch.float64)

    trial = backends.fastest.__wrapped__
    monkeypatch.setitem(backends.BACKENDS, "float64", Careless())
    assert trial("cpu").name == "int8"
    monkeypatch.setitem(backends.BACKENDS, "int8", Careless())
    with pytest.raises(SelfTestFailed, match="no way to multiply"):
        trial("cpu")


@pytest.mark.long
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_second_implementation_gives_the_same_bits_and_scores(name: str, slices: int) -> None:
    """With all examples; golden vectors show it for twelve."""
    _, inputs, targets = family(name)
    artifact = exported(name)
    ours = exact_model(load_graph(artifact.graph), artifact.weights, slices=slices).run(inputs)[0]
    theirs = numpy_scoring.run(artifact.graph, artifact.weights, inputs.numpy(), slices=slices)
    assert digest(ours) == digest(theirs)
    for function in FUNCTIONS[name]:
        result = score(artifact, inputs, targets, function, slices=slices)
        assert (result.transcript.values.tolist(), result.total) == numpy_scoring.scored(
            function, theirs, targets.numpy()
        )


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
    kernels = grids.channel_grid(w)
    found = [
        exact_product.convolution(backend, grids.sample_grid(x, kernels.bits), kernels, stride, pads, dilation, 1)
        for backend in (backends.Float64Backend(), backends.Int64Backend())
    ]
    assert torch.equal(*found)
    reference = torch.nn.functional.conv2d(x, w, None, stride, padding, dilation)
    assert float((found[0] - reference).abs().max()) <= 1e-5 * float(reference.abs().max())
