"""Normalisations and softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring import batching, elementwise, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.operators.registry import Dtype, Positive, Positives, operator


@operator("aten.batch_norm.default", batch=batching.batch_first(0), mode="training")
def batch_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """(x - mean) * (rsqrt(var + eps) * weight) + bias, always with the running statistics."""
    shape = (1, -1, *[1] * (x.dim() - 2))

    def scale(var: Tensor) -> Tensor:
        k = elementwise.rsqrt(var + eps)
        return (k if weight is None else k * weight).reshape(shape)

    y = (x - running_mean.reshape(shape)).mul_(
        arithmetic.prepared(running_var, f"batch norm {eps} {id(weight)}", scale)
    )
    return y if bias is None else y.add_(bias.reshape(shape))


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@operator("aten.layer_norm.default", batch=batching.along(lambda call: range(-len(call["normalized_shape"]), 0)))
def layer_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    normalized_shape: Positives,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _affine(reductions.normalised(x, range(-len(normalized_shape), 0), eps), weight, bias)


@operator("aten.group_norm.default", batch=batching.batch_first(0))
def group_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    num_groups: Positive,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    y = reductions.normalised(x.reshape(x.shape[0], num_groups, -1), (-1,), eps).reshape(x.shape)
    shape = (1, -1, *[1] * (x.dim() - 2))
    return _affine(y, None if weight is None else weight.reshape(shape), None if bias is None else bias.reshape(shape))


@operator("aten.rms_norm.default", batch=batching.along(lambda call: range(-len(call["normalized_shape"]), 0)))
def rms_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    normalized_shape: Positives,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """eps None is float32's epsilon, 2**-23: what the same model uses in training."""
    square = reductions.exact_mean(x * x, range(-len(normalized_shape), 0), True)
    return _affine(x * elementwise.rsqrt(square + (2.0**-23 if eps is None else eps)), weight, None)


@operator("aten.softmax.int", batch=batching.along(lambda call: (call["dim"],)))
def softmax(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: Dtype | None = None) -> Tensor:
    return reductions.softmax(x.to(torch.float64), dim)


@operator("aten.log_softmax.int", batch=batching.along(lambda call: (call["dim"],)))
def log_softmax(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: Dtype | None = None) -> Tensor:
    return reductions.log_softmax(x.to(torch.float64), dim)
