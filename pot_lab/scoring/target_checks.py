"""Whether outputs and targets fit a score function: shapes and number types first, values once they are there.

A check of shapes raises; a check of values returns what is wrong in words, since only the caller knows which file the
targets are from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch
from pot_lab.scoring.graph.model_graph import Output

NO_TOKEN = -100
"""Target of a place that does not count, as in torch."""
LARGEST_TOKENS = 1 << 16


def check_classes(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """One row of class scores an example, and int64 class numbers; raises ShapeMismatch, DtypeMismatch."""
    if len(output.shape) != 1:
        raise ShapeMismatch(
            "the model's output must be one row of class scores an example", seen=output.shape, wanted="(classes,)"
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be class numbers", seen=dtype, wanted="torch.int64")
    if shape != ():
        raise ShapeMismatch(
            "targets must be one class number an example", seen=("examples", *shape), wanted="(examples,)"
        )


def check_class_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with class numbers, which must be 0 .. classes - 1; None if nothing is."""
    if targets.numel() and not (int(targets.min()) >= 0 and int(targets.max()) < output.shape[0]):
        return (
            f"class numbers from {int(targets.min())} to {int(targets.max())}, for a model of {output.shape[0]} classes"
        )
    return None


def check_tokens(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """A row of scores for each token, and int64 token numbers; raises ShapeMismatch, DtypeMismatch."""
    if len(output.shape) not in (1, 2) or (output.shape[0] > LARGEST_TOKENS and len(output.shape) == 2):
        raise ShapeMismatch(
            "the model's output must be a row of scores for each token",
            seen=output.shape,
            wanted=f"(tokens, words), at most {LARGEST_TOKENS} tokens",
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be token numbers", seen=dtype, wanted="torch.int64")
    if shape != output.shape[:-1]:
        raise ShapeMismatch(
            "targets must be one token number for each of the model's tokens",
            seen=("examples", *shape),
            wanted=("examples", *output.shape[:-1]),
        )


def check_token_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with token numbers, which must be 0 .. words - 1 or `NO_TOKEN`; None if nothing is."""
    counted = targets != NO_TOKEN
    words = output.shape[-1]
    if bool((((targets < 0) | (targets >= words)) & counted).any()):
        return f"token numbers outside of 0 to {words - 1}; {NO_TOKEN} is a token that does not count"
    if not bool(counted.reshape(len(targets), -1).any(1).all()):
        return "an example without a token that counts"
    return None


def check_same_shape(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Targets of the shape of the outputs; raises ShapeMismatch."""
    if shape != output.shape:
        raise ShapeMismatch(
            "targets must have the shape of the model's output",
            seen=("examples", *shape),
            wanted=("examples", *output.shape),
        )


def accept_all_values(output: Output, targets: Tensor) -> str | None:
    """None: every finite value is a target."""
    return None
