"""Normalisations, norms and softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pot_lab.scoring import elementwise, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.elementwise import divide
from pot_lab.scoring.errors import HostileGraph
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.graph.batch_axis import Axis, OperatorCall, broadcast
from pot_lab.scoring.operators.registry import Dtype, Ints, Positive, Positives, operator


@operator("aten.batch_norm.default", batch=batch_axis.batch_first(0), mode="training")
def _batch_norm(
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


def _only_squares(arguments: dict[str, Any]) -> None:
    if arguments["ord"] not in (1, 2, math.inf):
        raise HostileGraph("norms have a rule for orders 1, 2 and infinity", seen=arguments["ord"])


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@operator("aten.layer_norm.default", batch=batch_axis.along(lambda call: range(-len(call["normalized_shape"]), 0)))
def _layer_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    normalized_shape: Positives,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _affine(reductions.normalised(x, range(-len(normalized_shape), 0), eps), weight, bias)


@operator("aten.group_norm.default", batch=batch_axis.batch_first(0))
def _group_norm(
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


@operator("aten.rms_norm.default", batch=batch_axis.along(lambda call: range(-len(call["normalized_shape"]), 0)))
def _rms_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    normalized_shape: Positives,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """eps None is float32's epsilon, 2**-23: what the same model uses in training."""
    square = reductions.exact_mean(x * x, range(-len(normalized_shape), 0), True)
    return _affine(x * elementwise.rsqrt(square + (2.0**-23 if eps is None else eps)), weight, None)


@operator("aten.softmax.int", batch=batch_axis.along(lambda call: (call["dim"],)))
def _softmax(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: Dtype | None = None) -> Tensor:
    return reductions.softmax(x.to(torch.float64), dim)


@operator("aten.log_softmax.int", batch=batch_axis.along(lambda call: (call["dim"],)))
def _log_softmax(arithmetic: Arithmetic, x: Tensor, dim: int, dtype: Dtype | None = None) -> Tensor:
    return reductions.log_softmax(x.to(torch.float64), dim)


@operator("aten.instance_norm.default", batch=batch_axis.batch_first(0), mode="use_input_stats")
def _instance_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """With running statistics as batch norm; without, a group norm whose groups are single channels."""
    if running_mean is not None and running_var is not None:
        return _batch_norm(arithmetic, x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn_enabled)
    return _group_norm(arithmetic, x, x.shape[1], weight, bias, eps)


@operator("aten.linalg_vector_norm.default", batch=batch_axis.reduction, check=_only_squares)
def _vector_norm(
    arithmetic: Arithmetic,
    x: Tensor,
    ord: float = 2,
    dims: Ints | None = None,
    keepdim: bool = False,
    dtype: Dtype | None = None,
) -> Tensor:
    """ord 2: the root of the sum of squares; ord 1: the sum of absolute values; infinity: the largest of these."""
    if ord == math.inf:
        return x.abs().amax(reductions.normal_dims(dims, x.dim()), keepdim)
    if ord == 1:
        return reductions.exact_sum(x.abs(), dims, keepdim)
    return elementwise.sqrt(reductions.exact_sum(x * x, dims, keepdim))


@operator("aten.logsumexp.default", batch=batch_axis.reduction)
def _logsumexp(arithmetic: Arithmetic, x: Tensor, dims: Ints, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x - m))) + m, m the largest, taken as 0 where it is infinite."""
    over = reductions.normal_dims(dims, x.dim())
    largest = x.amax(over, keepdim=True)
    largest = largest.masked_fill(largest.abs() == math.inf, 0.0)
    total = reductions.exact_sum(elementwise.exp(x - largest), over, True)
    y = elementwise.log(total) + largest
    return y if keepdim else y.squeeze(over)


def _two_along_dim_axis(call: OperatorCall) -> Axis:
    """Two operands of one rank are met along `dim`, which is reduced."""
    x, other = call.traced("x"), call.traced("other")
    axis = broadcast(call, [x, other], max(x.rank, other.rank))
    dim: int = call["dim"] % max(x.rank, other.rank)
    if axis is None:
        return None
    if dim == axis:
        raise call.mixing("it would reduce the batch axis; name another dimension")
    return axis - (dim < axis)


@operator("aten.cosine_similarity.default", batch=_two_along_dim_axis)
def _cosine_similarity(arithmetic: Arithmetic, x: Tensor, other: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """sum((x / max(|x|, eps)) (other / max(|other|, eps)))."""

    def unit(v: Tensor) -> Tensor:
        length = elementwise.sqrt(reductions.exact_sum(v * v, (dim,), True))
        return divide(v, length.clamp(min=eps))

    return reductions.exact_sum(unit(x) * unit(other), (dim,))
