"""What is written with other operators while a module is traced: the same numbers and gradients, by both
implementations of the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from pot_lab.scoring.errors import ExportFailed, UnsupportedOperator
from pot_lab.scoring.export import writer
from pot_lab.scoring.export.rewriting import DrawingMode, RewritingMode
from tests.scoring import numpy_scoring
from tests.scoring.operators.test_families import same_bits

G = torch.Generator().manual_seed(0)
X = torch.randn(7, 8, generator=G)
WAVES = torch.randn(7, 12, 8, generator=G)
PICTURES = torch.randn(7, 2, 6, 5, generator=G)
WORDS = torch.randint(0, 5, (7, 4), generator=G)
WORDS[2] = 1  # nothing but padding


class Net(nn.Module):
    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.table = nn.Parameter(torch.randn(5, 8))
        self.kernel = nn.Parameter(torch.randn(12, 8))
        self.turn = nn.Linear(60, 6)
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, *given: Tensor) -> Any:
        return self._forward(self, *given)


def bag(mode: str, padding_idx: int | None) -> Net:
    return Net(lambda n, words: n.bag(words), bag=nn.EmbeddingBag(5, 8, mode=mode, padding_idx=padding_idx))


def assigned(n: Net, x: Tensor) -> Tensor:
    y = n.first(x).clone()
    y[y < 0] = 0.5
    y[:, [0, -1]] = 2.0
    return n.last(y)


def in_steps(n: Net, x: Tensor) -> Tensor:
    """As quantisation-aware training computes: with the gradient of what stands inside of the range."""
    scales, zeros = torch.linspace(0.01, 0.1, 3), torch.zeros(3, dtype=torch.int32)
    weight = torch.fake_quantize_per_channel_affine(n.last.weight, scales, zeros, 0, -8, 7)
    return F.linear(torch.fake_quantize_per_tensor_affine(n.first(x), 0.01, 0, -128, 127), weight, n.last.bias)


def rows_assigned(n: Net, x: Tensor) -> Tensor:
    y = n.first(x).clone()
    y[x.sum(-1) > 0] = 0.25
    return n.last(y)


def resampled(n: Net, x: Tensor, mode: str, padding: str, corners: bool) -> Tensor:
    grid = F.affine_grid(n.turn(x.flatten(1)).view(-1, 2, 3), [x.shape[0], 2, 4, 7], align_corners=corners)
    return F.grid_sample(x, grid, mode, padding, corners)


def spectrum(n: Net, x: Tensor) -> Tensor:
    found = torch.fft.rfft(n.first(x), dim=1, norm="ortho")
    return torch.fft.irfft(found * torch.fft.rfft(n.kernel, dim=0), n=12, dim=1)


def mixed(n: Net, x: Tensor) -> Tensor:
    return torch.fft.fft(torch.fft.fft(n.first(x), dim=-1), dim=-2).real


def long_convolution(n: Net, x: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(n.first(x), 24, 1) * torch.fft.rfft(n.kernel, 24, 0), 24, 1)[:, :12]


def turned(n: Net, x: Tensor) -> Tensor:
    pairs = torch.view_as_complex(n.first(x).reshape(*x.shape[:-1], -1, 2))
    angles = torch.arange(12)[:, None] * torch.linspace(0.1, 1.0, 4)
    return torch.view_as_real(pairs * torch.polar(torch.ones(12, 4), angles)).flatten(-2)


CASES: dict[str, tuple[Net, tuple[Tensor, ...]]] = {
    **{f"distances of order {p}": (Net(lambda n, x, p=p: torch.cdist(n.first(x), n.table, p)), (X,)) for p in (1, 2)},
    "distances among an example's rows": (Net(lambda n, x: torch.cdist(n.first(x), x, float("inf"))), (WAVES,)),
    **{
        f"a bag of words, {mode}, padding {padding}": (bag(mode, padding), (WORDS,))
        for mode in ("sum", "mean", "max")
        for padding in (None, 1, -4)
    },
    "a weighted bag": (
        Net(
            lambda n, words, x: n.bag(words, per_sample_weights=x[:, :4].sigmoid()),
            bag=nn.EmbeddingBag(5, 8, mode="sum"),
        ),
        (WORDS, X),
    ),
    "std and mean": (Net(lambda n, x: torch.cat(torch.std_mean(n.first(x), 1), -1)), (WAVES,)),
    "var and mean, kept": (
        Net(lambda n, x: sum(torch.var_mean(n.first(x), (1,), correction=0, keepdim=True)) * x),
        (WAVES,),
    ),
    "buckets": (Net(lambda n, x: n.table[torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]))].sum(1)), (X,)),
    "buckets from the right": (
        Net(lambda n, x: n.table[torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x.round(), right=True)].sum(1)),
        (X,),
    ),
    "elements assigned": (Net(assigned), (X,)),
    "rows assigned": (Net(rows_assigned), (WAVES,)),
    **{
        f"resampled, {mode}, {padding}, {corners}": (
            Net(lambda n, x, given=(mode, padding, corners): resampled(n, x, *given)),
            (PICTURES,),
        )
        for mode, padding, corners in (("bilinear", "zeros", False), ("bilinear", "border", True))
    },
    "resampled to the nearest": (
        Net(lambda n, x, places: F.grid_sample(x, places, "nearest", align_corners=False).flatten(2) * n.turn.bias[0]),
        (PICTURES, torch.rand(7, 3, 4, 2, generator=G) * 2.4 - 1.2),
    ),
    "a spectrum times a kernel": (Net(spectrum), (WAVES,)),
    "two transforms": (Net(mixed), (WAVES,)),
    "transforms over two axes": (
        Net(lambda n, x: torch.fft.irfft2(torch.fft.rfft2(n.first(x)), s=(12, 8)) + torch.fft.fft2(x).abs()),
        (WAVES,),
    ),
    "there and back": (
        Net(lambda n, x: torch.fft.ifft(torch.fft.fft(n.first(x), norm="forward"), norm="forward").real),
        (WAVES,),
    ),
    "an odd length": (
        Net(lambda n, x: torch.fft.irfft(torch.fft.rfft(n.first(x)[:, :11], dim=1), n=11, dim=1)),
        (WAVES,),
    ),
    "smallest and largest": (
        Net(lambda n, x: n.last(n.first(x) - n.first(x).aminmax(dim=1, keepdim=True).min)),
        (X,),
    ),
    "sums of exponentials and hypotenuses": (
        Net(lambda n, x: n.last(torch.logaddexp(n.first(x), x) + torch.hypot(n.first(x), x + 3))),
        (X,),
    ),
    "places along an axis": (Net(lambda n, x: torch.take_along_dim(n.first(x), x.argsort(1), 1)), (X,)),
    "one of two conditions": (Net(lambda n, x: n.last(n.first(x) * ((x > 0) ^ (x > 1)))), (X,)),
    "weights and activations in steps": (Net(in_steps), (X,)),
    "a long convolution": (Net(long_convolution), (WAVES,)),
    "places turned by complex numbers": (Net(turned), (WAVES,)),
    "whole numbers of columns": (Net(lambda n, x: n.last(n.table[(x[:, 0].abs() * 2).long().clamp(max=4)])), (X,)),
    "a mask picked by number": (Net(lambda n, x: n.last(x * (x > 0)[:, [3, 2, 1, 0, 4, 5, 6, 7]])), (X,)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_model(name: str) -> None:
    module, inputs = CASES[name]
    artifact = export_model(module, inputs)  # which compares outputs and gradients
    graph = load_graph(artifact.graph)
    twin = trainable(graph, artifact.weights).eval()
    with torch.no_grad():
        wanted, ours = module.eval()(*inputs), twin(*inputs)
    scale = float(wanted.abs().max())
    assert float((wanted - ours).abs().max()) <= 1e-4 * scale
    exact = exact_model(graph, artifact.weights)
    (found,) = exact.run(*inputs)
    assert float((found - wanted.double()).abs().max()) <= 1e-4 * scale
    (alone,) = exact.run(*(x[3:4] for x in inputs))
    assert torch.equal(alone, found[3:4])
    theirs = numpy_scoring.run(artifact.graph, artifact.weights, *(x.numpy() for x in inputs))
    assert same_bits(found, theirs)
    module.load_state_dict(twin.state_dict())


def test_nothing_of_it_happens_outside_of_a_trace() -> None:
    assert torch.cdist(X, X).shape == (7, 7)
    with RewritingMode():
        assert isinstance(torch.rand(3).numpy().sum().item(), float)
    assert torch.fft.rfft(X).is_complex()


def test_without_rewriting_these_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RewritingMode, "__torch_function__", DrawingMode.__torch_function__)
    monkeypatch.setattr(RewritingMode, "_keeps", iter(()), raising=False)
    for name in ("two transforms", "a bag of words, sum, padding None"):
        module, inputs = CASES[name]
        with pytest.raises(UnsupportedOperator):
            export_model(module, inputs)


class DropPath(nn.Module):
    """As transformers' vision models write it."""

    def __init__(self, keep: float, floor: Callable[[Any], Any]) -> None:
        super().__init__()
        self.keep, self.floor = keep, floor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = self.keep + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x.div(self.keep) * self.floor(noise)


def floored(noise: Any) -> Any:
    noise.floor_()
    return noise


@pytest.mark.parametrize("floor", [floored, torch.floor, lambda noise: noise.floor()])
def test_a_drop_path_that_rounds_down_draws_whole_examples(floor: Callable[[Any], Any]) -> None:
    module = nn.Sequential(
        nn.Linear(8, 8), DropPath(0.75, floor), nn.Dropout(0.3), nn.Linear(8, 3), DropPath(0.5, floor)
    )
    artifact = export_model(module, X)
    twin = trainable(load_graph(artifact.graph), artifact.weights)
    with torch.no_grad():
        assert torch.allclose(twin.eval()(X), module.eval()(X), atol=1e-6)
        many = torch.ones(4000, 8)
        torch.manual_seed(0)
        gone = (twin.train()(many) == 0).all(-1)
    assert 0.45 < float(gone.float().mean()) < 0.55


def test_the_draws_of_a_drop_path_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(8, 8), DropPath(0.5, floored), nn.Linear(8, 3))
    export_model(module, X)
    monkeypatch.setattr(writer, "redrawn", lambda module, reference, *given, **named: reference)
    with pytest.raises(ExportFailed, match="in training mode the module computes something else"):
        export_model(module, X)


def test_other_uses_of_random_numbers_are_refused_with_the_line() -> None:
    for forward in (
        lambda n, x: n.last(x + torch.rand_like(x) if n.training else x),
        lambda n, x: n.last(x * (torch.rand(x.shape[0], 1) < 0.5) if n.training else x),
        lambda n, x: n.last(x * (1.5 + torch.rand(x.shape[0], 1)).floor() if n.training else x),
    ):
        with pytest.raises(UnsupportedOperator, match=r"may not draw random numbers.*test_rewriting.py:\d+"):
            export_model(Net(forward), X)


def test_what_the_table_does_not_take_goes_on_as_it_is() -> None:
    long = torch.zeros(2, 3000)
    with pytest.raises(UnsupportedOperator, match=r"aten.fft_rfft.default.*Fourier transforms"):
        export_model(nn.Sequential(Net(lambda n, x: torch.fft.rfft(x * n.table[0, 0]).abs())), long)
    with pytest.raises(UnsupportedOperator, match=r"aten\.cdist\.default|aten\._cdist_forward"):
        export_model(Net(lambda n, x: torch.cdist(n.first(x), x, 3.0)), WAVES)
    with pytest.raises(UnsupportedOperator, match=r"aten\.index_put_"):
        export_model(Net(lambda n, x: put(n, x)), X)
    with pytest.raises(ExportFailed, match=r"complex numbers have no rule for angle, at test_rewriting.py:\d+"):
        export_model(Net(lambda n, x: torch.view_as_complex(n.first(x).view(-1, 4, 2)).angle()), X)


def put(n: Net, x: Tensor) -> Tensor:
    y = n.first(x).clone()
    y[:, [0, 1]] = x[:, [1, 0]]
    return n.last(y)
