"""Bounds of what a model or a data set from outside may need, checked before anything is allocated.

All correct scorers must refuse the same files, so these numbers and the way work is counted belong to the
specification's version.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what is loaded and scored.

    Attributes:
        graph_bytes: size of a graph file.
        nodes: operator calls in a graph.
        depth: nesting of a graph file's JSON.
        state_tensors: weights, buffers and constants.
        weights_bytes: size of a weights file, and of the tensors that a graph declares.
        tensor_elements: largest tensor for one example.
        work: multiply-adds and element steps for one example.
        dataset_bytes: size of a data file.
        examples: examples in a data set.
    """

    graph_bytes: int = 8 << 20
    nodes: int = 20_000
    depth: int = 8
    state_tensors: int = 10_000
    weights_bytes: int = 4 << 30
    tensor_elements: int = 1 << 28
    work: int = 1 << 40
    dataset_bytes: int = 8 << 30
    examples: int = 1 << 26


DEFAULT_LIMITS = Limits()
