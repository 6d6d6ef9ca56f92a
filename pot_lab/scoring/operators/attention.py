"""Scaled dot-product attention, kept whole.

Queries are taken block by block, so that the scores of a long sequence never stand in memory at once, and with
`is_causal` a block stops at its last key. Both change no bit: a query's row has a grid of its own, keys and values have
theirs over all keys, and a key that is left out would weigh exactly nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pot_lab.scoring import elementwise, reductions
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.graph.batch_axis import Axis, OperatorCall, broadcast
from pot_lab.scoring.grids import Grid
from pot_lab.scoring.operators.registry import Probability, operator

BLOCK_QUERIES = 128


def _work(call: OperatorCall) -> int:
    scores = call.output.numel() // int(call["value"].shape[-1]) * int(call["key"].shape[-2])
    return scores * (2 * int(call["query"].shape[-1]) + 2 * int(call["value"].shape[-1]) + 20)


def _scratch(call: OperatorCall) -> int:
    """Scores of one block of queries."""
    queries = max(1, int(call["query"].shape[-2]))
    rows = call.output.numel() // int(call["value"].shape[-1])
    return rows * min(queries, BLOCK_QUERIES) // queries * int(call["key"].shape[-2])


def _attention_axis(call: OperatorCall) -> Axis:
    """query [..., L, E], key [..., S, E], value [..., S, V], mask [..., L, S]."""
    rank = call.output.dim()
    operands = [t for t in (call["query"], call["key"], call["value"], call["attn_mask"]) if t is not None]
    axis = broadcast(call, operands, rank)
    if axis is not None and axis >= rank - (3 if call["enable_gqa"] else 2):
        raise call.mixing("it would attend over the batch axis")
    return axis


@operator(
    "aten.scaled_dot_product_attention.default",
    batch=_attention_axis,
    work=_work,
    scratch=_scratch,
    mode="dropout_p",
    booleans=True,
)
def _attention(
    arithmetic: Arithmetic,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: Probability = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax((query key^T) scale + mask) value; scale is rsqrt(E) unless given."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    factor = _default_scale(query) if scale is None else scale
    queries, keys = arithmetic.rows(query), arithmetic.columns(key.transpose(-2, -1))
    values = arithmetic.columns(value)
    count, length = query.shape[-2], key.shape[-2]
    blocks = []
    for start in range(0, count, BLOCK_QUERIES):
        stop = min(start + BLOCK_QUERIES, count)
        seen = min(stop, length) if is_causal else length
        scores = arithmetic.product(_some_rows(queries, start, stop), _some_columns(keys, seen)).mul_(factor)
        if is_causal:
            late = torch.ones(stop - start, seen, dtype=torch.bool, device=scores.device).triu_(start + 1)
            scores.masked_fill_(late, -math.inf)
        if attn_mask is not None:
            part = attn_mask[..., start:stop, :] if attn_mask.dim() > 1 and attn_mask.shape[-2] > 1 else attn_mask
            scores = scores.masked_fill(~part, -math.inf) if part.dtype == torch.bool else scores + part
        weights = reductions.attention_weights(scores, length)
        blocks.append(arithmetic.product(arithmetic.rows(weights, length), _first_keys(values, seen)))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -2)


def _default_scale(query: Tensor) -> float:
    """1 / sqrt(E) by the specification's own rule."""
    return elementwise.rsqrt(torch.tensor(float(query.shape[-1]), dtype=torch.float64)).item()


def _some_rows(grid: Grid, start: int, stop: int) -> Grid:
    second = None if grid.second is None else grid.second[..., start:stop, :]
    return Grid(grid.values[..., start:stop, :], grid.step[..., start:stop, :], grid.bits, second)


def _some_columns(grid: Grid, stop: int) -> Grid:
    second = None if grid.second is None else grid.second[..., :stop]
    return Grid(grid.values[..., :stop], grid.step[..., :stop], grid.bits, second)


def _first_keys(grid: Grid, stop: int) -> Grid:
    second = None if grid.second is None else grid.second[..., :stop, :]
    return Grid(grid.values[..., :stop, :], grid.step, grid.bits, second)
