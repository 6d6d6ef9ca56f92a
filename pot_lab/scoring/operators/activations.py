"""Functions of one element."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pot_lab.scoring import elementwise
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.operators.elements import meeting
from pot_lab.scoring.operators.registry import Exponent, Text, operator

LARGEST_FLOAT32 = (2.0 - 2.0**-23) * 2.0**127
LOG2_E, LOG10_E, LN_2 = (
    float.fromhex(v) for v in ("0x1.71547652b82fep+0", "0x1.bcb7b1526e50ep-2", "0x1.62e42fefa39efp-1")
)
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _one(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def kernel(arithmetic: Arithmetic, x: Tensor) -> Tensor:
        return function(x)

    operator(name, batch=batch_axis.elementwise)(kernel)


_one("aten.relu.default", lambda x: x.clamp(min=0))
_one("aten.relu6.default", lambda x: x.clamp(0, 6))
_one("aten.exp.default", elementwise.exp)
_one("aten.log.default", elementwise.log)
_one("aten.sqrt.default", elementwise.sqrt)
_one("aten.rsqrt.default", elementwise.rsqrt)
_one("aten.erf.default", elementwise.erf)
_one("aten.tanh.default", elementwise.tanh)
_one("aten.sigmoid.default", elementwise.sigmoid)
_one("aten.silu.default", elementwise.silu)
_one("aten.mish.default", elementwise.mish)
_one("aten.hardswish.default", lambda x: x * divide((x + 3.0).clamp(0.0, 6.0), 6.0))
_one("aten.hardsigmoid.default", lambda x: divide((x + 3.0).clamp(0.0, 6.0), 6.0))
_one("aten.sin.default", elementwise.sin)
_one("aten.cos.default", elementwise.cos)
_one("aten.expm1.default", elementwise.expm1)
_one("aten.log1p.default", elementwise.log1p)
_one("aten.log_sigmoid.default", elementwise.log_sigmoid)
_one(
    "aten.selu.default",
    lambda x: torch.where(
        x > 0, x * SELU_SCALE, elementwise.expm1_scaled(x.clamp(max=0.0), SELU_ALPHA, SELU_SCALE, 1.0)
    ),
)
_one("aten.exp2.default", lambda x: elementwise.exp(x * LN_2))
_one("aten.log2.default", lambda x: elementwise.log(x) * LOG2_E)
_one("aten.log10.default", lambda x: elementwise.log(x) * LOG10_E)
_one("aten.floor.default", torch.floor)
_one("aten.trunc.default", torch.trunc)
_one("aten.frac.default", lambda x: x - torch.trunc(x))
_one("aten.erfc.default", lambda x: 1.0 - elementwise.erf(x))
_one("aten.sinh.default", lambda x: (elementwise.exp(x) - elementwise.exp(-x)) * 0.5)
_one("aten.cosh.default", lambda x: (elementwise.exp(x) + elementwise.exp(-x)) * 0.5)
_one("aten.tan.default", lambda x: divide(elementwise.sin(x), elementwise.cos(x)))
_one("aten.isnan.default", torch.isnan)
_one("aten.isinf.default", torch.isinf)
_one("aten.isfinite.default", torch.isfinite)
_one("aten.ceil.default", torch.ceil)
_one("aten.round.default", torch.round)
_one("aten.sign.default", torch.sign)
_one("aten.neg.default", torch.neg)
_one("aten.abs.default", torch.abs)
_one("aten.square.default", lambda x: x * x)
_one("aten.reciprocal.default", lambda x: divide(1.0, x))


@operator("aten.gelu.default", batch=batch_axis.elementwise)
def _gelu(arithmetic: Arithmetic, x: Tensor, approximate: Text = "none") -> Tensor:
    return elementwise.gelu(x) if approximate == "none" else elementwise.gelu_tanh(x)


@operator("aten.leaky_relu.default", batch=batch_axis.elementwise)
def _leaky_relu(arithmetic: Arithmetic, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * negative_slope)


@operator("aten.elu.default", batch=batch_axis.elementwise)
def _elu(arithmetic: Arithmetic, x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, elementwise.expm1_scaled(x.clamp(max=0.0), alpha, scale, input_scale))


@operator("aten.softplus.default", batch=batch_axis.elementwise)
def _softplus(arithmetic: Arithmetic, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = x * beta
    return torch.where(scaled > threshold, x, divide(elementwise.softplus(scaled), beta))


@operator("aten.hardtanh.default", batch=batch_axis.elementwise)
def _hardtanh(arithmetic: Arithmetic, x: Tensor, min_val: float = -1, max_val: float = 1) -> Tensor:
    return x.clamp(min_val, max_val)


@operator("aten.clamp.default", batch=batch_axis.elementwise)
def _clamp(arithmetic: Arithmetic, x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    return torch.clamp(meeting(x, min, max), min, max)


@operator("aten.pow.Tensor_Scalar", batch=batch_axis.elementwise)
def _power(arithmetic: Arithmetic, x: Tensor, exponent: Exponent) -> Tensor:
    """Products for whole exponents, roots for halves, exp(log(x) exponent) for others."""
    if exponent != int(exponent) and abs(exponent) != 0.5:
        return elementwise.exp(elementwise.log(x) * exponent)
    if exponent == 0.5:
        return elementwise.sqrt(x)
    if exponent == -0.5:
        return elementwise.rsqrt(x)
    if exponent < 0:
        return divide(1.0, elementwise.whole_power(x, int(-exponent)))
    return elementwise.whole_power(x, int(exponent))


@operator("aten.pow.Scalar", batch=batch_axis.elementwise)
def _power_of_number(arithmetic: Arithmetic, x: float, exponent: Tensor) -> Tensor:
    """exp(exponent log(x))."""
    base = torch.tensor(float(x), dtype=torch.float64, device=exponent.device)
    return elementwise.exp(exponent * elementwise.log(base))


@operator("aten.pow.Tensor_Tensor", batch=batch_axis.elementwise)
def _power_of_tensor(arithmetic: Arithmetic, x: Tensor, exponent: Tensor) -> Tensor:
    """exp(log(x) exponent)."""
    return elementwise.exp(elementwise.log(x) * exponent)


@operator("aten.nan_to_num.default", batch=batch_axis.elementwise)
def _nan_to_num(
    arithmetic: Arithmetic,
    x: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """Infinities become the largest float32 unless given, as in training."""
    high = LARGEST_FLOAT32 if posinf is None else float(posinf)
    low = -LARGEST_FLOAT32 if neginf is None else float(neginf)
    return x.nan_to_num(0.0 if nan is None else float(nan), high, low)


@operator("aten.celu.default", batch=batch_axis.elementwise)
def _celu(arithmetic: Arithmetic, x: Tensor, alpha: float = 1.0) -> Tensor:
    """alpha (exp(x / alpha) - 1) below 0, its factor made as 1 / alpha first."""
    return _elu(arithmetic, x, alpha, 1.0, 1.0 / alpha)


@operator("aten.prelu.default", batch=batch_axis.batch_first(0))
def _prelu(arithmetic: Arithmetic, x: Tensor, weight: Tensor) -> Tensor:
    slopes = weight.reshape(1, -1, *[1] * (x.dim() - 2)) if weight.numel() > 1 else weight.reshape(())
    return torch.where(x > 0, x, x * slopes)


@operator("aten.glu.default", batch=batch_axis.cut)
def _glu(arithmetic: Arithmetic, x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.chunk(2, dim)
    return a * elementwise.sigmoid(b)


@operator("aten.hardshrink.default", batch=batch_axis.elementwise)
def _hardshrink(arithmetic: Arithmetic, x: Tensor, lambd: float = 0.5) -> Tensor:
    return torch.where((x >= -lambd) & (x <= lambd), 0.0, x)


@operator("aten.softshrink.default", batch=batch_axis.elementwise)
def _softshrink(arithmetic: Arithmetic, x: Tensor, lambd: float = 0.5) -> Tensor:
    return torch.where(x > lambd, x - lambd, torch.where(x < -lambd, x + lambd, x * 0.0))


@operator("aten.threshold.default", batch=batch_axis.elementwise)
def _threshold(arithmetic: Arithmetic, x: Tensor, threshold: float, value: float) -> Tensor:
    return torch.where(x <= threshold, float(value), x)
