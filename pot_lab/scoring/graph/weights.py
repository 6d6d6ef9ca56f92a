"""Weights of a graph: read from safetensors and checked."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from pot_lab.scoring.errors import BadWeights, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.graph.model_graph import ModelGraph
from pot_lab.scoring.tensor_file import read_header, read_tensors


def load_weights(graph: ModelGraph, weights: bytes) -> dict[str, Tensor]:
    """State tensors by name, checked against the graph: the same names, types and shapes, constants as declared.

    Values may be anything, also NaN: such a model gets an invalid score, not an error.

    Raises: BadWeights (also for pickles), DtypeMismatch, ShapeMismatch, Oversize.
    """
    header = read_header(weights, limit_bytes=graph.limits.weights_bytes, what="weights file", error=BadWeights)
    wanted = {s.name: s for s in graph.state}
    if set(header) != set(wanted):
        lacking, extra = sorted(set(wanted) - set(header)), sorted(set(header) - set(wanted))
        raise BadWeights(
            "the weights file does not have the graph's tensors", seen=f"lacking {lacking[:5]}, unknown {extra[:5]}"
        )
    for name, (dtype, shape) in header.items():
        if dtype != wanted[name].dtype:
            raise DtypeMismatch(
                f"weight {name!r} has another number type than in the graph", seen=dtype, wanted=wanted[name].dtype
            )
        if shape != wanted[name].shape:
            raise ShapeMismatch(
                f"weight {name!r} has another shape than in the graph", seen=shape, wanted=wanted[name].shape
            )
    tensors = read_tensors(weights, limit_bytes=graph.limits.weights_bytes, what="weights file", error=BadWeights)
    for state in graph.state:
        if state.sha256 and tensor_sha256(tensors[state.name]) != state.sha256:
            what = "a constant" if state.kind == "constant" else "a frozen parameter"
            raise BadWeights(f"{what} of the model was changed", seen=state.name)
    return tensors


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of a tensor's little-endian elements, hex."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
