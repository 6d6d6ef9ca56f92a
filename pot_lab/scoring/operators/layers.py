"""Linear layers, convolutions, products of tensors, embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pot_lab.scoring import reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import HostileGraph
from pot_lab.scoring.graph import batch_axis
from pot_lab.scoring.graph.batch_axis import (
    Axis,
    Interleaved,
    OperatorCall,
    Traced,
    broadcast,
    keeping_front,
    only_data_is_batched,
)
from pot_lab.scoring.operators.registry import Equation, Ignored, Naturals, Positive, Positives, Tensors, Text, operator


def _linear_work(call: OperatorCall) -> int:
    return 2 * call.output.numel() * int(call.traced("weight").shape[-1])


def _conv_work(call: OperatorCall) -> int:
    return 2 * call.output.numel() * math.prod(call.traced("weight").shape[1:])


def _conv_windows(call: OperatorCall) -> int:
    """All windows of all samples, written out."""
    positions = call.output.numel() // call.output.shape[1]
    return positions * int(call.traced("x").shape[1]) * math.prod(call.traced("weight").shape[2:])


def _matmul_work(call: OperatorCall) -> int:
    return 2 * call.output.numel() * int(call.traced("a").shape[-1])


@batch_axis.takes_interleaved
def _linear_axis(call: OperatorCall) -> Axis | Interleaved:
    axis = only_data_is_batched(call, "x")
    if axis == call.traced("x").rank - 1:
        raise call.mixing("it would sum over the batch axis")
    return keeping_front(call, axis, [call.traced("x")])


@operator("aten.linear.default", batch=_linear_axis, work=_linear_work)
def _linear(arithmetic: Arithmetic, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = arithmetic.linear(x, weight)
    return y if bias is None else y.add_(bias)


def _matmul_axis(call: OperatorCall) -> Axis:
    """a [..., M, K] @ b [..., K, N]."""
    a, b = call.traced("a"), call.traced("b")
    if a.rank < 2 or b.rank < 2:
        raise call.mixing("its operands must have two dimensions or more; use unsqueeze")
    if (a.axis is not None and a.axis == a.rank - 1) or (b.axis is not None and b.axis == b.rank - 2):
        raise call.mixing("it would sum over the batch axis")
    rank = call.output.dim()
    if a.axis == a.rank - 2 and a.axis is not None:
        if b.axis is not None:
            raise call.mixing("rows of one operand are examples, and the other depends on the examples too")
        return rank - 2
    if b.axis == b.rank - 1 and b.axis is not None:
        if a.axis is not None:
            raise call.mixing("columns of one operand are examples, and the other depends on the examples too")
        return rank - 1
    return broadcast(call, [a, b], rank)


@operator("aten.matmul.default", "aten.mm.default", "aten.bmm.default", batch=_matmul_axis, work=_matmul_work)
def _matmul(arithmetic: Arithmetic, a: Tensor, b: Tensor) -> Tensor:
    return arithmetic.product(arithmetic.rows(a), arithmetic.columns(b))


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
    """One value for each of `dims` axes, of a list that may have a single one for all."""
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
            batch=batch_axis.batch_first(_dims + 2),
            work=_conv_work,
            scratch=_conv_windows,
        )(_kernel)


def _embedding_axis(call: OperatorCall) -> Axis:
    return only_data_is_batched(call, "indices")


@operator("aten.embedding.default", batch=_embedding_axis)
def _embedding(
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


def _conv_transpose(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Positives = (1,),
    padding: Naturals = (0,),
    output_padding: Naturals = (0,),
    groups: Positive = 1,
    dilation: Positives = (1,),
) -> Tensor:
    """The convolution, with the weight flipped and its channels exchanged, of x with stride - 1 zeros between its
    places and dilation (kernel - 1) - padding around, output_padding more behind."""
    flat = weight.dim() == 3
    dims = weight.dim() - 2
    steps, spaced = spread(stride, dims), spread(dilation, dims)
    pads, more = spread(padding, dims), spread(output_padding, dims)
    if flat:
        x, steps, spaced, pads, more = x.unsqueeze(2), [1, *steps], [1, *spaced], [0, *pads], [0, *more]

    def turned(w: Tensor) -> Tensor:
        w = torch.unflatten(w.unsqueeze(2) if flat else w, 0, (groups, -1)).transpose(1, 2)
        return w.flatten(0, 1).flip(-1, -2)

    y = arithmetic.transposed_convolution(x, weight, steps, pads, more, spaced, groups, turned=turned)
    y = y if bias is None else y.add_(bias.reshape(1, -1, 1, 1))
    return y.squeeze(2) if flat else y


def _transpose_work(call: OperatorCall) -> int:
    area = math.prod(call.traced("weight").shape[2:])
    return 2 * call.output.numel() * int(call.traced("weight").shape[0]) // int(call["groups"]) * area


def _transpose_windows(call: OperatorCall) -> int:
    """Windows written out, and the data with zeros between their places."""
    positions = call.output.numel() // call.output.shape[1]
    x, dims = call.traced("x"), call.traced("weight").rank - 2
    steps = spread(call["stride"], dims)
    apart = math.prod((n - 1) * s + 1 for n, s in zip(x.shape[2:], steps, strict=True))
    windows = positions * int(x.shape[1]) * math.prod(call.traced("weight").shape[2:])
    return max(windows, x.shape[0] * x.shape[1] * apart)


for _dims, _name in ((1, "aten.conv_transpose1d.default"), (2, "aten.conv_transpose2d.input")):
    operator(_name, batch=batch_axis.batch_first(_dims + 2), work=_transpose_work, scratch=_transpose_windows)(
        _conv_transpose
    )


@operator("aten.conv3d.default", batch=batch_axis.batch_first(5), work=_conv_work, scratch=_conv_windows)
def _conv3d(
    arithmetic: Arithmetic,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Positives = (1,),
    padding: Naturals = (0,),
    dilation: Positives = (1,),
    groups: Positive = 1,
) -> Tensor:
    """Each place along the first axis of the result is a 2-d convolution of its own, whose channels are the channels
    of x times the kernel's length."""
    steps, pads, spaced = spread(stride, 3), spread(padding, 3), spread(dilation, 3)
    length = weight.shape[2]
    windows: Tensor = F.pad(x, (0, 0, 0, 0, pads[0], pads[0])).unfold(2, spaced[0] * (length - 1) + 1, steps[0])
    windows = windows[..., :: spaced[0]].permute(0, 2, 1, 5, 3, 4)
    y = arithmetic.convolution(
        windows.flatten(0, 1).flatten(1, 2),
        weight,
        steps[1:],
        [(p, p) for p in pads[1:]],
        spaced[1:],
        groups,
        form="by depth",
        shaped=lambda w: w.flatten(1, 2),
    )
    y = torch.unflatten(y, 0, windows.shape[:2]).transpose(1, 2)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1, 1)


def _addmm_axis(call: OperatorCall) -> Axis:
    """x + a @ b."""
    a, b = call.traced("a"), call.traced("b")
    inner = OperatorCall(operator=call.operator, arguments={"a": a, "b": b}, outputs=call.outputs, batch=call.batch)
    axis = _matmul_axis(inner)
    if axis is None:
        if call.traced("x").axis is not None:
            raise call.mixing("only the sum depends on the examples")
        return None
    return broadcast(call, [Traced(call.output, axis), call.traced("x")], call.output.dim())


@operator("aten.addmm.default", "aten.baddbmm.default", batch=_addmm_axis, work=_matmul_work)
def _addmm(arithmetic: Arithmetic, x: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """a b alpha + x beta."""
    y = _matmul(arithmetic, a, b)
    y = y if alpha == 1 else y.mul_(alpha)
    return y.add_(x if beta == 1 else x * beta)


def _einsum_check(arguments: dict[str, Any]) -> None:
    inputs, _, output = arguments["equation"].replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arguments["operands"]) or any(
        len(term) != t.rank or len(set(term)) != len(term) for term, t in zip(terms, arguments["operands"], strict=True)
    ):
        raise HostileGraph("an equation does not fit its operands, or repeats a letter in one", seen=inputs)
    if len(terms) > 3 or len(set(output)) != len(output) or not set(output) <= set(inputs):
        raise HostileGraph("einsum has a rule for one to three operands", seen=arguments["equation"])


def _einsum_work(call: OperatorCall) -> int:
    sizes: dict[str, int] = {}
    inputs, _, _ = call["equation"].replace(" ", "").partition("->")
    for term, t in zip(inputs.split(","), call["operands"], strict=True):
        sizes.update((letter, n) for letter, n in zip(term, t.shape, strict=True) if n > 1 or letter not in sizes)
    return 2 * math.prod(sizes.values()) + 10 * call.output.numel()


def _first_two(terms: Sequence[str], output: str) -> str:
    """Letters that the product of the first two operands keeps."""
    later = set(output).union(*terms[2:])
    return "".join(c for c in dict.fromkeys("".join(terms[:2])) if c in later)


def _einsum_scratch(call: OperatorCall) -> int:
    """The operands, and of three the product of the first two."""
    inputs, _, output = call["equation"].replace(" ", "").partition("->")
    terms = inputs.split(",")
    held: int = sum(t.tensor.numel() for t in call["operands"])
    if len(terms) < 3:
        return held
    sizes = {c: n for term, t in zip(terms, call["operands"], strict=True) for c, n in zip(term, t.shape, strict=True)}
    both: int = math.prod(sizes[c] for c in _first_two(terms, output))
    return held + both


def _einsum_axis(call: OperatorCall) -> Axis:
    """The batch is one letter, which stands in the result and has the batch's axis wherever it stands."""
    inputs, _, output = call["equation"].replace(" ", "").partition("->")
    letters: dict[str, set[tuple[bool, bool]]] = {}
    for term, t in zip(inputs.split(","), call["operands"], strict=True):
        for place, letter in enumerate(term):
            letters.setdefault(letter, set()).add((t.axis == place, t.axis is None))
    batched = {letter for letter, seen in letters.items() if (True, False) in seen}
    if not batched:
        return None
    (letter, *more) = batched
    if more or any(not at_axis for at_axis, _ in letters[letter]) or letter not in output:
        raise call.mixing("the batch must be one letter, which stands in the result and means the batch everywhere")
    return int(output.index(letter))


@operator(
    "aten.einsum.default",
    batch=_einsum_axis,
    check=_einsum_check,
    work=_einsum_work,
    scratch=_einsum_scratch,
)
def _einsum(arithmetic: Arithmetic, equation: Equation, operands: Tensors, path: Ignored = None) -> Tensor:
    """Letters of one operand only that are not in the result are summed first; then one matrix product: letters in all
    three are its batch, letters of the left its rows, of the right its columns, and the rest its sum, each in the
    order in which they stand in the left operand (columns: in the right)."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) == 3:
        both = _first_two(terms, output)
        front = _einsum(arithmetic, f"{terms[0]},{terms[1]}->{both}", operands[:2])
        return _einsum(arithmetic, f"{both},{terms[2]}->{output}", [front, operands[2]])
    kept = []
    for i, (term, x) in enumerate(zip(terms, operands, strict=True)):
        elsewhere = set(output).union(*terms[:i], *terms[i + 1 :])
        gone = [place for place, letter in enumerate(term) if letter not in elsewhere]
        kept.append(("".join(c for c in term if c in elsewhere), reductions.exact_sum(x, gone) if gone else x))
    if len(kept) == 1:
        term, x = kept[0]
        return x.permute([term.index(c) for c in output])
    (left, a), (right, b) = kept
    batch = [c for c in left if c in right and c in output]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    summed = [c for c in left if c in right and c not in output]
    a = a.permute([left.index(c) for c in (*batch, *rows, *summed)])
    b = b.permute([right.index(c) for c in (*batch, *summed, *columns)])
    sizes = dict(zip((*batch, *rows, *summed), a.shape, strict=True))
    sizes |= dict(zip((*batch, *summed, *columns), b.shape, strict=True))
    shape = [sizes[c] for c in batch]
    length = math.prod(sizes[c] for c in summed)
    y = _matmul(
        arithmetic,
        a.reshape(*shape, math.prod(sizes[c] for c in rows), length),
        b.reshape(*shape, length, math.prod(sizes[c] for c in columns)),
    )
    order = [*batch, *rows, *columns]
    return y.reshape([sizes[c] for c in order]).permute([order.index(c) for c in output])


def _bilinear_work(call: OperatorCall) -> int:
    return 2 * int(call.output.numel()) * math.prod(call.traced("weight").shape[1:])


def _bilinear_scratch(call: OperatorCall) -> int:
    return int(call.output.numel()) * int(call.traced("weight").shape[2])


def _bilinear_axis(call: OperatorCall) -> Axis:
    """Rows of x and of other are met one by one."""
    x, other = call.traced("x"), call.traced("other")
    if any(isinstance(v, Traced) and v.axis is not None for v in (call["weight"], call["bias"])):
        raise call.mixing("its weights depend on the examples")
    if x.axis != other.axis or (x.axis is not None and x.axis == x.rank - 1):
        raise call.mixing("both arguments must hold the batch at the same axis, which is not the last")
    return x.axis


@operator("aten.bilinear.default", batch=_bilinear_axis, work=_bilinear_work, scratch=_bilinear_scratch)
def _bilinear(arithmetic: Arithmetic, x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x times all columns of the weight [O, I, J] as one product, then for each output the sum over J of that times
    `other`."""
    flat = arithmetic.prepared(weight, "by output", lambda w: arithmetic.fix(w.transpose(1, 2).flatten(0, 1)))
    y = torch.unflatten(arithmetic.linear(x, flat), -1, (weight.shape[0], weight.shape[2]))
    y = reductions.exact_sum(y * other.unsqueeze(-2), (-1,))
    return y if bias is None else y + bias
