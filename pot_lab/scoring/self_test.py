"""Known answers that a machine must compute before it may score.

A library, processor or flag that breaks the arithmetic (flush-to-zero, fused multiply-add across kernels, an emulated
or reduced-precision product, a wrong rounding) is found here, and not by a lost stake. The answers are part of
specification version 1: a change of one is a change of the specification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from pot_lab.scoring import backends, elementwise, exact_product, grids, reductions
from pot_lab.scoring.backends import Backend
from pot_lab.scoring.errors import SelfTestFailed
from pot_lab.scoring.functions import ACCURACY, CROSS_ENTROPY
from pot_lab.scoring.grids import CHUNK, product_bits

KNOWN_ANSWERS: dict[str, str] = {
    "primitive rounds halves to even": "True",
    "primitive keeps subnormals": "True",
    "primitive does not fuse": "True",
    "primitive divides": "True",
    "primitive multiplies at the bound": "True",
    "primitive maxima keep NaN": "True",
    "exp": "7b855adab750ae23",
    "log": "b852fbe2ead3b264",
    "sqrt": "884987b8e80ac551",
    "rsqrt": "6eb238ced0705c4d",
    "sigmoid": "ad0cf24c91cba48f",
    "tanh": "927bf23448ba4e86",
    "erf": "f767c1111a099bb1",
    "gelu": "01ed5a218622bbcd",
    "gelu_tanh": "e0df014ca5790894",
    "silu": "ef2a4804627106e3",
    "softplus": "cb13dbb7aac6d4d9",
    "mish": "0f535278de8588e8",
    "sin": "bceadfad29cb103b",
    "cos": "0e860eb449708adf",
    "expm1": "10ccfb9e71a58367",
    "log1p": "5bd8fca20900b210",
    "log sigmoid": "012669c9017b85b0",
    "product": "597e8ed5af845a80",
    "product in two slices": "96e86e821531cc99",
    "convolution": "a44fba3c42e79b9d",
    "convolution in two slices": "83e8e0faa1a2b0af",
    "wide convolution": "c28fba2379f15a8c",
    "sum": "b46e431601d11211",
    "mean": "5f243dc0f1c28f65",
    "softmax": "62c41968956d5e47",
    "log softmax": "2de4b0625da37949",
    "layer norm": "229d57b1292d98dd",
    "average pool": "c154d037f3f44571",
    "adaptive pool": "e17fd9e8844193c9",
    "accuracy": "7b6436b0c98f6238",
    "cross entropy": "5c6e692bb7a24076",
}

_ELEMENTARY: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": elementwise.exp,
    "log": lambda x: elementwise.log(x.abs()),
    "sqrt": lambda x: elementwise.sqrt(x.abs()),
    "rsqrt": lambda x: elementwise.rsqrt(x.abs()),
    "sigmoid": elementwise.sigmoid,
    "tanh": elementwise.tanh,
    "erf": elementwise.erf,
    "gelu": elementwise.gelu,
    "gelu_tanh": elementwise.gelu_tanh,
    "silu": elementwise.silu,
    "softplus": elementwise.softplus,
    "mish": elementwise.mish,
    "sin": elementwise.sin,
    "cos": elementwise.cos,
    "expm1": elementwise.expm1,
    "log1p": lambda x: elementwise.log1p(x.abs()),
    "log sigmoid": elementwise.log_sigmoid,
}


def run_self_test(device: str = "cpu", backend: Backend | None = None) -> None:
    """Compute every known answer on `device`; takes well under a second.

    Raises: SelfTestFailed, naming the answers that are wrong.
    """
    if torch.device(device).type == "cuda":
        backends.forbid_emulation()
    found = answers(device, backend or backends.fastest(str(torch.device(device))))
    wrong = sorted(name for name, answer in found.items() if KNOWN_ANSWERS.get(name) != answer)
    if wrong or set(found) != set(KNOWN_ANSWERS):
        raise SelfTestFailed(
            f"this machine does not compute the specification's known answers on {device}, so it may not score",
            seen=", ".join(wrong),
            wanted="all known answers of scoring specification version 1",
        )


def answers(device: str, backend: Backend) -> dict[str, str]:
    """Name -> answer of this machine."""
    found = {f"primitive {name}": str(value) for name, value in _primitives(device).items()}
    x = _numbers(40_000, 1, device) * 12.0
    found |= {name: _digest(function(x)) for name, function in _ELEMENTARY.items()}
    with torch.inference_mode():
        found |= {name: _digest(value) for name, value in _products(device, backend).items()}
        found |= {name: _digest(value) for name, value in _reductions(device).items()}
    return found


def _numbers(count: int, seed: int, device: str) -> Tensor:
    """float64 numbers in [-1, 1) from a 64-bit multiplicative hash of their places."""
    place = torch.arange(count, dtype=torch.int64, device=device) + seed * 1_000_003
    mixed = place * 6364136223846793005 + 1442695040888963407
    mixed = (mixed ^ ((mixed >> 29) & 0x7FFFFFFFF)) * 2862933555777941757
    return ((mixed >> 11) & ((1 << 52) - 1)).to(torch.float64) * 2.0**-51 - 1.0


def _digest(x: Tensor) -> str:
    """Hash of a result; zeros count without their sign."""
    if x.dtype.is_floating_point:
        x = x + 0.0
    return hashlib.sha256(x.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


def _primitives(device: str) -> dict[str, bool]:
    def row(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    halves = torch.round(row(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 4503599627370497.5)).tolist()
    x = row(1.0 + 2.0**-30)
    bound = 1 << product_bits(CHUNK)
    longest = torch.full((64, CHUNK), float(bound), dtype=torch.float64, device=device)
    longest[:, 1::2] -= 1.0
    product = torch.matmul(longest, longest.t().contiguous())
    exact = CHUNK // 2 * (bound**2 + (bound - 1) ** 2)
    return {
        "rounds halves to even": halves == [0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 4503599627370498.0],
        "keeps subnormals": bool(((row(5e-324) * 1.0) != 0).all()) and bool(((row(2.0**-1022) * 0.5) != 0).all()),
        "does not fuse": (x * x - row(1.0 + 2.0**-29)).item() == 0.0,
        "divides": torch.div(row(1.0, 2.0, 10.0), row(3.0, 3.0, 3.0)).tolist() == [1.0 / 3, 2.0 / 3, 10.0 / 3],
        "multiplies at the bound": bool((product == float(exact)).all()),
        "maxima keep NaN": bool(torch.isnan(row(1.0, float("nan"), 2.0).amax())),
    }


def _products(device: str, backend: Backend) -> dict[str, Tensor]:
    a, b = _numbers(33 * 5000, 2, device).reshape(33, 5000), _numbers(5000 * 17, 3, device).reshape(5000, 17)
    x, w = (
        _numbers(3 * 8 * 12 * 12, 4, device).reshape(3, 8, 12, 12),
        _numbers(6 * 4 * 9, 5, device).reshape(6, 4, 3, 3),
    )
    wide = (
        _numbers(2 * 500 * 9, 6, device).reshape(2, 500, 3, 3),
        _numbers(2 * 500 * 9, 7, device).reshape(2, 500, 3, 3),
    )
    both = grids.row_grid(a, 2), grids.column_grid(b, 2)
    few, many = grids.channel_grid(w), grids.channel_grid(wide[1])
    return {
        "product": exact_product.product(backend, grids.row_grid(a), grids.column_grid(b)),
        "product in two slices": exact_product.product(backend, *both),
        "convolution": exact_product.convolution(
            backend,
            grids.sample_grid(x, few.bits),
            few,
            [2, 1],
            [(1, 1), (0, 2)],
            [1, 2],
            2,
        ),
        "convolution in two slices": exact_product.convolution(
            backend,
            grids.sample_grid(x, few.bits, 2),
            grids.channel_grid(w, 2),
            [2, 1],
            [(1, 1), (0, 2)],
            [1, 2],
            2,
        ),
        "wide convolution": exact_product.convolution(
            backend,
            grids.sample_grid(wide[0], many.bits),
            many,
            [1, 1],
            [(0, 0), (0, 0)],
            [1, 1],
            1,
        ),
    }


def _reductions(device: str) -> dict[str, Tensor]:
    x = _numbers(40 * 1000, 8, device).reshape(40, 1000) * 30.0
    image = _numbers(2 * 3 * 11 * 13, 9, device).reshape(2, 3, 11, 13)
    targets = torch.arange(40, device=device) * 24
    return {
        "sum": reductions.exact_sum(x, (1,)),
        "mean": reductions.exact_mean(x, (0, 1)),
        "softmax": reductions.softmax(x, -1),
        "log softmax": reductions.log_softmax(x, -1),
        "layer norm": reductions.normalised(x, (-1,), 1e-5),
        "average pool": reductions.average_pool(image, [3, 2], [2, 2], [1, 0], False, False),
        "adaptive pool": reductions.adaptive_average_pool(image, [4, 5]),
        "accuracy": ACCURACY.evaluate(torch.round(x), targets),
        "cross entropy": CROSS_ENTROPY.evaluate(x, targets),
    }
