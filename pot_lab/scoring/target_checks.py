"""Whether outputs and targets fit a score function: shapes and number types first, values once they are there.

A check of shapes raises; a check of values returns what is wrong in words, since only the caller knows which file the
targets are from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch
from pot_lab.scoring.graph.model_graph import Output

NO_TOKEN = -100
"""Target of a place that does not count, as in torch."""
LARGEST_TOKENS = 1 << 16
LARGEST_PLACES = 1 << 24
LARGEST_WEIGHT = 1000
LARGEST_GRADE = 30


def check_classes(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """One row of class scores an example, and int64 class numbers; raises ShapeMismatch, DtypeMismatch."""
    if len(output.shape) != 1:
        raise ShapeMismatch(
            "the model's output must be one row of class scores an example", seen=output.shape, wanted="(classes,)"
        )
    if shape != ():
        how = ", as with .argmax(1)" if shape == output.shape else ", as with .squeeze(1)" if shape == (1,) else ""
        raise ShapeMismatch(
            "targets must be one class number an example", seen=("examples", *shape), wanted="(examples,)" + how
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be class numbers", seen=dtype, wanted="torch.int64, as with .long()")


def check_class_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with class numbers, which must be 0 .. classes - 1; None if nothing is."""
    if targets.numel() and not (int(targets.min()) >= 0 and int(targets.max()) < output.shape[0]):
        return (
            f"class numbers from {int(targets.min())} to {int(targets.max())}, for a model of {output.shape[0]} "
            "classes, which are counted from 0"
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
        raise DtypeMismatch("targets must be token numbers", seen=dtype, wanted="torch.int64, as with .long()")
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
        added, gone = (*shape, 1) == output.shape, shape == (*output.shape, 1)
        how = f", as with .unsqueeze({len(shape) + 1})" * added + f", as with .squeeze({len(shape)})" * gone
        raise ShapeMismatch(
            "targets must have the shape of the model's output",
            seen=("examples", *shape),
            wanted=f"{('examples', *output.shape)}{how}",
        )


def accept_all_values(output: Output, targets: Tensor) -> str | None:
    """None: every finite value is a target."""
    return None


def check_weighted(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """One row of class scores an example, and int64 pairs of class number and weight; raises ShapeMismatch,
    DtypeMismatch."""
    if shape != (2,):
        raise ShapeMismatch(
            "targets must be a class number and a weight for each example",
            seen=("examples", *shape),
            wanted="(examples, 2)",
        )
    check_classes(output, dtype, ())


def check_weighted_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with class numbers and weights; None if nothing is."""
    weights = targets[:, 1]
    if targets.numel() and not (int(weights.min()) >= 0 and int(weights.max()) <= LARGEST_WEIGHT):
        return f"weights from {int(weights.min())} to {int(weights.max())}, which must be 0 to {LARGEST_WEIGHT}"
    return check_class_range(output, targets[:, 0])


def check_places(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """A score of each class at each place, and int64 class numbers at the places; raises ShapeMismatch,
    DtypeMismatch."""
    if len(output.shape) < 2 or output.shape[0] < 2 or math.prod(output.shape[1:]) > LARGEST_PLACES:
        raise ShapeMismatch(
            "the model's output must be a score of each class at each place",
            seen=output.shape,
            wanted=f"(classes, height, width), two classes and more, at most {LARGEST_PLACES} places",
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be class numbers", seen=dtype, wanted="torch.int64, as with .long()")
    if shape != output.shape[1:]:
        how = ", as with .squeeze(1)" if shape == (1, *output.shape[1:]) else ""
        raise ShapeMismatch(
            "targets must be one class number for each of the model's places",
            seen=("examples", *shape),
            wanted=f"{('examples', *output.shape[1:])}{how}",
        )


def check_place_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with the class numbers of places, which must be 0 .. classes - 1 or `NO_TOKEN`; None if nothing
    is."""
    counted = targets != NO_TOKEN
    if bool((((targets < 0) | (targets >= output.shape[0])) & counted).any()):
        how = f": write {NO_TOKEN} for 255" if bool((targets == 255).any()) else ""
        return f"class numbers outside of 0 to {output.shape[0] - 1}; {NO_TOKEN} is a place that does not count{how}"
    if not bool(counted.reshape(len(targets), -1).any(1).all()):
        return "an example without a place that counts"
    return None


def check_binary(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Two class scores an example, or one, and int64 targets; raises ShapeMismatch, DtypeMismatch."""
    if output.shape not in ((1,), (2,)):
        raise ShapeMismatch(
            "the model's output must be one score an example, or one for each of two classes",
            seen=output.shape,
            wanted="(2,) or (1,)",
        )
    check_classes(output, dtype, shape)


def check_binary_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with targets, which must be 0 or 1; None if nothing is."""
    if targets.numel() and not (int(targets.min()) >= 0 and int(targets.max()) <= 1):
        return f"targets from {int(targets.min())} to {int(targets.max())}, which must be 0 or 1"
    return None


def check_items(output: Output, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """One score and one int64 grade for each item of an example; raises ShapeMismatch, DtypeMismatch."""
    if len(output.shape) != 1 or not 2 <= output.shape[0] <= LARGEST_TOKENS:
        raise ShapeMismatch(
            "the model's output must be a score for each item",
            seen=output.shape,
            wanted=f"(items,), from 2 to {LARGEST_TOKENS}",
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be grades in whole numbers", seen=dtype, wanted="torch.int64")
    check_same_shape(output, dtype, shape)


def check_grade_range(output: Output, targets: Tensor) -> str | None:
    """What is wrong with grades, which must be 0 .. 30 or `NO_TOKEN`, one of an example above 0; None if nothing
    is."""
    counted = targets != NO_TOKEN
    if bool((((targets < 0) | (targets > LARGEST_GRADE)) & counted).any()):
        return f"grades outside of 0 to {LARGEST_GRADE}; {NO_TOKEN} is no item"
    if not bool((targets > 0).any(1).all()):
        return "an example without an item of a grade above 0"
    return None


def check_labels(output: Output, dtype: torch.dtype, shape: tuple[int, ...], labels: int | None = None) -> None:
    """One score and one int64 target for each label; raises ShapeMismatch, DtypeMismatch."""
    if len(output.shape) != 1 or output.shape[0] > LARGEST_TOKENS or labels not in (None, output.shape[0]):
        raise ShapeMismatch(
            "the model's output must be a score for each label",
            seen=output.shape,
            wanted=f"({labels},)" if labels else f"(labels,), at most {LARGEST_TOKENS}",
        )
    if dtype != torch.int64:
        raise DtypeMismatch("targets must be 0 or 1 for each label", seen=dtype, wanted="torch.int64, as with .long()")
    check_same_shape(output, dtype, shape)


def check_label_range(output: Output, targets: Tensor, *, may_skip: bool) -> str | None:
    """What is wrong with the targets of labels, which must be 0 or 1, or with `may_skip` `NO_TOKEN`; None if nothing
    is."""
    known = (targets == 0) | (targets == 1) | ((targets == NO_TOKEN) & may_skip)
    if bool(known.all()):
        return None
    return "targets other than 0 and 1" + (f"; {NO_TOKEN} is a label that does not count" if may_skip else "")
