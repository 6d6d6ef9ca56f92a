"""What data look like that can be ordered and may still not say what they should: notes of a check, no refusals."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pot_lab.cards.scores import WEIGHTED, base_name

if TYPE_CHECKING:
    from torch import Tensor

    from pot_lab.scoring import Dataset, ScoreFunction

_LARGEST_LOOK = 1 << 30
"""Bytes of data beyond which examples are not compared."""
_CLASSES = ("accuracy", "top_k_accuracy", "cross_entropy", "macro_f1", "brier", "auc", *WEIGHTED)


def data_notes(train: Dataset, test: Dataset, function: ScoreFunction) -> list[str]:
    """Notes on data that fit one another: test inputs that are in the train data too, that are all the same, and
    classes that only the test data have."""
    found = []
    if _bytes(train) + _bytes(test) <= _LARGEST_LOOK:
        known, asked = set(_names(train)), _names(test)
        shared = sum(name in known for name in asked)
        if shared:
            found.append(
                f"{shared} of {len(asked)} test inputs are train inputs too: providers may know their answers by heart"
            )
        if len(asked) > 1 and len(set(asked)) == 1:
            found.append("all test inputs are the same, so no model can tell the examples apart")
    if base_name(function.full_name) in _CLASSES:
        column = (slice(None), 0) if base_name(function.full_name) in WEIGHTED else slice(None)
        missing = set(test.targets[column].reshape(-1).tolist()) - set(train.targets[column].reshape(-1).tolist())
        if missing:
            shown = ", ".join(str(n) for n in sorted(missing)[:8])
            found.append(f"classes that are in the test data only: {shown}")
    return found


def _tensors(data: Dataset) -> tuple[Tensor, ...]:
    return data.inputs if isinstance(data.inputs, tuple) else (data.inputs,)


def _bytes(data: Dataset) -> int:
    return sum(t.numel() * t.element_size() for t in _tensors(data))


def _names(data: Dataset) -> list[bytes]:
    """A short hash of the inputs of each example."""
    arrays = [t.contiguous().numpy() for t in _tensors(data)]
    return [
        hashlib.blake2b(b"".join(a[i].tobytes() for a in arrays), digest_size=16).digest() for i in range(data.examples)
    ]
