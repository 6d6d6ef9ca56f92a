"""Operators of recurrent, attention and vision models, written as a user would write them: bits of the second
implementation, whatever the batch, the backend and the slices, and numbers of torch in float64."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import ModelArtifact, exact_model, export_model, load_graph, trainable
from tests.scoring import numpy_scoring


class Written(nn.Module):
    """A module of one function; parts that have weights are given by name."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleDict(parts)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*self.parts.values(), *inputs)


def numbers(*shape: int, scale: float = 2.0) -> Tensor:
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(sum(shape))) * scale


def words(*shape: int, count: int = 9) -> Tensor:
    return torch.randint(0, count, (5, *shape), generator=torch.Generator().manual_seed(sum(shape)))


def recurrent(kind: type[nn.RNNBase], **options: object) -> nn.Module:
    torch.manual_seed(1)
    layer = kind(6, 8, batch_first=True, **options)
    return Written(lambda m, x: torch.cat([m(x)[0].flatten(1), last(m(x)[1])], 1), layer=layer)


def last(states: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([s.transpose(0, 1).flatten(1) for s in (states if isinstance(states, tuple) else (states,))], 1)


def by_time(m: nn.Module, x: Tensor) -> Tensor:
    return m(x.transpose(0, 1))[0].transpose(0, 1)


def from_state(m: nn.Module, x: Tensor) -> Tensor:
    h = torch.tanh(x[:, :1].transpose(0, 1).repeat(1, 1, 2)[..., :8])
    return m(x, h.expand(1, -1, -1).contiguous())[0]


def attend(**options: object) -> Callable[[Tensor], Tensor]:
    return lambda x: F.scaled_dot_product_attention(x, x * 0.5, x + 1.0, **options)  # type: ignore[arg-type]


FLOAT_MASK = torch.randn(7, 7, generator=torch.Generator().manual_seed(1))
SEEN = torch.tensor([[True, False, True, True, False, True, True]]).expand(7, 7)
FIRST = torch.tensor([0, 2, -1])


def rotary(x: Tensor) -> Tensor:
    angles = torch.arange(7.0)[:, None] * torch.exp(torch.arange(0, 4, dtype=torch.float32) * -1.5)
    cos, sin = torch.cos(angles).repeat(1, 2), torch.sin(angles).repeat(1, 2)
    return x * cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * sin


def padded_mean(x: Tensor) -> Tensor:
    mask = (x[..., 0] > 0).float()
    return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1.0)


def experts(x: Tensor) -> Tensor:
    values, places = x.softmax(-1).topk(2, -1)
    return (F.one_hot(places, 6).float() * values[..., None]).sum(-2)


def assigned(x: Tensor, w: Tensor) -> Tensor:
    y, z = torch.zeros_like(x), w.clone()
    y[:, :-1, :2] = x[:, 1:, :2]
    y[:, 1:, 2:4] = x[:, :-1, 2:4]
    y[..., 4:] = 0.5
    y[:, 2] = x[:, 0, :1]
    y[:, 3].fill_(1.5)
    z[:, 1:] = w[:, :-1]
    z[:, 0] = 3
    z[:, 2].fill_(torch.tensor(5))
    return y + z.unsqueeze(-1)


SIGNAL, IMAGE, WORDS = numbers(7, 6), numbers(4, 9, 6), words(7)
HEADS = numbers(3, 7, 8)
torch.manual_seed(2)
CASES: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
    "lstm": (recurrent(nn.LSTM), (SIGNAL,)),
    "lstm stacked both ways": (recurrent(nn.LSTM, num_layers=2, bidirectional=True, dropout=0.1), (SIGNAL,)),
    "lstm without bias": (recurrent(nn.LSTM, bias=False), (SIGNAL,)),
    "lstm by time": (Written(by_time, layer=nn.LSTM(6, 8, 2)), (SIGNAL,)),
    "gru": (recurrent(nn.GRU), (SIGNAL,)),
    "gru stacked both ways": (recurrent(nn.GRU, num_layers=2, bidirectional=True), (SIGNAL,)),
    "gru without bias": (recurrent(nn.GRU, bias=False), (SIGNAL,)),
    "gru from a state": (Written(from_state, layer=nn.GRU(6, 8, batch_first=True)), (SIGNAL,)),
    "rnn": (recurrent(nn.RNN), (SIGNAL,)),
    "rnn relu": (recurrent(nn.RNN, nonlinearity="relu", bidirectional=True), (SIGNAL,)),
    "cells": (
        Written(
            lambda a, b, c, d, x: torch.cat(
                [a(x[:, 0], a(x[:, 1]))[1], b(x[:, 0], b(x[:, 1])), c(x[:, 2]), d(x[:, 3])], 1
            ),
            a=nn.LSTMCell(6, 8),
            b=nn.GRUCell(6, 8),
            c=nn.RNNCell(6, 8),
            d=nn.RNNCell(6, 8, nonlinearity="relu", bias=False),
        ),
        (SIGNAL,),
    ),
    "attention": (Written(attend()), (HEADS,)),
    "attention, causal": (Written(attend(is_causal=True)), (HEADS,)),
    "attention, long": (Written(attend(is_causal=True)), (numbers(300, 4),)),
    "attention, float mask": (Written(attend(attn_mask=FLOAT_MASK, scale=0.3)), (HEADS,)),
    "attention, bool mask": (Written(attend(attn_mask=SEEN)), (HEADS,)),
    "attention, grouped": (
        Written(lambda q, k: F.scaled_dot_product_attention(q, k, k * 2.0, is_causal=True, enable_gqa=True)),
        (numbers(4, 7, 8), numbers(2, 7, 8)),
    ),
    "attention to others": (
        Written(lambda q, k: F.scaled_dot_product_attention(q, k, k[..., :5], attn_mask=(k[:, None, :, 0] > -9))),
        (numbers(3, 8), numbers(7, 8)),
    ),
    "attention, padded": (
        Written(
            lambda e, w: F.scaled_dot_product_attention(e(w), e(w), e(w), attn_mask=(w != 0)[:, None, :]),
            words=nn.Embedding(9, 8),
        ),
        (WORDS,),
    ),
    "rotary": (Written(rotary), (numbers(7, 8),)),
    "triangles": (
        Written(lambda x: x.masked_fill(torch.tril(torch.ones(7, 6)) == 0, -3.0) + torch.triu(torch.full((7, 6), 2.0))),
        (SIGNAL,),
    ),
    "masks": (
        Written(
            lambda x: (
                torch.where((x > 0) & ~(x >= 1.0) | (x < -1.0), x, 0.5)
                + torch.where(x.le(0.3).logical_and(x.ne(0)), 1.0, x)
                + torch.where(torch.logical_or(x == x[:, :1], x.gt(2).logical_not()), x, -x)
                + torch.where(x > 1, 2.0, 3.0)
                + x * (x.lt(0.2) == x.le(0.1))
            )
        ),
        (SIGNAL,),
    ),
    "masks of tensors": (
        Written(
            lambda x, y: (
                x.masked_fill(x.ge(y), 2.0) + (x > y).float() + (x.eq(y) | x.ne(y) & x.lt(y)).double() + x.le(y) * x
            )
        ),
        (SIGNAL, SIGNAL.flip(0)),
    ),
    "mask by tensor": (Written(lambda x: x.masked_fill(x > 0, torch.tensor(4.0))), (SIGNAL,)),
    "words": (Written(lambda w: w.cumsum(1) * (w != 0) + w.sum(1, keepdim=True).float()), (WORDS,)),
    "one hot": (Written(lambda w: F.one_hot(w, 9).float()), (WORDS,)),
    "likes": (Written(lambda x: torch.zeros_like(x) + torch.ones_like(x) * torch.full_like(x, 0.3)), (SIGNAL,)),
    "new ones": (
        Written(lambda x: x.new_ones(x.shape[0], 6) + x.new_zeros(6) + x.new_full((6,), 2.0) + x[:, 0]),
        (SIGNAL,),
    ),
    "ranges": (Written(lambda x: x * torch.arange(6) + torch.arange(1, 7) * torch.arange(0, 12, 2).float()), (SIGNAL,)),
    "class token": (
        Written(lambda x: torch.cat([torch.full((1, 1, 6), 0.3).expand(x.shape[0], -1, -1), x], 1)),
        (SIGNAL,),
    ),
    "repeated token": (Written(lambda x: torch.cat([torch.zeros(1, 1, 6).repeat(x.size(0), 2, 1), x], 1)), (SIGNAL,)),
    "expanded": (Written(lambda x: x[:, :1].expand_as(x) + x.repeat(1, 1, 2)[..., 6:]), (SIGNAL,)),
    "moved": (
        Written(lambda x: x.flip(1) + x.roll((1, 2), (1, 2)) + x.repeat_interleave(2, 1)[:, 7:] + x.movedim(1, 2).mT),
        (SIGNAL,),
    ),
    "unbound": (Written(lambda x: torch.stack(x.unbind(1)[::2], 1)), (SIGNAL,)),
    "picked": (
        Written(lambda x: x[:, FIRST] + x.index_select(1, FIRST.abs()) + x[:, :3, FIRST[:2]].sum(2, True)),
        (SIGNAL,),
    ),
    "parts assigned": (Written(lambda x, w: assigned(x, w)), (SIGNAL, WORDS)),
    "picked along two axes": (
        Written(
            lambda x: (
                x[:, FIRST, FIRST.abs()]
                + x[:, FIRST.abs()[:, None], FIRST].sum(2)
                + x[..., FIRST.view(3, 1), 1:2].sum((1, 3))
            )
        ),
        (SIGNAL,),
    ),
    "cut and padded": (
        Written(lambda x: F.pad(x, (0, 0, 1, -1)) + nn.ZeroPad2d((-1, 1, 2, -2))(x) + F.pad(x, (-2, 2), value=0.5)),
        (SIGNAL,),
    ),
    "hyperbolic": (
        Written(lambda x: torch.sinh(x) + torch.cosh(x) + torch.tan(x * 0.3) + torch.erfc(x) + x.frac() + x.trunc()),
        (SIGNAL,),
    ),
    "einsum of three": (
        Written(
            lambda x: torch.einsum("bij,bkj,bil->bkl", x, x, x) + torch.einsum("bij,bij,bij->bj", x, x, x)[:, None]
        ),
        (SIGNAL,),
    ),
    "largest norm": (
        Written(lambda x: x.norm(p=float("inf"), dim=-1) + torch.logit(x.sigmoid(), 1e-6).sum(-1)),
        (SIGNAL,),
    ),
    "gathered": (
        Written(lambda x, w: x.gather(1, w[:, :3, None].expand(-1, -1, 6))),
        (SIGNAL, words(7, count=7)),
    ),
    "experts": (Written(experts), (SIGNAL,)),
    "extremes": (
        Written(
            lambda x: (
                x.max(1).values + x.min(1, keepdim=True)[0].squeeze(1) + x.amin(1) + x.argmax(1) + x.max(1).indices
            )
        ),
        (SIGNAL,),
    ),
    "spread": (
        Written(
            lambda x: (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + 1e-5) + x.var((1, 2), False)[:, None, None]
        ),
        (SIGNAL,),
    ),
    "running sum": (Written(lambda x: x.cumsum(1)), (SIGNAL,)),
    "padded mean": (Written(padded_mean), (SIGNAL,)),
    "normalised": (
        Written(lambda x: F.normalize(x, dim=-1) + x.norm(dim=1, keepdim=True) + x.norm(p=1, dim=-1, keepdim=True)),
        (SIGNAL,),
    ),
    "similar": (Written(lambda x: F.cosine_similarity(x[:, :1], x, dim=-1)), (SIGNAL,)),
    "log sum exp": (Written(lambda x: torch.logsumexp(x, -1) + torch.logsumexp(x, 1, keepdim=True).sum(2)), (SIGNAL,)),
    "einsum": (
        Written(lambda x: torch.einsum("bij,bkj->bik", x, x) + torch.einsum("bij->b", x)[:, None, None]),
        (SIGNAL,),
    ),
    "einsum with a weight": (
        Written(
            lambda m, x: torch.einsum("bthd,hde->bte", x.unflatten(2, (2, 3)), m.weight.view(2, 3, 4)),
            m=nn.Linear(4, 6),
        ),
        (SIGNAL,),
    ),
    "addmm": (
        Written(lambda m, x: torch.addmm(m.bias, x[:, 0], m.weight.t(), beta=0.5, alpha=2.0), m=nn.Linear(6, 4)),
        (SIGNAL,),
    ),
    "bmm": (Written(lambda x: torch.bmm(x, x.transpose(1, 2))), (SIGNAL,)),
    "baddbmm": (Written(lambda x: torch.baddbmm(x[:, :, :1], x, x.transpose(1, 2))), (SIGNAL,)),
    "addcmul, lerp": (
        Written(lambda x: torch.addcmul(x, x, x, value=0.3) + torch.lerp(x, x * x, 0.2) + torch.lerp(x, -x, x)),
        (SIGNAL,),
    ),
    "angles": (Written(lambda x: torch.sin(x * 30.0) + torch.cos(x * 1000.0)), (SIGNAL,)),
    "small functions": (
        Written(lambda x: torch.expm1(x) + torch.log1p(x.abs()) + x.floor() + x.ceil() * x.sign() + (x * 1.7).round()),
        (SIGNAL,),
    ),
    "activations": (
        Written(
            lambda x: (
                F.logsigmoid(x)
                + F.selu(x)
                + F.celu(x, 0.7)
                + F.hardshrink(x)
                + F.softshrink(x, 0.2)
                + F.threshold(x, 0.1, 2.0)
            )
        ),
        (SIGNAL,),
    ),
    "glu": (Written(lambda x: F.glu(x, 1)), (IMAGE,)),
    "prelu": (Written(lambda m, x: m(x), m=nn.PReLU(4)), (IMAGE,)),
    "prelu of one": (Written(lambda m, x: m(x), m=nn.PReLU()), (SIGNAL,)),
    "rsub": (Written(lambda x: (1 - x) + torch.rsub(x, x * x, alpha=2)), (SIGNAL,)),
    "transposed convolution": (
        Written(lambda m, x: m(x), m=nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 0), 2)),
        (IMAGE,),
    ),
    "transposed, cropped": (
        Written(lambda m, x: m(x), m=nn.ConvTranspose2d(4, 5, 3, 2, 3, bias=False, dilation=1)),
        (IMAGE,),
    ),
    "transposed, dilated": (Written(lambda m, x: m(x), m=nn.ConvTranspose2d(4, 5, 2, 1, 1, dilation=3)), (IMAGE,)),
    "transposed, wide": (Written(lambda m, x: m(x), m=nn.ConvTranspose2d(600, 2, 3, 2, 1)), (numbers(600, 3, 2),)),
    "transposed, with gaps": (Written(lambda m, x: m(x), m=nn.ConvTranspose2d(4, 2, 2, 3, 0, 1)), (IMAGE,)),
    "transposed signal": (Written(lambda m, x: m(x), m=nn.ConvTranspose1d(7, 6, 4, 2, 1, 1)), (SIGNAL,)),
    "volume": (
        Written(lambda m, x: m(x), m=nn.Conv3d(2, 4, (3, 2, 3), (2, 1, 1), (1, 0, 1), (1, 2, 1), 2)),
        (numbers(2, 5, 6, 7),),
    ),
    "nearest": (Written(lambda x: F.interpolate(x, scale_factor=2)), (IMAGE,)),
    "nearest to a size": (Written(lambda x: F.interpolate(x, size=(5, 13))), (IMAGE,)),
    "nearest signal": (Written(lambda x: F.interpolate(x, scale_factor=1.5)), (SIGNAL,)),
    "bilinear": (Written(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")), (IMAGE,)),
    "bilinear to a size": (Written(lambda x: F.interpolate(x, size=(4, 11), mode="bilinear")), (IMAGE,)),
    "bilinear, corners": (
        Written(lambda x: F.interpolate(x, size=(13, 1), mode="bilinear", align_corners=True)),
        (IMAGE,),
    ),
    "linear signal": (Written(lambda x: F.interpolate(x, scale_factor=1.7, mode="linear")), (SIGNAL,)),
    "instance norm": (Written(lambda m, x: m(x), m=nn.InstanceNorm2d(4, affine=True)), (IMAGE,)),
    "instance norm with statistics": (
        Written(lambda m, x: m(x), m=nn.InstanceNorm2d(4, track_running_stats=True)),
        (IMAGE,),
    ),
    "pixel shuffle": (Written(lambda x: F.pixel_shuffle(x, 2)), (IMAGE,)),
    "pixel unshuffle": (Written(lambda x: F.pixel_unshuffle(x[:, :, :8], 2)), (IMAGE,)),
    "channel shuffle": (Written(lambda m, x: m(x), m=nn.ChannelShuffle(2)), (IMAGE,)),
    "borders": (
        Written(
            lambda x: (
                F.pad(x, (1, 2, 2, 1), "reflect")
                + F.pad(x, (1, 2, 2, 1), "replicate")
                + F.pad(x, (1, 2, 2, 1), "circular")
            )
        ),
        (IMAGE,),
    ),
    "cells of volumes": (
        Written(lambda x: F.adaptive_avg_pool3d(x, (2, 3, 2)) + F.adaptive_max_pool3d(x, (2, 3, 2))),
        (numbers(2, 5, 6, 7),),
    ),
    "windows of volumes": (
        Written(
            lambda x: (
                F.max_pool3d(x, (2, 3, 2), 2, 1, ceil_mode=True)
                + F.avg_pool3d(x, (2, 3, 2), 2, 1, ceil_mode=True, count_include_pad=False)
                + F.avg_pool3d(x, (2, 3, 2), 2, 1, ceil_mode=True)
            )
        ),
        (numbers(2, 5, 6, 7),),
    ),
    "local response": (Written(lambda m, x: m(x), m=nn.LocalResponseNorm(3, 0.1, 0.6, 2.0)), (IMAGE,)),
    "local response of signals": (Written(lambda m, x: m(x), m=nn.LocalResponseNorm(2)), (SIGNAL,)),
    "windows out and back": (
        Written(lambda x: F.fold(F.unfold(x, (3, 2), (1, 2), (1, 2), (2, 1)), (9, 6), (3, 2), (1, 2), (1, 2), (2, 1))),
        (IMAGE,),
    ),
    "windows along an axis": (
        Written(lambda x: x.unfold(1, 3, 2).sum(-1) + x.unfold(-1, 2, 2)[:, :3, :, 1:].sum(2)),
        (SIGNAL,),
    ),
    "bicubic": (
        Written(
            lambda x: (
                F.interpolate(x, scale_factor=2, mode="bicubic")
                + F.interpolate(x, size=(18, 12), mode="bicubic", align_corners=True)
            )
        ),
        (IMAGE,),
    ),
    "bicubic, smaller": (Written(lambda x: F.interpolate(x, size=(4, 1), mode="bicubic")), (IMAGE,)),
    "volumes resized": (
        Written(
            lambda x: (
                F.interpolate(x, size=(4, 9, 5), mode="trilinear")
                + F.interpolate(x, size=(4, 9, 5))
                + F.interpolate(x, size=(4, 9, 5), mode="nearest-exact")
            )
        ),
        (numbers(2, 5, 6, 7),),
    ),
    "nearest, exact": (
        Written(lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest-exact")),
        (IMAGE,),
    ),
    "nearest, exact, of a signal": (Written(lambda x: F.interpolate(x, size=11, mode="nearest-exact")), (SIGNAL,)),
    "sorted": (
        Written(
            lambda x: (
                torch.sort(x, 1).values
                + torch.sort(x.round(), dim=1, descending=True, stable=True)[1]
                + torch.argsort(x, -1)
                + torch.argsort(x.round(), dim=1, stable=True)
                + x.argmin(1, keepdim=True)
                + x.median(1, keepdim=True).values
                + x.median(-1).values.unsqueeze(-1)
            )
        ),
        (SIGNAL,),
    ),
    "products": (
        Written(lambda x: x.cumprod(1) + x.prod(1, keepdim=True) + x.prod(-1).unsqueeze(-1)),
        (SIGNAL * 0.5,),
    ),
    "powers": (
        Written(
            lambda x: (
                x.abs() ** 0.3
                + x.abs() ** 2.5
                + x**11
                + x.abs() ** -1.5
                + 2.0**x
                + 1.7**x
                + torch.pow(x.abs(), x)
                + torch.exp2(x)
                + torch.log2(x.abs())
                + torch.log10(x.abs())
            )
        ),
        (SIGNAL * 0.3,),
    ),
    "tests of numbers": (
        Written(
            lambda x: (
                (x.isnan() | (x / x.relu()).isinf()).float()
                + x.isfinite().all(1, keepdim=True)
                + (x > 3).any(-1)[..., None]
                + torch.nan_to_num((x - x) / x.relu().round(), 2.0, 3.0, -3.0)
            )
        ),
        (SIGNAL,),
    ),
    "divided": (
        Written(
            lambda x, w: (
                torch.div(x, 0.7, rounding_mode="floor")
                + torch.div(x, 0.7, rounding_mode="trunc")
                + x.remainder(0.3)
                + (x // 1.5 + (w - 4) // 3 + (w - 4) % 3 + torch.div(w - 4, 3, rounding_mode="trunc")).float()
            )
        ),
        (SIGNAL[..., 0], WORDS),
    ),
    "scattered": (
        Written(
            lambda x, w: (
                torch.zeros_like(x).scatter(1, w[:, :4, None].expand(-1, -1, 6), x)
                + x.scatter(1, w[:, :2, None].expand(-1, -1, 6), 0.5)
                + x.scatter_add(1, w[:, :5, None].expand(-1, -1, 6), x * 3.0)
                + torch.zeros_like(w).scatter_add(1, w, w).unsqueeze(-1)
                + torch.zeros_like(w).scatter(1, w, 7).unsqueeze(-1)
            )
        ),
        (SIGNAL, words(7, count=7)),
    ),
    "added by index": (
        Written(lambda x: x.index_add(1, FIRST.abs(), x[:, 2:5]) + x.index_add(2, FIRST.abs(), x[..., :3], alpha=2.0)),
        (SIGNAL,),
    ),
    "bilinear form": (Written(lambda m, x: m(x, x * 2.0), m=nn.Bilinear(6, 6, 4)), (SIGNAL,)),
    "bilinear form without bias": (
        Written(lambda m, x: m(x[..., :4], x), m=nn.Bilinear(4, 6, 3, bias=False)),
        (SIGNAL,),
    ),
    "einsum with dots": (
        Written(
            lambda x: (
                torch.einsum("...i,...j->...ij", x, x).sum(-1)
                + torch.einsum("bji", x[..., :6, :]).sum(1, keepdim=True).mT.expand(-1, 6, 7).mT
            )
        ),
        (SIGNAL,),
    ),
    "other sizes of pools": (
        Written(lambda x: F.adaptive_avg_pool2d(x, (4, None)) + F.adaptive_max_pool2d(x, (4, 6))),
        (IMAGE,),
    ),
}


def same_bits(ours: Tensor, theirs: np.ndarray) -> bool:
    return np.array_equal(
        (ours.double().numpy() + 0.0).view(np.int64), (np.asarray(theirs, np.float64) + 0.0).view(np.int64)
    )


@pytest.mark.parametrize("name", CASES)
def test_a_written_module_has_the_bits_of_the_second_implementation(name: str) -> None:
    module, inputs = CASES[name]
    artifact = exported(name)
    graph = load_graph(artifact.graph)
    for slices in (1, 2):
        oracle = numpy_scoring.run(artifact.graph, artifact.weights, *(x.numpy() for x in inputs), slices=slices)
        for backend in ("float64", "int64"):
            exact = exact_model(graph, artifact.weights, backend=backend, slices=slices)
            (out,) = exact.run(*inputs)
            assert same_bits(out, oracle), f"the second implementation differs with {backend}, {slices}"
            alone = torch.cat([exact.run(*(x[i : i + 1] for x in inputs))[0] for i in range(5)])
            assert same_bits(out, alone.numpy()), "an example's result depends on its batch"
    twin = trainable(graph, artifact.weights).eval()
    assert torch.equal(twin(*inputs), module.eval()(*inputs)), "the trainable twin is another model"
    with torch.no_grad():
        reference = twin.double()(*(x.double() if x.is_floating_point() else x for x in inputs)).double()
    assert float((out - reference).abs().max()) <= 1e-6 * max(1.0, float(reference.abs().max()))


@functools.cache
def exported(name: str) -> ModelArtifact:
    return export_model(*CASES[name])


def covered() -> set[str]:
    """Operators that the cases use."""
    return {node["op"] for name in CASES for node in json.loads(exported(name).graph)["nodes"]}


def test_a_bad_sample_is_bad_everywhere_after_a_transposed_convolution() -> None:
    """Also between the places that its values reach."""
    module = Written(lambda m, x: m(x), m=nn.ConvTranspose2d(1, 1, 1, 2, bias=False))
    inputs = torch.ones(3, 1, 2, 2)
    artifact = export_model(module, inputs)
    inputs[1, 0, 0, 0] = torch.inf
    for backend in ("float64", "int64"):
        (out,) = exact_model(load_graph(artifact.graph), artifact.weights, backend=backend).run(inputs)
        assert bool(out[1].isnan().all()) and bool(out[[0, 2]].isfinite().all())
    theirs = numpy_scoring.run(artifact.graph, artifact.weights, inputs.numpy())
    assert np.array_equal(theirs, out.numpy(), equal_nan=True)


PUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scatter": lambda x, w: torch.zeros_like(x).scatter(1, w, x),
    "scatter a number": lambda x, w: x.scatter(1, w, 2.0),
    "scatter_add": lambda x, w: x.scatter_add(1, w, x),
}


@pytest.mark.parametrize("name", PUT)
def test_a_place_outside_spoils_its_own_example_only(name: str) -> None:
    x, w = numbers(6), words(6, count=6)
    artifact = export_model(Written(PUT[name]), (x, w))
    w[3, 2], w[4, 0] = 6, -1
    (out,) = exact_model(load_graph(artifact.graph), artifact.weights).run(x, w)
    theirs = numpy_scoring.run(artifact.graph, artifact.weights, x.numpy(), w.numpy())
    assert np.array_equal(out.numpy(), theirs, equal_nan=True)
    assert out.isfinite().all(1).tolist() == [True, True, True, False, False]
