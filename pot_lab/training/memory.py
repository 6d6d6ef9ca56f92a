"""How many examples fit into memory at once, by what a graph's example takes and what the device has free."""

from __future__ import annotations

import psutil
import torch

from pot_lab.scoring import ModelGraph

STEP_BYTES, LOOK_BYTES = 512 << 20, 256 << 20
"""The most for the activations of a step's part, and of a batch of a look, on a CPU: larger ones gain nothing there."""
_FLOAT_BYTES = 4
_LOGIT_COPIES, _LOOK_COPIES = 2, 6
_MOST_ROWS = 1 << 16


def free_bytes(device: str) -> int:
    """What could be allocated now, in bytes."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def rows_of_a_step(graph: ModelGraph, device: str, free: int) -> int:
    """How many examples go through forward and backward at once; at least 1.

    Args:
        graph: its activations are all kept until backward; the largest, the scores, have a gradient beside.
        device: a torch device name.
        free: free memory in bytes.
    """
    cost = graph.cost
    row_bytes = (cost.total_elements + _LOGIT_COPIES * cost.largest_elements) * _FLOAT_BYTES
    return _rows(row_bytes, free * 6 // 10 if device.startswith("cuda") else min(STEP_BYTES, free // 4))


def rows_of_a_look(graph: ModelGraph, device: str, free: int) -> int:
    """How many examples go through forward at once without a gradient; at least 1. Arguments as above."""
    row_bytes = _LOOK_COPIES * graph.cost.largest_elements * _FLOAT_BYTES
    return _rows(row_bytes, free // 4 if device.startswith("cuda") else min(LOOK_BYTES, free // 4))


def _rows(row_bytes: int, budget_bytes: int) -> int:
    return min(_MOST_ROWS, max(1, budget_bytes // max(1, row_bytes)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch raised this because an allocation failed, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
