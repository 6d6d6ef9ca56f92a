"""One spelling for each operation: ATen has many names for the same thing, and a graph has one.

`respelled` turns a call of an exported program into a call of a whitelisted operator where that is only another way to
write it: a cast by example into a cast by type, `clamp_min` into `clamp`, `movedim` into `permute`. Nothing here
changes what is computed. `ADVICE` says what to write instead of an operator that has no exact rule.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import torch

from pot_lab.scoring.export.diagnosis import PACKED

Respelled = tuple[str, list[Any], dict[str, Any]]

SAME_BUT_FOR_NAME = {
    "aten.add.Scalar": "aten.add.Tensor",
    "aten.sub.Scalar": "aten.sub.Tensor",
    "aten.mul.Scalar": "aten.mul.Tensor",
    "aten.div.Scalar": "aten.div.Tensor",
    "aten.add_.Scalar": "aten.add_.Tensor",
    "aten.multiply.Tensor": "aten.mul.Tensor",
    "aten.subtract.Tensor": "aten.sub.Tensor",
    "aten.divide.Tensor": "aten.div.Tensor",
    "aten.true_divide.Tensor": "aten.div.Tensor",
    "aten._unsafe_view.default": "aten.view.default",
    "aten.concat.default": "aten.cat.default",
    "aten.concatenate.default": "aten.cat.default",
    "aten.negative.default": "aten.neg.default",
    "aten.absolute.default": "aten.abs.default",
    "aten.swapaxes.default": "aten.transpose.int",
    "aten.swapdims.default": "aten.transpose.int",
    "aten.__and__.Tensor": "aten.bitwise_and.Tensor",
    "aten.__or__.Tensor": "aten.bitwise_or.Tensor",
    "aten.greater.Scalar": "aten.gt.Scalar",
    "aten.greater.Tensor": "aten.gt.Tensor",
    "aten.less.Scalar": "aten.lt.Scalar",
    "aten.less.Tensor": "aten.lt.Tensor",
    "aten.unsafe_chunk.default": "aten.chunk.default",
    "aten.unsafe_split.Tensor": "aten.split.Tensor",
    "aten.split.sizes": "aten.split_with_sizes.default",
    "aten.special_expit.default": "aten.sigmoid.default",
    "aten.special_erf.default": "aten.erf.default",
    "aten.special_logsumexp.default": "aten.logsumexp.default",
    "aten.special_softmax.default": "aten.softmax.int",
    "aten.native_channel_shuffle.default": "aten.channel_shuffle.default",
}
"""Operators with the same arguments as another."""

DROPPED = frozenset(["aten._assert_tensor_metadata.default", "aten.sym_constrain_range_for_size.default"])
"""Calls that compute nothing."""


def _value(node: Any) -> Any:
    return node.meta["val"]


def _cast(node: Any) -> Respelled:
    """Any cast, by type, by device or by example; int32 as int64, which holds the same numbers."""
    dtype = _value(node).dtype
    return "aten.to.dtype", [node.args[0], torch.int64 if dtype is torch.int32 else dtype], {}


def _made(name: str) -> Callable[[Any], Respelled]:
    """new_zeros and its like: the type of the example, written down."""

    def respell(node: Any) -> Respelled:
        values = [node.args[2]] if name == "full" else []
        return f"aten.{name}.default", [node.args[1], *values], {"dtype": _value(node).dtype}

    return respell


def _moved(node: Any) -> Respelled:
    """movedim, as a permutation."""
    rank = _value(node).dim()
    source, target = ([d % rank for d in (v if isinstance(v, list | tuple) else [v])] for v in node.args[1:3])
    order = [d for d in range(rank) if d not in source]
    for place, dim in sorted(zip(target, source, strict=True)):
        order.insert(place, dim)
    return "aten.permute.default", [node.args[0], order], {}


def _all_ones(node: Any) -> Respelled:
    """squeeze of every axis of size 1, by name; the batch is none of them."""
    dims = [i for i, n in enumerate(_value(node.args[0]).shape) if type(n) is int and n == 1]
    return "aten.squeeze.dims", [node.args[0], dims], {}


def _spread(name: str) -> Callable[[Any], Respelled]:
    """std and var with `unbiased`, as a correction."""

    def respell(node: Any) -> Respelled:
        by_dim = node.target._overloadname == "dim"
        rest = list(node.args[2 if by_dim else 1 :])
        unbiased = rest[0] if rest else node.kwargs.get("unbiased", True)
        keepdim = rest[1] if len(rest) > 1 else node.kwargs.get("keepdim", False)
        dims = node.args[1] if by_dim else None
        return f"aten.{name}.correction", [node.args[0], dims], {"correction": int(unbiased), "keepdim": keepdim}

    return respell


def _narrowed(node: Any) -> Respelled:
    x, dim, start, length = node.args
    if not isinstance(start, int) or not isinstance(length, int) or start < 0:
        raise LookupError
    return "aten.slice.Tensor", [x, dim, start, start + length], {}


def _explicit(node: Any) -> Respelled:
    """einsum with its dots and its result written out."""
    equation, operands = node.args[0].replace(" ", ""), node.args[1]
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    free = [c for c in string.ascii_letters if c not in equation]
    ranks = [_value(x).dim() - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=True) if "..." in t]
    dots = "".join(free[: max(ranks, default=0)])
    if "..." in inputs:
        terms = [
            t.replace("...", dots[len(dots) - (_value(x).dim() - len(t) + 3) :]) if "..." in t else t
            for t, x in zip(terms, operands, strict=True)
        ]
    if not arrow:
        named = "".join(t.replace("...", "") for t in inputs.split(","))
        output = dots + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    return "aten.einsum.default", [",".join(terms) + "->" + output.replace("...", dots), operands], {}


def _turned(own: str, name: str) -> Callable[[Any], Respelled]:
    """A number before a tensor, as torch's own decompositions write it."""

    def respell(node: Any) -> Respelled:
        first, *rest = node.args
        if not isinstance(first, int | float):
            return own, list(node.args), dict(node.kwargs)
        return name, [rest[0], first, *rest[1:]], dict(node.kwargs)

    return respell


def _unlike(node: Any) -> Respelled:
    """Either of two truth values: where they differ."""
    if any(_value(a).dtype is not torch.bool for a in node.args):
        raise LookupError  # bits of whole numbers have no rule
    return "aten.ne.Tensor", list(node.args), {}


RESPELLINGS: dict[str, Callable[[Any], Respelled]] = {
    **dict.fromkeys(["aten.__xor__.Tensor", "aten.bitwise_xor.Tensor", "aten.logical_xor.default"], _unlike),
    **dict.fromkeys(
        [
            "aten.to.dtype",
            "aten.to.device",
            "aten.to.other",
            "aten.to.dtype_layout",
            "aten.to.prim_Device",
            "aten._to_copy.default",
            "aten.type_as.default",
        ],
        _cast,
    ),
    "aten.new_empty.default": _made("zeros"),  # memory without numbers: whatever is read from it was written before
    "aten.empty.memory_format": lambda node: ("aten.zeros.default", [node.args[0]], {"dtype": _value(node).dtype}),
    "aten.empty_like.default": lambda node: ("aten.zeros_like.default", [node.args[0]], {"dtype": _value(node).dtype}),
    "aten.new_zeros.default": _made("zeros"),
    "aten.new_ones.default": _made("ones"),
    "aten.new_full.default": _made("full"),
    "aten.clamp_min.default": lambda node: ("aten.clamp.default", [node.args[0], node.args[1], None], {}),
    "aten.clamp_max.default": lambda node: ("aten.clamp.default", [node.args[0], None, node.args[1]], {}),
    "aten.clip.default": lambda node: ("aten.clamp.default", list(node.args), dict(node.kwargs)),
    "aten.mT.default": lambda node: ("aten.transpose.int", [node.args[0], -2, -1], {}),
    "aten.numpy_T.default": lambda node: (
        "aten.permute.default",
        [node.args[0], list(reversed(range(_value(node).dim())))],
        {},
    ),
    "aten.movedim.int": _moved,
    "aten.movedim.intlist": _moved,
    "aten.moveaxis.int": _moved,
    "aten.moveaxis.intlist": _moved,
    "aten.squeeze.default": _all_ones,
    "aten.einsum.default": _explicit,
    "aten.sub.Tensor": _turned("aten.sub.Tensor", "aten.rsub.Scalar"),
    "aten.add.Tensor": _turned("aten.add.Tensor", "aten.add.Tensor"),
    "aten.mul.Tensor": _turned("aten.mul.Tensor", "aten.mul.Tensor"),
    "aten.zero.default": lambda node: ("aten.fill.Scalar", [node.args[0], 0], {}),
    "aten.mean.default": lambda node: ("aten.mean.dim", [node.args[0], None], {}),
    "aten.sum.default": lambda node: ("aten.sum.dim_IntList", [node.args[0], None], {}),
    "aten.std.default": _spread("std"),
    "aten.std.dim": _spread("std"),
    "aten.var.default": _spread("var"),
    "aten.var.dim": _spread("var"),
    "aten.narrow.default": _narrowed,
    "aten.norm.ScalarOpt_dim": lambda node: (
        "aten.linalg_vector_norm.default",
        [node.args[0], 2 if node.args[1] is None else node.args[1], *node.args[2:]],
        {},
    ),
}

_BATCH_AS_NUMBER = (
    "the number of examples is any number, and no result may depend on it: leave it out, or divide by a size that is "
    "fixed, such as x.shape[1]"
)
NO_DRAWING = "forward may not draw random numbers; use nn.Dropout for noise while training"
ADVICE = {
    **dict.fromkeys(
        ["sym_float", "sym_int", "sym_sqrt", "truediv", "pow", "aten.scalar_tensor.default"], _BATCH_AS_NUMBER
    ),
    "cond": "a branch on the numbers of a tensor has no rule: compute both and choose with torch.where",
    **dict.fromkeys(["while_loop", "scan", "map_impl"], "loops of torch's own have no rule: write a Python loop"),
    "aten.feature_alpha_dropout.default": "use nn.AlphaDropout or nn.Dropout2d",
    "aten.kthvalue.default": "use x.sort(dim).values[..., k - 1]",
    "aten.mode.default": "the commonest value has no rule: count with F.one_hot and sums",
    "aten.broadcast_tensors.default": "use expand; a loss belongs to the score: let forward return what is scored",
    "aten.atan.default": "angles have no rule; sines and cosines do",
    "aten.fmod.Scalar": "use torch.remainder, or x - (x / y).trunc() * y",
    "aten.copysign.Tensor": "use torch.where(y < 0, -x.abs(), x.abs())",
    "aten.scatter_reduce.two": "only sums have a rule: scatter_add; for maxima compute them over a padded axis",
    "aten.index_copy.default": "build the tensor with torch.cat or torch.where",
    "aten.linalg_det.default": "determinants have no rule: write small ones out",
    "aten.linalg_cholesky.default": "decompositions of matrices have no rule",
    "aten.special_i0.default": "Bessel functions have no rule",
    "aten.squeeze.default": "name the dimension: squeeze(dim)",
    **dict.fromkeys(["aten.lstm.data", "aten.gru.data", "aten._pack_padded_sequence.default"], PACKED),
    "aten.max_pool2d_with_indices.default": "places of maxima have no rule: use return_indices=False, and nn.Upsample "
    "or nn.ConvTranspose2d instead of nn.MaxUnpool2d",
    "aten.max_pool1d_with_indices.default": "places of maxima have no rule: use return_indices=False",
    "aten._upsample_bilinear2d_aa.vec": "use antialias=False",
    "aten._upsample_bicubic2d_aa.vec": "use antialias=False",
    **dict.fromkeys(
        [f"aten.fft_{name}.default" for name in ("fft", "ifft", "rfft", "irfft", "fft2", "rfft2", "fftn", "rfftn")],
        "Fourier transforms have a rule for up to 2048 values along an axis of fixed length",
    ),
    **dict.fromkeys(
        ["aten.stft.default", "aten.stft.center", "aten.istft.default"],
        "compute spectrograms before the data are packed, or use nn.Conv1d with a fixed weight",
    ),
    "aten.nonzero.default": "its shape depends on the data: use torch.where(mask, x, 0.0) and sums",
    "aten.masked_select.default": "its shape depends on the data: use torch.where(mask, x, 0.0) and sums",
    "aten.unique.default": "its shape depends on the data: use F.one_hot and sums",
    "aten.searchsorted.Tensor": "write (x.unsqueeze(-1) > boundaries).sum(-1)",
    "aten.grid_sampler.default": "resampling has a rule for pictures, bilinear or nearest, with zeros or border",
    **dict.fromkeys(
        ["aten.bernoulli.default", "aten.bernoulli_.Tensor"],
        "forward may not draw random numbers; drop whole examples or channels with "
        "x * F.dropout(x.new_ones(x.shape[0], 1, 1, 1), p, self.training)",
    ),
    "aten.rrelu.default": "forward may not draw random numbers; use nn.LeakyReLU",
    "aten.linalg_inv.default": "matrix inverses have no rule",
    "aten.linalg_solve.default": "linear systems have no rule",
    "aten.linalg_svd.default": "decompositions of matrices have no rule",
    "aten.cdist.default": "write it out: (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1)",
    **dict.fromkeys(
        ["aten.embedding_bag.default", "aten.embedding_bag.padding_idx"],
        "bags have a rule where all have one length: give words [examples, n] without offsets, the rest padding_idx",
    ),
    "aten.div.out": "spectral_norm changes its vectors at each step of training, and a graph has one form for both "
    "modes: run the layer some times in training mode, then keep it in eval mode while the model is in training mode, "
    "with layer.parametrizations.eval() (layer.eval() for torch.nn.utils.spectral_norm), which is exported as "
    "weight / sigma; or use nn.utils.parametrizations.weight_norm",
    "aten.matrix_exp.default": "matrix exponentials, as in parametrizations.orthogonal, have no rule: use weight_norm",
    "aten.cummax.default": "running maxima have no rule: write x.unsqueeze(-2).masked_fill(later, -1e9).amax(-1)",
    "aten.cummin.default": "running minima have no rule: write x.unsqueeze(-2).masked_fill(later, 1e9).amin(-1)",
    "aten.index_fill.int_Scalar": "use torch.where or masked_fill with a fixed mask",
    **dict.fromkeys(["ge", "gt", "le", "lt", "eq", "ne"], "it compares the number of examples, which is any number"),
    "aten.atan2.default": "angles have no rule; sines and cosines do",
    "aten.index_put.default": "build the tensor with torch.cat or torch.where",
    "aten.index_put_.default": "build the tensor with torch.cat or torch.where",
    "aten.as_strided.default": "use unfold of slices, or nn.Conv1d",
    "aten.complex.default": "complex numbers have no rule; keep real and imaginary parts apart",
    "aten.view_as_complex.default": "complex numbers have no rule: write RoPE with sines and cosines",
    "aten.polar.default": "complex numbers have no rule: write RoPE with sines and cosines",
    "aten.item.default": "a number taken out of a tensor would steer forward; keep it a tensor",
    "aten._local_scalar_dense.default": "a number taken out of a tensor would steer forward; keep it a tensor",
}
"""What to write instead."""

USUAL_ADVICE = "write it with operators that have a rule (scoring-spec.md), or compute it before the data are packed"
"""For an operator without advice of its own."""
