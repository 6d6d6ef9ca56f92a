"""Elementary functions in float64 that give the same bits on every IEEE-754 machine.

Specification version 1 (scoring-spec.md, "5. Elementary functions"): only `+ - * /`, comparisons, round-half-even and
int64 bit operations, each in a torch kernel of its own, so that nothing can be contracted or reassociated. Division is
always tensor by tensor, since CUDA turns a division by a scalar into a product. exp, log, erf and the rest are fixed
polynomials and Newton steps over these; torch's own `sqrt exp log tanh erf` are not used, for their bits differ between
instruction sets.

Nothing here may look across elements, so cutting a tensor into tiles changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_ELEMENTS = 1 << 15
"""256 KiB each: a few of them fit into a processor's own cache, and allocators keep blocks of this size. A new tensor
costs as much as two operations, so functions reuse what they have.
"""

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

_EXP_BOUND = 700.0
_EXP_NEARLY_LEAST = float.fromhex("0x1.14f2b0fb9307ep-1010")
"""The number just below exp(-700); exp of anything below -700 is at most this."""
_EXPONENT_SHIFT = 2.0**52 + 2.0**51 + 1023.0
_TO_UPPER_HALF = (1 << 52) - 0x6A09E667F3BCE
"""Added to a float's bits, it carries into the exponent where the fraction is above sqrt(2)'s."""
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


def _horner(t: Tensor, coefficients: Sequence[float], out: Tensor | None = None) -> Tensor:
    y = torch.mul(t, coefficients[-1], out=out)
    for c in reversed(coefficients[1:-1]):
        y.add_(c).mul_(t)
    return y.add_(coefficients[0])


def tiled(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Apply a function of single elements to tiles that stay in the cache (CPU); the bits are the same without
    tiles. The function may not change its argument."""

    def apply(x: Tensor) -> Tensor:
        x = x.to(torch.float64)
        if x.is_meta:
            return torch.empty_like(x)
        if x.device.type != "cpu" or x.numel() <= TILE_ELEMENTS:
            return function(x)
        flat = x.reshape(-1)
        out = torch.empty_like(flat)
        for start in range(0, flat.numel(), TILE_ELEMENTS):
            out[start : start + TILE_ELEMENTS] = function(flat[start : start + TILE_ELEMENTS])
        return out.reshape(x.shape)

    return apply


# Edge cases cost as much as the functions themselves, so the range of a tile is taken first: where all its values lie
# inside, the plain formula is enough. A GPU, which would have to wait for the answer, always takes the general way.


def _range(x: Tensor) -> tuple[float, float]:
    """Least and largest value, both NaN if there is one; infinite where it was not measured."""
    if x.device.type != "cpu" or x.numel() == 0:
        return -math.inf, math.inf
    least, largest = torch.aminmax(x)
    return least.item(), largest.item()


def _sign_of(size: float, x: Tensor) -> Tensor:
    """`size` with the sign of x, where a zero is positive."""
    return torch.copysign(torch.full((), size, dtype=torch.float64, device=x.device), x + 0.0)


def _exp_inside(x: Tensor) -> Tensor:
    """exp for -708 <= x <= 708. The whole number k is shifted into a float's exponent by adding 2**52 to it."""
    k = torch.mul(x, LOG2_E).round_()
    r = torch.mul(k, LN2_HIGH)
    torch.sub(x, r, out=r)
    y = torch.mul(k, LN2_LOW)
    r.sub_(y)
    power = k.add_(_EXPONENT_SHIFT).view(torch.int64)
    power <<= 52
    return _horner(r, EXP_COEFFICIENTS, out=y).mul_(power.view(torch.float64))


def _exp(x: Tensor) -> Tensor:
    least, largest = _range(x)
    if least >= -_EXP_BOUND and largest <= _EXP_BOUND:
        return _exp_inside(x)
    if largest <= _EXP_BOUND:  # below the bound all is 0, as attention's masks need
        return F.threshold(_exp_inside(x.clamp(min=-_EXP_BOUND - 2.0)), _EXP_NEARLY_LEAST, 0.0, inplace=True)
    y = _exp_inside(x.clamp(-_EXP_BOUND, _EXP_BOUND))
    y.masked_fill_(x < -_EXP_BOUND, 0.0).masked_fill_(x > _EXP_BOUND, math.inf)
    return y.masked_fill_(x != x, math.nan)


def _log(x: Tensor) -> Tensor:
    bits = x.contiguous().view(torch.int64)
    exponent = (bits + _TO_UPPER_HALF) >> 52
    m = (bits - ((exponent - 1023) << 52)).view(torch.float64)
    e = exponent.to(torch.float64).sub_(1023.0)
    f = torch.div(m - 1.0, m + 1.0)
    y = _horner(f * f, LOG_COEFFICIENTS).mul_(f).add_(e * LN2_LOW).add_(e.mul_(LN2_HIGH))
    least, largest = _range(x)
    if least >= 2.0**-1021 and largest < math.inf:
        return y
    y = y.masked_fill(x < 2.0**-1021, -math.inf).masked_fill(x < 0, math.nan)
    return y.masked_fill(x == math.inf, math.inf).masked_fill(x != x, math.nan)


def _rsqrt(x: Tensor) -> Tensor:
    y = (_RSQRT_SEED - (x.contiguous().view(torch.int64) >> 1)).view(torch.float64)
    half = x * 0.5
    for _ in range(5):
        y = torch.mul(half, y).mul_(y).neg_().add_(1.5).mul_(y)
    least, largest = _range(x)
    if least >= 2.0**-1000 and largest < math.inf:
        return y
    y = y.masked_fill(x < 2.0**-1000, math.inf).masked_fill(x < 0, math.nan)
    return y.masked_fill(x == math.inf, 0.0).masked_fill(x != x, math.nan)


def _sqrt(x: Tensor) -> Tensor:
    return torch.where((x == 0) | (x == math.inf), x, x * _rsqrt(x))


def _sigmoid(x: Tensor) -> Tensor:
    """e / (e + 1) for x < 0 and 1 / (e + 1) above, where max(e, x * 1e300) is beyond 1, or e is 1 itself."""
    e = _exp(x.abs().neg_())
    top = torch.mul(x, 1e300).clamp_(max=1.0)
    return torch.maximum(top, e, out=top).div_(e.add_(1.0))


def _tanh(x: Tensor) -> Tensor:
    e = _exp(x.abs().mul_(-2.0))
    y = torch.sub(1.0, e).div_(e.add_(1.0))
    return y.copysign_(x)


def _erfc_of_absolute(x: Tensor) -> Tensor:
    a = x.abs().clamp_(max=27.0)
    y = _exp(torch.mul(a, a).neg_())
    t = (a - ERFC_CENTRE).div_(a + ERFC_CENTRE)
    return _horner(t, ERFC_COEFFICIENTS).mul_(y).div_(a.mul_(2.0).add_(1.0))


def _erf(x: Tensor) -> Tensor:
    return torch.sub(1.0, _erfc_of_absolute(x)).mul_(_sign_of(1.0, x))


def _normal_cdf(x: Tensor) -> Tensor:
    """|0 - y| for x < 0 and |1 - y| above."""
    y = _erfc_of_absolute(x * SQRT_HALF).mul_(0.5)
    return _sign_of(0.5, x).add_(0.5).sub_(y).abs_()


def _gelu_tanh(x: Tensor) -> Tensor:
    inner = torch.mul(x, x).mul_(x).mul_(0.044715).add_(x).mul_(GELU_TANH_SCALE)
    return _sigmoid(inner).mul_(x)


def _softplus(x: Tensor) -> Tensor:
    return _log(_exp(x.abs().neg_()).add_(1.0)).add_(x.clamp(min=0.0))


exp = tiled(_exp)
log = tiled(_log)
sqrt = tiled(_sqrt)
rsqrt = tiled(_rsqrt)
sigmoid = tiled(_sigmoid)
tanh = tiled(_tanh)
erf = tiled(_erf)
gelu = tiled(lambda x: _normal_cdf(x).mul_(x))
gelu_tanh = tiled(_gelu_tanh)
silu = tiled(lambda x: _sigmoid(x).mul_(x))
softplus = tiled(_softplus)
mish = tiled(lambda x: _tanh(_softplus(x)).mul_(x))


def whole_power(x: Tensor, exponent: int) -> Tensor:
    """x**exponent for 1 <= exponent <= 64 by repeated multiplication from the left."""
    y = x
    for _ in range(exponent - 1):
        y = y * x
    return y


def expm1_scaled(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    """ELU's negative branch: (exp(x * input_scale) - 1) * (alpha * scale)."""
    return (exp(x * input_scale) - 1.0) * (alpha * scale)


def gates(x: Tensor, tanh_part: slice) -> Tensor:
    """`sigmoid(x)`, and `tanh(x)` in one part of the last axis; the bits of these, in fewer kernels."""
    e = x.abs().neg_()
    e[..., tanh_part].mul_(2.0)
    e = exp(e)
    y = torch.mul(x, 1e300).clamp_(max=1.0)
    torch.maximum(y, e, out=y)
    torch.sub(1.0, e[..., tanh_part], out=y[..., tanh_part])
    y.div_(e.add_(1.0))
    y[..., tanh_part].copysign_(x[..., tanh_part])
    return y


PI_HALF_PARTS = tuple(float.fromhex(text) for text in ["0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2e037073p-69"])
"""pi / 2 in three parts; the first two have so few bits that their products with a whole number below 2**20 are
exact."""
TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
LARGEST_ANGLE = 2.0**20
SIN_COEFFICIENTS = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(9))
COS_COEFFICIENTS = tuple((-1.0) ** n / math.factorial(2 * n) for n in range(10))


def _quarter(x: Tensor, shift: int) -> Tensor:
    """sin(x + shift * pi / 2); angles beyond 2**20 have no value."""
    known = x.abs() <= LARGEST_ANGLE
    x = torch.where(known, x, 0.0)
    k = torch.round(x * TWO_OVER_PI)
    r = ((x - k * PI_HALF_PARTS[0]) - k * PI_HALF_PARTS[1]) - k * PI_HALF_PARTS[2]
    quadrant = (k.to(torch.int64) + shift) & 3
    square = r * r
    sine, cosine = _horner(square, SIN_COEFFICIENTS) * r, _horner(square, COS_COEFFICIENTS)
    y = torch.where((quadrant & 1) == 0, sine, cosine)
    return torch.where(known, torch.where(quadrant >= 2, -y, y), math.nan)


sin = tiled(lambda x: _quarter(x, 0))
cos = tiled(lambda x: _quarter(x, 1))
expm1 = tiled(lambda x: _exp(x) - 1.0)
log1p = tiled(lambda x: _log(x + 1.0))
log_sigmoid = tiled(lambda x: -_softplus(-x))
