"""Operators that only move numbers, and those that do nothing as far as a score is concerned."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import batching
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.operators.registry import (
    Dtype,
    Ignored,
    Ints,
    Naturals,
    Positive,
    Probability,
    Sizes,
    Tensors,
    Text,
    operator,
)


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
