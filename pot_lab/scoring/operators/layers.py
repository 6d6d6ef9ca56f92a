"""Linear layers, convolutions, products of tensors, embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import batching
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.batching import Call
from pot_lab.scoring.operators.registry import Naturals, Positive, Positives, Text, operator


def _linear_work(call: Call) -> int:
    return 2 * call.output.numel() * int(call["weight"].shape[-1])


def _conv_work(call: Call) -> int:
    return 2 * call.output.numel() * math.prod(call["weight"].shape[1:])


def _conv_windows(call: Call) -> int:
    """All windows of all samples, written out."""
    positions = call.output.numel() // call.output.shape[1]
    return positions * int(call["x"].shape[1]) * math.prod(call["weight"].shape[2:])


def _matmul_work(call: Call) -> int:
    return 2 * call.output.numel() * int(call["a"].shape[-1])


@operator("aten.linear.default", batch=batching.linear, work=_linear_work)
def linear(arithmetic: Arithmetic, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = arithmetic.linear(x, weight)
    return y if bias is None else y.add_(bias)


@operator("aten.matmul.default", "aten.mm.default", "aten.bmm.default", batch=batching.matmul, work=_matmul_work)
def matmul(arithmetic: Arithmetic, a: Tensor, b: Tensor) -> Tensor:
    return arithmetic.product(arithmetic.rows(a), arithmetic.columns(b))


def pair(values: Sequence[int]) -> list[int]:
    return [values[0], values[0]] if len(values) == 1 else list(values)


def _convolution(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    flat = weight.dim() == 3
    if flat:
        x, stride, dilation, padding = x.unsqueeze(2), [1, *stride], [1, *dilation], [(0, 0), *padding]
    y = arithmetic.convolution(
        x, weight, stride, padding, dilation, groups, shaped=lambda w: w.unsqueeze(2) if flat else w
    )
    y = y if bias is None else y.add_(bias.reshape(1, -1, 1, 1))
    return y.squeeze(2) if flat else y


def spread(values: Sequence[int], dims: int) -> list[int]:
    return [values[0]] * dims if len(values) == 1 else list(values)


def _conv(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Positives = (1,),
    padding: Naturals = (0,),
    dilation: Positives = (1,),
    groups: Positive = 1,
) -> Tensor:
    dims = weight.dim() - 2
    pads = [(p, p) for p in spread(padding, dims)]
    return _convolution(arithmetic, x, weight, bias, spread(stride, dims), pads, spread(dilation, dims), groups)


def _conv_named_padding(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Positives = (1,),
    padding: Text = "valid",
    dilation: Positives = (1,),
    groups: Positive = 1,
) -> Tensor:
    """padding "same": dilation x (kernel - 1) in all, the smaller half before."""
    dims = weight.dim() - 2
    spaced = spread(dilation, dims)
    totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(spaced, weight.shape[2:], strict=True)]
    pads = [(total // 2, total - total // 2) for total in totals]
    return _convolution(arithmetic, x, weight, bias, spread(stride, dims), pads, spaced, groups)


for _dims in (1, 2):
    for _overload, _kernel in (("default", _conv), ("padding", _conv_named_padding)):
        operator(
            f"aten.conv{_dims}d.{_overload}",
            batch=batching.batch_first(_dims + 2),
            work=_conv_work,
            scratch=_conv_windows,
        )(_kernel)


@operator("aten.embedding.default", batch=batching.embedding)
def embedding(
    arithmetic: Arithmetic,
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight`; an index outside of it gives NaN, and so an example without a result."""
    outside = (indices < 0) | (indices >= weight.shape[0])
    rows = F.embedding(indices.masked_fill(outside, 0), weight)
    return rows.masked_fill_(outside.unsqueeze(-1), math.nan)
