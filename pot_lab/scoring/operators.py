"""Every operator that a scored model may use: its exact rule, its typed schema, its batch rule and its work.

Each entry is named by the ATen overload it replaces, and its kernel's signature is the schema that a graph's
arguments are checked against (a test holds it to ATen's own). Exact kernels follow the specification; `native` is the
ordinary ATen operator, used for training and, on meta tensors, for shapes. What is not here cannot be in a graph.

Adding an operator: write the kernel over `elementwise`, `exact_product` and `reductions` (or a native operator that
only moves or compares numbers), name its batch rule, and give it a test against the second implementation.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import batching, elementwise, exact_product, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.batching import Call, Rule, TracedInt
from pot_lab.scoring.elementwise import divide

Operand = Tensor | float | int
Tensors = Sequence[Tensor]
Ints = Sequence[int]
Positives = Sequence[int]
Naturals = Sequence[int]
Sizes = Sequence[int]
Positive = int
Probability = float
Dtype = torch.dtype
Text = str
Ignored = Any
"""Annotations that `graph.check_argument` knows: the typed schema of an argument."""

LARGEST_PIECES = 1024


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    required: bool
    default: Any


@dataclass(frozen=True)
class Operator:
    """One row of the whitelist.

    Attributes:
        name: full overload name, `aten.<operator>.<overload>`, or `int.<operation>` for whole numbers made of shapes.
        kernel: exact rule, called with an `Arithmetic` first.
        returns: "tensor", "tensors" or "int".
        batch: batch rule.
        work: multiply-adds and element steps of one call, from shapes.
        scratch: elements of working memory that a kernel may take beside its result.
        mode: name of the flag that says "training", if any; it is and-ed with the module's own mode and is False when
            scoring.
        pieces: number of results that a call would give, checked before anything runs.
    """

    name: str
    kernel: Callable[..., Any]
    returns: str
    batch: Rule
    work: Callable[[Call], int]
    scratch: Callable[[Call], int]
    mode: str | None
    pieces: Callable[[dict[str, Any]], int] | None
    parameters: tuple[Parameter, ...]

    @functools.cached_property
    def native(self) -> Any:
        _, base, overload = self.name.split(".")
        return getattr(getattr(torch.ops.aten, base), overload)

    @functools.cached_property
    def mode_index(self) -> int:
        return [p.name for p in self.parameters].index(self.mode) if self.mode else -1


REGISTRY: dict[str, Operator] = {}


def element_work(call: Call) -> int:
    """Ten steps for each element of the result: the price of an elementary function."""
    return 10 * sum(t.numel() for t in call.outputs)


def operator(
    *names: str,
    batch: Rule,
    returns: str = "tensor",
    work: Callable[[Call], int] = element_work,
    scratch: Callable[[Call], int] = lambda call: 0,
    mode: str | None = None,
    pieces: Callable[[dict[str, Any]], int] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(kernel: Callable[..., Any]) -> Callable[..., Any]:
        found = list(inspect.signature(kernel).parameters.values())[1:]
        parameters = tuple(
            Parameter(p.name, p.annotation, p.default is p.empty, None if p.default is p.empty else p.default)
            for p in found
        )
        for name in names:
            REGISTRY[name] = Operator(name, kernel, returns, batch, work, scratch, mode, pieces, parameters)
        return kernel

    return add


# ------------------------------------------------------------------------------------------- products


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
    columns = arithmetic.prepared(weight, "linear", lambda w: exact_product.column_grid(w.t().contiguous()))
    rows = exact_product.row_grid(x.reshape(-1, x.shape[-1]))
    y = exact_product.product(arithmetic.backend, rows, columns).reshape(*x.shape[:-1], weight.shape[0])
    return y if bias is None else y.add_(bias)


@operator("aten.matmul.default", "aten.mm.default", "aten.bmm.default", batch=batching.matmul, work=_matmul_work)
def matmul(arithmetic: Arithmetic, a: Tensor, b: Tensor) -> Tensor:
    rows = arithmetic.prepared(a, "rows", exact_product.row_grid)
    columns = arithmetic.prepared(b, "columns", exact_product.column_grid)
    return exact_product.product(arithmetic.backend, rows, columns)


def _pair(values: Sequence[int]) -> list[int]:
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
    channels = arithmetic.prepared(
        weight, "convolution", lambda w: exact_product.channel_grid(w.unsqueeze(2) if flat else w)
    )
    y = exact_product.convolution(
        arithmetic.backend, exact_product.sample_grid(x), channels, stride, padding, dilation, groups
    )
    y = y if bias is None else y.add_(bias.reshape(1, -1, 1, 1))
    return y.squeeze(2) if flat else y


def _spread(values: Sequence[int], dims: int) -> list[int]:
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
    pads = [(p, p) for p in _spread(padding, dims)]
    return _convolution(arithmetic, x, weight, bias, _spread(stride, dims), pads, _spread(dilation, dims), groups)


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
    spread = _spread(dilation, dims)
    totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, weight.shape[2:], strict=True)]
    pads = [(total // 2, total - total // 2) for total in totals]
    return _convolution(arithmetic, x, weight, bias, _spread(stride, dims), pads, spread, groups)


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


# ---------------------------------------------------------------------------------------------- norms


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


# ---------------------------------------------------------------------------------------------- pools


def _max_pool(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    dilation: Positives = (1,),
    ceil_mode: bool = False,
) -> Tensor:
    pool = F.max_pool1d if x.dim() == 3 else F.max_pool2d
    return pool(x, list(kernel_size), list(stride) or None, list(padding), list(dilation), ceil_mode)


operator("aten.max_pool1d.default", batch=batching.batch_first(3))(_max_pool)
operator("aten.max_pool2d.default", batch=batching.batch_first(4))(_max_pool)


def _window_work(call: Call) -> int:
    return 10 * call.output.numel() + call["x"].tensor.numel() * math.prod(call["kernel_size"])


@operator("aten.avg_pool2d.default", batch=batching.batch_first(4), work=_window_work)
def avg_pool2d(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel = _pair(kernel_size)
    pads, steps = _pair(padding), _pair(stride or kernel)
    return reductions.average_pool(x, kernel, steps, pads, ceil_mode, count_include_pad)


@operator("aten.avg_pool1d.default", batch=batching.batch_first(3), work=_window_work)
def avg_pool1d(
    arithmetic: Arithmetic,
    x: Tensor,
    kernel_size: Positives,
    stride: Positives = (),
    padding: Naturals = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    kernel, step, pad = [1, kernel_size[0]], [1, (stride or kernel_size)[0]], [0, padding[0]]
    return reductions.average_pool(x.unsqueeze(2), kernel, step, pad, ceil_mode, count_include_pad).squeeze(2)


@operator("aten.adaptive_avg_pool2d.default", batch=batching.batch_first(4))
def adaptive_avg_pool2d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> Tensor:
    return reductions.adaptive_average_pool(x, output_size)


@operator("aten.adaptive_avg_pool1d.default", batch=batching.batch_first(3))
def adaptive_avg_pool1d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> Tensor:
    return reductions.adaptive_average_pool(x.unsqueeze(2), [1, *output_size]).squeeze(2)


@operator("aten.adaptive_max_pool2d.default", batch=batching.batch_first(4), returns="tensors")
def adaptive_max_pool2d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> tuple[Tensor, Tensor]:
    return F.adaptive_max_pool2d(x, list(output_size), return_indices=True)


@operator("aten.adaptive_max_pool1d.default", batch=batching.batch_first(3), returns="tensors")
def adaptive_max_pool1d(arithmetic: Arithmetic, x: Tensor, output_size: Positives) -> tuple[Tensor, Tensor]:
    return F.adaptive_max_pool1d(x, list(output_size), return_indices=True)


# --------------------------------------------------------------------------- functions of one element


def _one(name: str, function: Callable[[Tensor], Tensor]) -> None:
    def kernel(arithmetic: Arithmetic, x: Tensor) -> Tensor:
        return function(x)

    operator(name, batch=batching.elementwise)(kernel)


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
_one("aten.neg.default", torch.neg)
_one("aten.abs.default", torch.abs)
_one("aten.square.default", lambda x: x * x)
_one("aten.reciprocal.default", lambda x: divide(1.0, x))


@operator("aten.gelu.default", batch=batching.elementwise)
def gelu(arithmetic: Arithmetic, x: Tensor, approximate: Text = "none") -> Tensor:
    return elementwise.gelu(x) if approximate == "none" else elementwise.gelu_tanh(x)


@operator("aten.leaky_relu.default", batch=batching.elementwise)
def leaky_relu(arithmetic: Arithmetic, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * negative_slope)


@operator("aten.elu.default", batch=batching.elementwise)
def elu(arithmetic: Arithmetic, x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, elementwise.expm1_scaled(x.clamp(max=0.0), alpha, scale, input_scale))


@operator("aten.softplus.default", batch=batching.elementwise)
def softplus(arithmetic: Arithmetic, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = x * beta
    return torch.where(scaled > threshold, x, divide(elementwise.softplus(scaled), beta))


@operator("aten.hardtanh.default", batch=batching.elementwise)
def hardtanh(arithmetic: Arithmetic, x: Tensor, min_val: float = -1, max_val: float = 1) -> Tensor:
    return x.clamp(min_val, max_val)


@operator("aten.clamp.default", batch=batching.elementwise)
def clamp(arithmetic: Arithmetic, x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    return torch.clamp(_meeting(x, min, max), min, max)


@operator("aten.pow.Tensor_Scalar", batch=batching.elementwise)
def power(arithmetic: Arithmetic, x: Tensor, exponent: Exponent) -> Tensor:
    if exponent == 0.5:
        return elementwise.sqrt(x)
    if exponent == -0.5:
        return elementwise.rsqrt(x)
    if exponent < 0:
        return divide(1.0, elementwise.whole_power(x, int(-exponent)))
    return elementwise.whole_power(x, int(exponent))


Exponent = float
"""A whole number from 1 to 8, its negative, 0.5 or -0.5."""

# ----------------------------------------------------------------------------------------- arithmetic


def _meeting(x: Tensor, *others: Operand | None) -> Tensor:
    """x in float64 if it meets a floating-point value; torch's own promotion would follow its default type."""
    floating = any(isinstance(o, float) or (isinstance(o, Tensor) and o.is_floating_point()) for o in others)
    return x.to(torch.float64) if floating else x


@operator("aten.add.Tensor", batch=batching.elementwise)
def add(arithmetic: Arithmetic, x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    return torch.add(_meeting(x, other, alpha), other if alpha == 1 else other * alpha)


@operator("aten.sub.Tensor", batch=batching.elementwise)
def sub(arithmetic: Arithmetic, x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    return torch.sub(_meeting(x, other, alpha), other if alpha == 1 else other * alpha)


@operator("aten.rsub.Scalar", batch=batching.elementwise)
def rsub(arithmetic: Arithmetic, x: Tensor, other: float, alpha: float = 1) -> Tensor:
    x = _meeting(x, other, alpha)
    return torch.sub(other, x if alpha == 1 else x * alpha)


@operator("aten.mul.Tensor", batch=batching.elementwise)
def mul(arithmetic: Arithmetic, x: Tensor, other: Operand) -> Tensor:
    return torch.mul(_meeting(x, other), other)


@operator("aten.div.Tensor", batch=batching.elementwise)
def div(arithmetic: Arithmetic, x: Tensor, other: Operand) -> Tensor:
    return divide(x, other)


@operator("aten.maximum.default", batch=batching.elementwise)
def maximum(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(x, other)


@operator("aten.minimum.default", batch=batching.elementwise)
def minimum(arithmetic: Arithmetic, x: Tensor, other: Tensor) -> Tensor:
    return torch.minimum(x, other)


@operator("aten.mean.dim", batch=batching.reduction)
def mean(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: Dtype | None = None
) -> Tensor:
    return reductions.exact_mean(x, dims, keepdim)


@operator("aten.sum.dim_IntList", batch=batching.reduction)
def sum_(
    arithmetic: Arithmetic, x: Tensor, dims: Ints | None, keepdim: bool = False, dtype: Dtype | None = None
) -> Tensor:
    return reductions.exact_sum(x, dims, keepdim)


@operator("aten.amax.default", batch=batching.reduction)
def amax(arithmetic: Arithmetic, x: Tensor, dims: Ints = (), keepdim: bool = False) -> Tensor:
    return torch.amax(x, tuple(dims), keepdim)


# --------------------------------------------------------------------------------------------- shapes


@operator("aten.view.default", "aten.reshape.default", batch=batching.reshape)
def reshape(arithmetic: Arithmetic, x: Tensor, sizes: Sizes) -> Tensor:
    return x.reshape(list(sizes))


@operator("aten.flatten.using_ints", batch=batching.reshape)
def flatten(arithmetic: Arithmetic, x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    return x.flatten(start_dim, end_dim)


@operator("aten.unflatten.int", batch=batching.reshape)
def unflatten(arithmetic: Arithmetic, x: Tensor, dim: int, sizes: Sizes) -> Tensor:
    return x.unflatten(dim, list(sizes))


@operator("aten.permute.default", batch=batching.permute)
def permute(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.permute(list(dims))


@operator("aten.transpose.int", batch=batching.transpose)
def transpose(arithmetic: Arithmetic, x: Tensor, first: int, second: int) -> Tensor:
    return x.transpose(first, second)


@operator("aten.t.default", batch=batching.matrix_transpose)
def matrix_transpose(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x.t()


@operator("aten.unsqueeze.default", batch=batching.unsqueeze)
def unsqueeze(arithmetic: Arithmetic, x: Tensor, dim: int) -> Tensor:
    return x.unsqueeze(dim)


@operator("aten.squeeze.dim", batch=batching.squeeze)
def squeeze(arithmetic: Arithmetic, x: Tensor, dims: int) -> Tensor:
    return x.squeeze(dims)


@operator("aten.squeeze.dims", batch=batching.squeeze)
def squeeze_dims(arithmetic: Arithmetic, x: Tensor, dims: Ints) -> Tensor:
    return x.squeeze(tuple(dims))


@operator("aten.expand.default", batch=batching.expand)
def expand(arithmetic: Arithmetic, x: Tensor, sizes: Sizes, implicit: bool = False) -> Tensor:
    return x.expand(list(sizes))


@operator("aten.cat.default", batch=batching.concatenation)
def cat(arithmetic: Arithmetic, parts: Tensors, dim: int = 0) -> Tensor:
    return torch.cat(list(parts), dim)


@operator("aten.stack.default", batch=batching.stack)
def stack(arithmetic: Arithmetic, parts: Tensors, dim: int = 0) -> Tensor:
    return torch.stack(list(parts), dim)


def _split_pieces(arguments: dict[str, Any]) -> int:
    x = arguments["x"]
    length = x.shape[arguments["dim"]] if -x.rank <= arguments["dim"] < x.rank else 0
    return -(-length // arguments["split_size"])


@operator("aten.chunk.default", batch=batching.cut, returns="tensors", pieces=lambda arguments: arguments["chunks"])
def chunk(arithmetic: Arithmetic, x: Tensor, chunks: Positive, dim: int = 0) -> Tensors:
    return x.chunk(chunks, dim)


@operator("aten.split.Tensor", batch=batching.cut, returns="tensors", pieces=_split_pieces)
def split(arithmetic: Arithmetic, x: Tensor, split_size: Positive, dim: int = 0) -> Tensors:
    return torch.split(x, split_size, dim)


@operator("aten.split_with_sizes.default", batch=batching.cut, returns="tensors")
def split_with_sizes(arithmetic: Arithmetic, x: Tensor, split_sizes: Naturals, dim: int = 0) -> Tensors:
    return torch.split(x, list(split_sizes), dim)


@operator("aten.select.int", batch=batching.select)
def select(arithmetic: Arithmetic, x: Tensor, dim: int, index: int) -> Tensor:
    return x.select(dim, index)


@operator("aten.slice.Tensor", batch=batching.slicing)
def slice_(
    arithmetic: Arithmetic,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: Positive = 1,
) -> Tensor:
    return torch.ops.aten.slice.Tensor(x, dim, start, end, step)


@operator("aten.constant_pad_nd.default", batch=batching.padding)
def constant_pad(arithmetic: Arithmetic, x: Tensor, pads: Naturals, value: float = 0) -> Tensor:
    return F.pad(x, list(pads), value=value)


@operator("aten.pad.default", batch=batching.padding)
def pad(
    arithmetic: Arithmetic, x: Tensor, pads: Naturals, mode: Text = "constant", value: float | None = None
) -> Tensor:
    return F.pad(x, list(pads), value=value)


@operator("aten.sym_size.int", batch=lambda call: call["x"].axis, returns="int")
def size(arithmetic: Arithmetic, x: Tensor, dim: int) -> int:
    return x.shape[dim]


# ------------------------------------------------------------ nothing, as far as a score is concerned


@operator("aten.contiguous.default", "aten.clone.default", batch=batching.elementwise)
def same_memory_format(arithmetic: Arithmetic, x: Tensor, memory_format: Ignored = None) -> Tensor:
    return x


@operator("aten.detach.default", "aten.alias.default", "aten.lift_fresh_copy.default", batch=batching.elementwise)
def same(arithmetic: Arithmetic, x: Tensor) -> Tensor:
    return x


@operator(
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    batch=batching.elementwise,
    mode="train",
)
def dropout(arithmetic: Arithmetic, x: Tensor, p: Probability, train: bool) -> Tensor:
    return x


@operator("aten.to.dtype", batch=batching.elementwise)
def to_dtype(
    arithmetic: Arithmetic,
    x: Tensor,
    dtype: Dtype,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Ignored = None,
) -> Tensor:
    """To floating point only: every floating type is float64 while scoring."""
    return x.to(torch.float64)


WHOLE_NUMBERS: dict[str, Callable[[int, int], int]] = {
    "int.add": lambda a, b: a + b,
    "int.sub": lambda a, b: a - b,
    "int.mul": lambda a, b: a * b,
    "int.floordiv": lambda a, b: a // b,
}
"""What a graph may do with whole numbers made of shapes."""


def traced_size(x: batching.Traced, dim: int) -> TracedInt:
    """`aten.sym_size.int` of a traced value."""
    return TracedInt(x.shape[dim], x.axis is not None and dim % x.rank == x.axis)
