"""Modules composed at random of torch.nn and functional calls, and what must hold of whatever export accepts.

A seed gives one composition. Its steps keep one of three forms, rows [b, c], sequences [b, t, c] or pictures
[b, c, h, w], and some bring what a careless export loses: parts in eval mode, frozen and shared parameters, changes in
place, hooks, buffers, detached branches, code that asks for the mode, and operations along the batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.errors import PotLabError
from pot_lab.scoring import exact_model, export_model, load_graph, score, trainable
from pot_lab.scoring.export.rewriting import DrawingMode
from pot_lab.scoring.export.trial import SafeLayouts, set_modes, training_parts

Step = Callable[[Tensor], Tensor]
WIDTH, TIMES, SIDE = 6, 5, 6
ROWS = (4, 5, 1)
"""Examples of export, of the comparison, and of the smallest batch."""


class Call(nn.Module):
    """A function as a step, with parts and tensors of its own."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(parts)
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *(getattr(self, name) for name in self.names))


class Composition(nn.Module):
    """Steps one after the other, some around a residual."""

    def __init__(self, steps: list[nn.Module], residual: list[bool]) -> None:
        super().__init__()
        self.steps, self.residual = nn.ModuleList(steps), residual

    def forward(self, x: Tensor) -> Tensor:
        for step, around in zip(self.steps, self.residual, strict=True):
            y = step(x)
            x = x + y if around and y.shape == x.shape else y
        return x


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.3)


def set_rows(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 1.0
    return x


def add_to_part(x: Tensor) -> Tensor:
    x = x * 1.0
    x[..., 1:] += x[..., :-1].detach()
    return x


def masked_set(x: Tensor) -> Tensor:
    x = x * 1.0
    x[x > 1.0] = 0.5
    return x


class FloorDrop(nn.Module):
    """Drop path, as transformers' models write it."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x / self.keep * (self.keep + torch.rand(x.shape[0], *[1] * (x.dim() - 1))).floor_()


def half_detached(x: Tensor) -> Tensor:
    return torch.cat([x[..., :2].detach(), x[..., 2:]], -1)


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.abs().mean(-1, keepdim=True) + 1.0
    return x / scale


def by_mode(module: nn.Module) -> Step:
    return lambda x: x * 2 if module.training else x


class AsksForMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


class OwnNoise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


class Counting(nn.Module):
    """A number that forward counts in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 1

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class RunningMean(nn.Module):
    """A buffer that training changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(x.reshape(-1, x.shape[-1]).mean(0) * 0.1)
        return x - self.mean


class Sign(torch.autograd.Function):
    """A backward of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class First(nn.Module):
    """The first result of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)[0]
        return out


class Attention(nn.Module):
    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        out: Tensor = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return out


class TiedPair(nn.Module):
    """Two layers that share one weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x)))
        return out


class Twice(nn.Module):
    """One layer, used twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.layer(x).tanh())
        return out


def frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


def hooked(layer: nn.Module, kind: int) -> nn.Module:
    if kind == 0:
        layer.register_forward_hook(lambda _, __, out: out * 0.5)
    elif kind == 1:
        layer.register_forward_pre_hook(lambda _, given: (given[0] * 0.5,))
    else:
        layer.register_full_backward_hook(lambda _, grads, __: tuple(g * 2 if g is not None else g for g in grads))
    return layer


def half_frozen(layer: nn.Module) -> nn.Module:
    next(iter(layer.parameters())).requires_grad_(False)
    return layer


ELEMENTS: list[Callable[[random.Random], nn.Module]] = [
    *(
        lambda r, kind=kind: kind()
        for kind in (
            nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.Softplus,
            nn.Softsign, nn.Tanhshrink, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LeakyReLU, nn.LogSigmoid,
            nn.ReLU6, nn.Softshrink, nn.Hardshrink, nn.Identity, nn.PReLU,
        )
    ),
    lambda r: nn.GELU(approximate="tanh"),
    lambda r: nn.ReLU(inplace=True),
    lambda r: nn.Dropout(r.choice((0.0, 0.1, 0.5))),
    lambda r: nn.AlphaDropout(0.2),
    lambda r: nn.RReLU(),
    lambda r: nn.Softmax(-1),
    lambda r: nn.LogSoftmax(-1),
    lambda r: Call(lambda x: x.exp().clamp(max=10.0).log1p()),
    lambda r: Call(lambda x: (x * x + 1).sqrt()),
    lambda r: Call(lambda x: (x * x + 1).rsqrt()),
    lambda r: Call(lambda x: x.abs().pow(1.5)),
    lambda r: Call(lambda x: x**3 / (1 + x * x)),
    lambda r: Call(torch.sin),
    lambda r: Call(lambda x: torch.where(x > 0, x, x.cos())),
    lambda r: Call(lambda x: x.masked_fill(x < -1, 0.25)),
    lambda r: Call(lambda x: torch.maximum(x, x.flip(-1))),
    lambda r: Call(lambda x: x.roll(1, -1)),
    lambda r: Call(lambda x: x.cumsum(-1)),
    lambda r: Call(lambda x: x.sort(-1).values),
    lambda r: Call(lambda x: x - x.mean(-1, keepdim=True)),
    lambda r: Call(lambda x: x / (x.std(-1, keepdim=True) + 1)),
    lambda r: Call(lambda x: x - x.logsumexp(-1, keepdim=True)),
    lambda r: Call(lambda x: x * x.var(-1, unbiased=False, keepdim=True)),
    lambda r: Call(lambda x: F.normalize(x, dim=-1)),
    lambda r: Call(lambda x: x.clamp(-1, 1)),
    lambda r: Call(lambda x: x.round() + x),
    lambda r: Call(lambda x: torch.stack([x, -x]).amax(0)),
    lambda r: Call(lambda x: x.chunk(2, -1)[0].repeat_interleave(2, -1)),
    lambda r: Call(lambda x: torch.cat(x.split(2, -1)[::-1], -1)),
    lambda r: Call(lambda x: x.unfold(-1, 2, 2).flatten(-2)),
    lambda r: Call(lambda x: F.glu(torch.cat([x, x], -1))),
    lambda r: Call(lambda x: x[..., torch.tensor([5, 0, 3, 1, 4, 2])]),
    lambda r: Call(lambda x: x.gather(-1, x.argsort(-1))),
    lambda r: Call(lambda x: x.topk(6, -1)[0]),
    lambda r: Call(lambda x, w: x * w.sigmoid(), w=parameter(WIDTH)),
    lambda r: Call(lambda x, w: x * w, w=torch.linspace(0.5, 1.5, WIDTH)),
    lambda r: Call(lambda x, w: torch.addcmul(x, x, w, value=0.5), w=parameter(WIDTH)),
    lambda r: Call(lambda x, w: torch.lerp(x, w.expand_as(x), 0.3), w=parameter(WIDTH)),
    lambda r: Call(half_detached),
    lambda r: Call(without_gradient),
    lambda r: Call(add_to_part),
    lambda r: Call(set_rows),
    lambda r: Call(lambda x: x.clone().mul_(2).add_(1)),
    lambda r: Call(lambda x: x.to(torch.float64).tanh().to(torch.float32)),
    lambda r: Call(lambda x: x + (x.sign() - x).detach()),
    lambda r: Call(lambda x: x * torch.ones(WIDTH).cumsum(0)),
    lambda r: Call(lambda x: x + torch.arange(x.shape[-1])),
    lambda r: Call(lambda x: x.new_ones(x.shape[-1]) + x),
    lambda r: Call(lambda x: torch.full_like(x, 0.5) * x),
    lambda r: Call(lambda x: x * (x.shape[-1] ** -0.5)),
    lambda r: Call(lambda x: x.view(x.shape) + x.reshape(x.size())),
    lambda r: Call(lambda x: torch.fft.rfft(x, n=2 * WIDTH - 2).abs()),
    lambda r: Call(lambda x: torch.fft.irfft(torch.fft.rfft(x, norm="ortho") * 0.5, n=WIDTH, norm="ortho") + x),
    lambda r: Call(lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (3, 2))) * 1j).flatten(-2)),
    lambda r: Call(lambda x, t: torch.cdist(x, t), t=parameter(*[WIDTH] * 2)),
    lambda r: Call(lambda x: sum(torch.std_mean(x, -1, keepdim=True)) + x),
    lambda r: Call(masked_set),
    lambda r: Call(lambda x, t: x + t[x.abs().long().clamp(max=2)], t=parameter(3)),
    lambda r: Call(lambda x: x * torch.bucketize(x.detach(), torch.tensor([-0.5, 0.5]))),
    lambda r: FloorDrop(0.75),
]  # fmt: skip
"""Steps for every form, along the last axis or by element."""
QUIRKS: list[Callable[[random.Random], nn.Module]] = [
    lambda r: AsksForMode(),
    lambda r: OwnNoise(),
    lambda r: Counting(),
    lambda r: RunningMean(WIDTH),
    lambda r: Call(lambda x: Sign.apply(x)),
    lambda r: Call(lambda x: x - x.mean(0, keepdim=True)),
    lambda r: Call(lambda x: x.cumsum(0)),
    lambda r: Call(lambda x: x.roll(1, 0)),
    lambda r: Call(lambda x: x * len(x)),
    lambda r: Call(lambda x: x / x.shape[0]),
    lambda r: Call(lambda x: x.softmax(0)),
    lambda r: Call(lambda x: x + torch.rand(WIDTH)),
    lambda r: Call(lambda x: F.dropout(x, 0.5)),
    lambda r: Call(lambda x: x * float(x.detach().abs().max() > 0)),
    lambda r: Call(lambda x: x if x.sum() > 0 else -x),
    lambda r: Call(lambda x: x[:4].repeat(2, *[1] * (x.dim() - 1))[: x.shape[0]]),
    lambda r: Call(lambda x: x.flip(0)),
    lambda r: Call(lambda x: x.sort(0).values),
    lambda r: Call(lambda x: torch.from_numpy(x.detach().numpy() * 2)),
    lambda r: Call(lambda x: x.data * 2),
    lambda r: Call(lambda x: x[x[..., 0] > -100] if x.dim() == 2 else x),
    lambda r: Call(lambda x: x + random.random()),
]
"""Steps that a graph may not express: to be refused, or to be right."""


def rows_step(r: random.Random) -> nn.Module:
    linear = lambda: nn.Linear(WIDTH, WIDTH, bias=r.random() < 0.8)  # noqa: E731
    made: list[Callable[[], nn.Module]] = [
        linear,
        linear,
        lambda: frozen(linear()),
        lambda: half_frozen(linear()),
        lambda: hooked(linear(), r.randrange(3)),
        lambda: nn.BatchNorm1d(WIDTH, momentum=r.choice((0.1, None, 0.5)), affine=r.random() < 0.7),
        lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
        lambda: nn.BatchNorm1d(WIDTH).eval(),
        lambda: nn.LayerNorm(WIDTH, elementwise_affine=r.random() < 0.7),
        lambda: nn.RMSNorm(WIDTH),
        lambda: nn.GroupNorm(r.choice((1, 2, 3)), WIDTH),
        lambda: TiedPair(WIDTH),
        lambda: Twice(linear()),
        lambda: Twice(nn.BatchNorm1d(WIDTH)),
        lambda: nn.utils.parametrizations.weight_norm(linear()),
        lambda: nn.utils.parametrizations.spectral_norm(linear()),
        lambda: nn.utils.parametrizations.orthogonal(linear()),
        lambda: nn.Sequential(linear(), nn.Dropout(0.3), nn.Tanh(), linear()),
        lambda: Call(lambda x, w: x @ w, w=parameter(WIDTH, WIDTH)),
        lambda: Call(lambda x, w: F.linear(x, w.t()), w=parameter(WIDTH, WIDTH)),
        lambda: Call(lambda x, w: torch.einsum("bi,oi->bo", x, w), w=parameter(WIDTH, WIDTH)),
        lambda: Call(lambda x, w: x @ w + w.sum(), w=parameter(WIDTH, WIDTH)),
        lambda: Call(lambda x, t: x + t[(x[:, :1] > 0).long().squeeze(1)], t=parameter(3, WIDTH)),
        lambda: Call(lambda x, e: x + e((x[:, 0] > 0).long()), e=nn.Embedding(3, WIDTH, padding_idx=0)),
        lambda: Call(lambda x, a: a(x, x), a=nn.Bilinear(WIDTH, WIDTH, WIDTH)),
        lambda: Call(lambda x: x.reshape(-1, 2, 3).transpose(1, 2).flatten(1)),
        lambda: Call(lambda x: x.view(-1, 3, 2).amax(2).repeat(1, 2)),
        lambda: Call(lambda x: torch.bmm(x.unsqueeze(2), x.unsqueeze(1)).mean(1)),
        lambda: Call(lambda x: (x.unsqueeze(1) - x.unsqueeze(2)).abs().sum(1)),
        lambda: Call(lambda x: x.scatter(1, x.argmax(1, keepdim=True), 0.0)),
        lambda: Call(lambda x: x.index_fill(1, torch.tensor([1]), 0.5)),
        lambda: Call(lambda x: F.one_hot(x.argmax(1), WIDTH) * x),
        lambda: Call(lambda x: F.pad(x, (1, 0))[:, :-1]),
        lambda: Call(lambda x: x[torch.arange(x.shape[0]), x.argmax(1)].unsqueeze(1) * x),
        lambda: Call(lambda x, c: c(x.unsqueeze(1))[:, 0], c=nn.Conv1d(1, 1, 3, padding=1)),
    ]  # fmt: skip
    return r.choice(made)()


def sequence_step(r: random.Random) -> nn.Module:
    both = r.random() < 0.3
    made: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(WIDTH, WIDTH),
        lambda: nn.LayerNorm((TIMES, WIDTH)),
        lambda: nn.LayerNorm(WIDTH),
        lambda: First(nn.LSTM(WIDTH, WIDTH // (2 if both else 1), batch_first=True, bidirectional=both)),
        lambda: First(nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, dropout=r.choice((0.0, 0.3)))),
        lambda: First(nn.GRU(WIDTH, WIDTH, batch_first=True)),
        lambda: First(nn.RNN(WIDTH, WIDTH, nonlinearity="relu", batch_first=True)),
        lambda: First(nn.GRU(WIDTH, WIDTH)),
        lambda: Attention(WIDTH, causal=r.random() < 0.5),
        lambda: nn.TransformerEncoderLayer(
            WIDTH, 2, 8, r.choice((0.0, 0.1)), batch_first=r.random() < 0.9, norm_first=both
        ),
        lambda: Call(lambda x, c: c(x.transpose(1, 2)).transpose(1, 2), c=nn.Conv1d(WIDTH, WIDTH, 3, padding=1)),
        lambda: Call(lambda x, n: n(x.transpose(1, 2)).transpose(1, 2), n=nn.BatchNorm1d(WIDTH)),
        lambda: Call(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=both)),
        lambda: Call(lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x),
        lambda: Call(lambda x: x.mean(1, keepdim=True) + x),
        lambda: Call(lambda x: x + x[:, -1:]),
        lambda: Call(lambda x: x.cummax(1)[0]),
        lambda: Call(lambda x: torch.einsum("bti,bsi->bts", x, x).tril() @ x),
        lambda: Call(lambda x, p: x + p(torch.arange(x.shape[1])), p=nn.Embedding(TIMES, WIDTH)),
        lambda: Call(lambda x, p: x + p[: x.shape[1]], p=parameter(TIMES + 3, WIDTH)),
        lambda: Call(lambda x: x * torch.ones(TIMES, TIMES).tril().sum(0)[:, None]),
        lambda: Call(lambda x: x.masked_fill(torch.ones(TIMES, 1, dtype=torch.bool).tril(-2), 0.0)),
        lambda: Call(lambda x: F.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2)),
        lambda: Call(lambda x: x.flatten(0, 1).view(-1, TIMES, WIDTH)),
        lambda: Call(lambda x: torch.stack([x[:, i] * (i + 1) for i in range(TIMES)], 1)),
        lambda: Call(lambda x: torch.cat([x[:, 1:], x[:, :1]], 1)),
        lambda: Call(lambda x: F.dropout1d(x, 0.3)),
        lambda: nn.Dropout1d(0.3),
        lambda: Call(lambda x: torch.stack([x.real if x.is_complex() else x, x])[0]),
    ]  # fmt: skip
    return r.choice(made)()


def picture_step(r: random.Random) -> nn.Module:
    made: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=r.choice((1, 2, 6)), bias=r.random() < 0.7),
        lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding="same", padding_mode=r.choice(("zeros", "reflect", "circular"))),
        lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=2, dilation=2),
        lambda: frozen(nn.Conv2d(WIDTH, WIDTH, 1)),
        lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 3, padding=1),
        lambda: nn.BatchNorm2d(WIDTH, momentum=r.choice((0.1, None))),
        lambda: nn.BatchNorm2d(WIDTH).eval(),
        lambda: Twice(nn.BatchNorm2d(WIDTH)),
        lambda: nn.GroupNorm(2, WIDTH),
        lambda: nn.InstanceNorm2d(WIDTH, affine=r.random() < 0.5, track_running_stats=r.random() < 0.3),
        lambda: nn.LocalResponseNorm(3),
        lambda: nn.Dropout2d(0.3),
        lambda: nn.MaxPool2d(3, 1, 1),
        lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=r.random() < 0.5),
        # of 1 x 1 it would be |x|, and x + |x| is 0 but for rounding, which a sign makes 1
        lambda: nn.Sequential(nn.LPPool2d(2, 2), nn.Upsample(scale_factor=2)),
        lambda: nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode=r.choice(("nearest", "bilinear")))),
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.Upsample(size=(SIDE, SIDE), mode="bicubic")),
        lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH * 4, 1), nn.PixelShuffle(2), nn.AvgPool2d(2)),
        lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(WIDTH * 4, WIDTH * 4, 1), nn.PixelShuffle(2)),
        lambda: nn.ChannelShuffle(2),
        lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(WIDTH, WIDTH, 3)),
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Upsample(scale_factor=2)),
        lambda: nn.Sequential(nn.AdaptiveMaxPool2d(3), nn.Upsample(scale_factor=2)),
        lambda: nn.Sequential(nn.Unfold(2, stride=2), nn.Fold((SIDE, SIDE), 2, stride=2)),
        lambda: Call(lambda x, c: x * c(x.mean((2, 3), keepdim=True)).sigmoid(), c=nn.Conv2d(WIDTH, WIDTH, 1)),
        lambda: Call(lambda x: F.interpolate(x, scale_factor=0.5).repeat_interleave(2, 2).repeat_interleave(2, 3)),
        lambda: Call(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
        lambda: Call(lambda x: x - x.amin((2, 3), keepdim=True)),
        lambda: Call(lambda x: x.flatten(2).transpose(1, 2).reshape(-1, SIDE, SIDE, WIDTH).permute(0, 3, 1, 2)),
        lambda: Call(lambda x: x[:, :, ::2].repeat(1, 1, 2, 1)),
        lambda: Call(lambda x: torch.rot90(x, 1, (2, 3))),
        lambda: Call(lambda x, w: F.conv2d(x, w / w.std((1, 2, 3), keepdim=True), padding=1), w=parameter(6, 6, 3, 3)),
    ]  # fmt: skip
    return r.choice(made)()


FORMS: dict[str, tuple[tuple[int, ...], Callable[[random.Random], nn.Module]]] = {
    "rows": ((WIDTH,), rows_step),
    "sequences": ((TIMES, WIDTH), sequence_step),
    "pictures": ((WIDTH, SIDE, SIDE), picture_step),
}


def composition(seed: int) -> tuple[Composition, Tensor]:
    """A module, and 10 examples for it."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    shape, step = FORMS[r.choice(list(FORMS))]
    steps: list[nn.Module] = []
    for _ in range(r.randint(2, 6)):
        kind = r.random()
        steps.append(step(r) if kind < 0.55 else r.choice(ELEMENTS)(r) if kind < 0.93 else r.choice(QUIRKS)(r))
    if not any(p.requires_grad for s in steps for p in s.parameters()):
        steps.append(nn.Linear(WIDTH, WIDTH))
    module = Composition(steps, [r.random() < 0.25 for _ in steps])
    if r.random() < 0.2:
        module.eval()
    return module, torch.randn(10, *shape)


@dataclass(frozen=True)
class Outcome:
    """`refusal`: why a composition is not accepted; "" where it is. `faults`: what does not hold of it."""

    seed: int
    refusal: str
    faults: tuple[str, ...]


def outcome(seed: int) -> Outcome:
    """Export a composition, and look at everything that must hold."""
    module, x = composition(seed)
    state = {name: t.clone() for name, t in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    trained = training_parts(module)
    refusal, faults = "", []
    artifact = None
    try:
        artifact = export_model(module, x[: ROWS[0]])
    except PotLabError as problem:
        refusal = f"{type(problem).__name__}: {problem}"
    except Exception as problem:  # a stranger's exception, which is what is looked for
        faults.append(f"raised {type(problem).__name__}: {problem}")
    if any(not torch.equal(t, state[name]) for name, t in module.state_dict().items()):
        faults.append("the module's state was changed")
    if modes != [part.training for part in module.modules()]:
        faults.append("the module's modes were changed")
    if artifact is not None:
        faults += _accepted(module, trained, artifact.graph, artifact.weights, x)
    return Outcome(seed, refusal, tuple(faults))


def _accepted(
    module: nn.Module, modes: Mapping[nn.Module, bool], graph_bytes: bytes, weights: bytes, x: Tensor
) -> list[str]:
    faults: list[str] = []
    try:
        graph = load_graph(graph_bytes)
        twin = trainable(graph, weights)
        faults += [f"eval: {f}" for f in _eval_differs(module, twin, x)]
        faults += [f"exact: {f}" for f in _exact_differs(module, graph, weights, x)]
        faults += _training_differs(module, modes, twin, x)
        module.load_state_dict(twin.state_dict())
    except Exception as problem:  # an accepted graph raises nothing
        faults.append(f"an accepted graph raised {type(problem).__name__}: {problem}")
    return faults


def _apart(a: Tensor, b: Tensor, bound: float) -> str:
    if a.shape != b.shape:
        return f"{tuple(a.shape)} and {tuple(b.shape)}"
    finite = torch.isfinite(a) & torch.isfinite(b)
    if not torch.equal(torch.isfinite(a), torch.isfinite(b)):
        return "finite in one only"
    if not bool(finite.any()):
        return ""
    difference = float((a.double() - b.double())[finite].abs().max())
    return f"{difference:.3g} apart" if difference > bound * max(1.0, float(a[finite].abs().max())) else ""


def _eval_differs(module: nn.Module, twin: nn.Module, x: Tensor) -> list[str]:
    module.eval(), twin.eval()
    with torch.no_grad():
        pairs = [(n, module(x[-n:].clone()), twin(x[-n:].clone())) for n in (10, ROWS[1], ROWS[2])]
    return [f"batch {n}: {found}" for n, a, b in pairs if (found := _apart(a, b, 1e-5))]


def _exact_differs(module: nn.Module, graph: Any, weights: bytes, x: Tensor) -> list[str]:
    exact = exact_model(graph, weights)
    (found,) = exact.run(x)
    faults = []
    with torch.no_grad():
        wanted = module.eval()(x.clone()).double()
    if bool(torch.isfinite(found).all()) and (apart := _apart(wanted, found, 1e-3)):
        faults.append(apart)
    targets = torch.zeros(10, *graph.outputs[0].shape)
    digests = {score(exact, x, targets, "mse", batch_size=size).digest for size in (1, 3, 10)}
    if len(digests) != 1:
        faults.append("several digests")
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    (other,) = exact.run(x[order])
    if not torch.equal(other.nan_to_num(7.0), found[order].nan_to_num(7.0)):
        faults.append("an example's result depends on its place")
    return faults


def _step(module: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor | None] | None, dict[str, Tensor]]:
    torch.manual_seed(7)
    for p in module.parameters():
        p.grad = None
    own = isinstance(module, Composition)
    keeps = [part.keep for part in module.modules() if isinstance(part, FloorDrop)] if own else None
    with DrawingMode(keeps or ()), SafeLayouts():
        out = module(x.clone())
    if out.requires_grad:
        factors = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        try:
            (out * factors).sum().backward()
        except RuntimeError as problem:  # forward overwrites what torch needs, and a graph's twin does not
            if keeps is None or "modified by an inplace operation" not in str(problem):
                raise
            return out.detach(), None, {n: b.clone() for n, b in module.named_buffers()}
    gradients = {n: p.grad for n, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    return out.detach(), gradients, {n: b.clone() for n, b in module.named_buffers()}


def _training_differs(module: nn.Module, modes: Mapping[nn.Module, bool], twin: nn.Module, x: Tensor) -> list[str]:
    set_modes(modes)
    twin.train()
    faults = []
    for rows in (ROWS[1], 10):
        a, grads, buffers = _step(module, x[-rows:])
        b, own, own_buffers = _step(twin, x[-rows:])
        if found := _apart(a, b, 1e-4):
            faults.append(f"training, batch {rows}: {found}")
        if grads is None:
            continue
        assert own is not None
        if grads.keys() != own.keys():
            faults.append(f"trainable in one only: {sorted(grads.keys() ^ own.keys())}")
        largest = max((float(g.abs().max()) for g in grads.values() if g is not None), default=0.0)
        for name in grads.keys() & own.keys():
            first = torch.zeros(1) if grads[name] is None else grads[name]
            second = torch.zeros_like(first) if own[name] is None else own[name]
            if not bool(torch.isfinite(first).all()) and not bool(torch.isfinite(second).all()):
                continue
            if float((first - second).abs().max()) > 1e-3 * float(first.abs().max()) + 1e-5 * largest + 1e-9:
                faults.append(f"gradient of {name}, batch {rows}")
        for name, buffer in buffers.items():
            if name in own_buffers and (found := _apart(buffer.double(), own_buffers[name].double(), 1e-4)):
                faults.append(f"buffer {name}, batch {rows}: {found}")
    return faults
