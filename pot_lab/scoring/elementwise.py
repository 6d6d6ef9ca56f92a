"""Elementary functions in float64 that give the same bits on every IEEE-754 machine.

Specification version 1, section "Elementwise": only `+ - * /`, comparisons, round-half-even and int64 bit operations,
each in a torch kernel of its own, so that nothing can be contracted or reassociated. Division is always tensor by
tensor, since CUDA turns a division by a scalar into a product. exp, log, erf and the rest are fixed polynomials and
Newton steps over these; torch's own `sqrt exp log tanh erf` are not used, for their bits differ between instruction
sets.

Nothing here may look across elements, so cutting a tensor into tiles changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TILE_ELEMENTS = 1 << 14

LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
GELU_TANH_SCALE = float.fromhex("0x1.9884533d43651p+0")
"""2 * sqrt(2 / pi), rounded to nearest."""

EXP_COEFFICIENTS = tuple(1.0 / math.factorial(n) for n in range(13))
LOG_COEFFICIENTS = tuple(2.0 / (2 * n + 1) for n in range(11))
ERFC_CENTRE = 3.75
ERFC_COEFFICIENTS = tuple(
    float.fromhex(text)
    for text in [
        "0x1.3ccda0b5d5dc2p+0",
        "-0x1.1f367683f89a5p-3",
        "0x1.d5f294815a405p-9",
        "0x1.510169d09665bp-4",
        "-0x1.bda9309a2949ap-4",
        "0x1.7a14188a9ce2ap-4",
        "-0x1.e0d0fa6ddfe85p-5",
        "0x1.d0b0037d167adp-6",
        "-0x1.3f603c398c6c5p-7",
        "0x1.cc3a0e7d2150cp-10",
        "0x1.33fb2968decd9p-12",
        "-0x1.303fa4966bc38p-12",
        "0x1.b1439865f8d9ep-15",
        "0x1.778b933adcce7p-16",
        "-0x1.800077b775cf3p-17",
        "-0x1.055686d42aa63p-20",
        "0x1.d6339f66a50f8p-20",
        "-0x1.eb803840c0574p-25",
        "-0x1.15be4201dc721p-22",
        "0x1.8fa9fe49c359bp-26",
        "0x1.4c37f59c36e71p-25",
        "-0x1.014cd7201b5adp-28",
        "-0x1.638dcc665be8dp-28",
        "0x1.561b105822235p-32",
        "0x1.d3744857e262bp-32",
    ]
)
"""(1 + 2x) exp(x^2) erfc(x) as a polynomial in (x - 3.75) / (x + 3.75); from a 60-digit Chebyshev expansion."""

_SQRT_TWO_FRACTION = 0x6A09E667F3BCD
_FRACTION_MASK = 0xFFFFFFFFFFFFF
_RSQRT_SEED = 0x5FE6EB50C7B537A9


def power_of_two(exponent: Tensor) -> Tensor:
    """2**exponent as float64, by writing the exponent bits; `exponent` is int64 with |exponent| <= 1022."""
    return ((exponent + 1023) << 52).view(torch.float64)


def divide(numerator: Tensor | float, denominator: Tensor | float) -> Tensor:
    """IEEE division, always tensor by tensor; whole-number tensors are taken as float64.

    The sign of a zero is no part of a value (maxima may return either), so a zero denominator is made positive.
    """
    device = next((v.device for v in (numerator, denominator) if isinstance(v, Tensor)), None)

    def operand(value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(torch.float64)
        return torch.full((), float(value), dtype=torch.float64, device=device)

    return torch.div(operand(numerator), operand(denominator) + 0.0)


def _horner(t: Tensor, coefficients: Sequence[float]) -> Tensor:
    y = t * coefficients[-1]
    for c in reversed(coefficients[1:-1]):
        y.add_(c).mul_(t)
    return y.add_(coefficients[0])


def tiled(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Apply a function of single elements to tiles that stay in the cache (CPU); the bits are the same without
    tiles."""

    def apply(x: Tensor) -> Tensor:
        x = x.to(torch.float64)
        if x.device.type != "cpu" or x.numel() <= TILE_ELEMENTS:
            return function(x)
        flat = x.reshape(-1)
        out = torch.empty_like(flat)
        for start in range(0, flat.numel(), TILE_ELEMENTS):
            out[start : start + TILE_ELEMENTS] = function(flat[start : start + TILE_ELEMENTS])
        return out.reshape(x.shape)

    return apply


def _exp(x: Tensor) -> Tensor:
    z = x.clamp(-700.0, 700.0)
    k = torch.round(z * LOG2_E)
    r = (z - k * LN2_HIGH) - k * LN2_LOW
    y = _horner(r, EXP_COEFFICIENTS).mul_(power_of_two(k.nan_to_num().to(torch.int64)))
    y.masked_fill_(x < -700.0, 0.0).masked_fill_(x > 700.0, math.inf)
    return y.masked_fill_(x != x, math.nan)


def _log(x: Tensor) -> Tensor:
    bits = x.contiguous().view(torch.int64)
    upper_half = ((bits & _FRACTION_MASK) > _SQRT_TWO_FRACTION).to(torch.int64)
    exponent = ((bits >> 52) - 1023 + upper_half).to(torch.float64)
    m = ((bits & _FRACTION_MASK) | ((1023 - upper_half) << 52)).view(torch.float64)
    f = torch.div(m - 1.0, m + 1.0)
    y = exponent * LN2_HIGH + (exponent * LN2_LOW + f * _horner(f * f, LOG_COEFFICIENTS))
    y = y.masked_fill(x < 2.0**-1021, -math.inf).masked_fill(x < 0, math.nan)
    return y.masked_fill(x == math.inf, math.inf).masked_fill(x != x, math.nan)


def _rsqrt(x: Tensor) -> Tensor:
    y = (_RSQRT_SEED - (x.contiguous().view(torch.int64) >> 1)).view(torch.float64)
    half = x * 0.5
    for _ in range(5):
        y = y * (1.5 - (half * y) * y)
    y = y.masked_fill(x < 2.0**-1000, math.inf).masked_fill(x < 0, math.nan)
    return y.masked_fill(x == math.inf, 0.0).masked_fill(x != x, math.nan)


def _sqrt(x: Tensor) -> Tensor:
    return torch.where((x == 0) | (x == math.inf), x, x * _rsqrt(x))


def _sigmoid(x: Tensor) -> Tensor:
    e = _exp(-x.abs())
    return torch.where(x >= 0, torch.ones_like(e), e).div_(e + 1.0)


def _tanh(x: Tensor) -> Tensor:
    e = _exp(x.abs().mul_(-2.0))
    y = torch.div(1.0 - e, e + 1.0)
    return torch.where(x < 0, -y, y)


def _erfc_of_absolute(x: Tensor) -> Tensor:
    a = x.abs().clamp_(max=27.0)
    t = torch.div(a - ERFC_CENTRE, a + ERFC_CENTRE)
    return torch.div(_horner(t, ERFC_COEFFICIENTS) * _exp(-(a * a)), a * 2.0 + 1.0)


def _erf(x: Tensor) -> Tensor:
    y = 1.0 - _erfc_of_absolute(x)
    return torch.where(x < 0, -y, y)


def _normal_cdf(x: Tensor) -> Tensor:
    y = _erfc_of_absolute(x * SQRT_HALF) * 0.5
    return torch.where(x < 0, y, 1.0 - y)


def _gelu_tanh(x: Tensor) -> Tensor:
    return x * _sigmoid((x + x * x * x * 0.044715) * GELU_TANH_SCALE)


def _softplus(x: Tensor) -> Tensor:
    return x.clamp(min=0.0) + _log(_exp(-x.abs()) + 1.0)


exp = tiled(_exp)
log = tiled(_log)
sqrt = tiled(_sqrt)
rsqrt = tiled(_rsqrt)
sigmoid = tiled(_sigmoid)
tanh = tiled(_tanh)
erf = tiled(_erf)
gelu = tiled(lambda x: x * _normal_cdf(x))
gelu_tanh = tiled(_gelu_tanh)
silu = tiled(lambda x: x * _sigmoid(x))
softplus = tiled(_softplus)
mish = tiled(lambda x: x * _tanh(_softplus(x)))


def whole_power(x: Tensor, exponent: int) -> Tensor:
    """x**exponent for 1 <= exponent <= 8 by repeated multiplication from the left."""
    y = x
    for _ in range(exponent - 1):
        y = y * x
    return y


def expm1_scaled(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    """ELU's negative branch: (exp(x * input_scale) - 1) * (alpha * scale)."""
    return (exp(x * input_scale) - 1.0) * (alpha * scale)
