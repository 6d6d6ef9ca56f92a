"""The second implementation of the score functions of regression, calibration, segmentation, ranking and labels.

Written from scoring-spec.md alone, example by example, in numpy and Python's whole numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.scoring import numpy_scoring as base

Array = NDArray[Any]
Scored = tuple[list[int], int]


def _capped(mean: float, factor: float) -> int:
    value = mean * factor
    return int(np.rint(1e10 if np.isnan(value) else min(max(value, 0.0), 1e10)))


def _means(distances: Array) -> list[float]:
    return [float(v) for v in base.exact_mean(distances.reshape(len(distances), -1), (1,))]


def scaled(outputs: Array, targets: Array, given: dict[str, int], squared: bool) -> list[int]:
    d = np.abs(outputs - targets.astype(np.float64))
    divisor = float(Decimal(given["scale"]).scaleb(given["exponent"] - 15))
    return [_capped(m / divisor, 1e6) for m in _means(d * d if squared else d)]


def quantile_loss(outputs: Array, targets: Array, given: dict[str, int]) -> list[int]:
    permille = given.get("permille", 500)
    d = targets.astype(np.float64) - outputs
    return [
        _capped(m, 10.0 ** given.get("decimals", 6))
        for m in _means(np.maximum(d * (permille / 1000), d * ((permille - 1000) / 1000)))
    ]


def brier(outputs: Array, targets: Array) -> list[int]:
    apart = base.softmax(outputs, -1) - np.eye(outputs.shape[1])[targets]
    return [int(np.rint(v * 1e6)) for v in base.exact_sum(apart * apart, (1,))]


def weighted(outputs: Array, targets: Array, values: list[int]) -> list[int]:
    return [value * int(weight) for value, weight in zip(values, targets[:, 1], strict=True)]


def token_accuracy(outputs: Array, targets: Array) -> list[int]:
    found = []
    tokens = outputs.reshape(len(outputs), -1, outputs.shape[-1])
    for rows, wanted in zip(tokens, targets.reshape(len(targets), -1), strict=True):
        counted = [(int(np.argmax(row)), int(t)) for row, t in zip(rows, wanted, strict=True) if t != -100]
        right = sum(a == t for a, t in counted)
        found.append((2 * 10**6 * right + len(counted)) // (2 * len(counted)))
    return found


def mean_iou(outputs: Array, targets: Array) -> list[int]:
    found = []
    for scores, wanted in zip(outputs, targets, strict=True):
        pairs = [(int(a), int(t)) for a, t in zip(scores.argmax(0).ravel(), wanted.ravel(), strict=True) if t != -100]
        ratios = []
        for c in {c for pair in pairs for c in pair}:
            both = sum(a == t == c for a, t in pairs)
            union = sum(c in pair for pair in pairs)
            ratios.append(both * 10**6 // union)
        found.append(sum(ratios) // len(ratios))
    return found


def order_code(number: float) -> int:
    """Place of a number among all float32 numbers."""
    rounded = np.float32(min(max(number, -float(np.finfo(np.float32).max)), float(np.finfo(np.float32).max)))
    (bits,) = struct.unpack("<I", struct.pack("<f", rounded))
    if bits == 1 << 31:
        bits = 0
    return bits + (1 << 31) if bits < 1 << 31 else (1 << 32) - bits


def auc(outputs: Array, targets: Array) -> list[int]:
    margins = [float(o[1] - o[0]) if len(o) == 2 else float(o[0]) for o in outputs]
    return [2 * order_code(m) + int(t) for m, t in zip(margins, targets, strict=True)]


def auc_total(values: Sequence[int]) -> int:
    ones = [v >> 1 for v in values if v & 1]
    zeros = [v >> 1 for v in values if not v & 1]
    if not ones or not zeros:
        return 0
    halves = sum(2 if a > b else 1 if a == b else 0 for a in ones for b in zeros)
    return 10**6 * len(values) * halves // (2 * len(ones) * len(zeros))


def ndcg(outputs: Array, targets: Array, k: int) -> list[int]:
    found = []
    for scores, grades in zip(outputs, targets, strict=True):
        items = [i for i, g in enumerate(grades) if g != -100]
        gains = [2.0 ** int(g) - 1.0 if g != -100 else 0.0 for g in grades]
        order = sorted(items, key=lambda i: (-scores[i], i)) + [i for i, g in enumerate(grades) if g == -100]
        places = min(k, len(grades))
        logs = base.log(np.arange(2.0, places + 2.0))
        discounts = base.log(np.full(places, 2.0)) / logs
        ideal = sorted(gains, reverse=True)[:places]
        first, best = (
            base.exact_sum((np.array(g) * discounts)[None], (1,))[0]
            for g in ([gains[i] for i in order[:places]], ideal)
        )
        found.append(int(np.rint(first / best * 1e6)))
    return found


def _named(outputs: Array, given: dict[str, int]) -> Array:
    return base.sigmoid(outputs) > given.get("threshold", 500) / 1000


def micro_f1(outputs: Array, targets: Array, given: dict[str, int]) -> list[int]:
    found = []
    for named, wanted in zip(_named(outputs, given), targets, strict=True):
        right = sum(bool(a) and t == 1 for a, t in zip(named, wanted, strict=True))
        wrong = sum(t != -100 and bool(a) != (t == 1) for a, t in zip(named, wanted, strict=True))
        found.append(right * (1 << 18) + wrong)
    return found


def micro_f1_total(values: Sequence[int]) -> int:
    right, wrong = sum(v >> 18 for v in values), sum(v % (1 << 18) for v in values)
    return 2 * right * 10**6 * len(values) // (2 * right + wrong) if right else 0


def macro_f1(outputs: Array, targets: Array, given: dict[str, int]) -> list[int]:
    return [
        sum((2 * int(t) + int(a)) * 4**place for place, (a, t) in enumerate(zip(named, wanted, strict=True)))
        for named, wanted in zip(_named(outputs, given), targets, strict=True)
    ]


def macro_f1_total(values: Sequence[int], labels: int) -> int:
    total = 0
    for label in range(labels):
        pairs = [v // 4**label % 4 for v in values]
        right, wrong = pairs.count(3), pairs.count(1) + pairs.count(2)
        total += 2 * right * 10**6 * len(values) // ((2 * right + wrong) * labels) if right else 0
    return total


def scored(identifier: str, outputs: Array, targets: Array) -> Scored | None:
    """Values of the examples and the total; None for a function that is not here."""
    name, _, rest = identifier.partition("/")[0].partition("[")
    given = {k: int(v) for k, _, v in (part.partition("=") for part in rest.rstrip("]").split(",") if part)}
    if name == "auc":
        values = auc(outputs, targets)
        return values, auc_total(values)
    if name == "multilabel_micro_f1":
        values = micro_f1(outputs, targets, given)
        return values, micro_f1_total(values)
    if name == "multilabel_macro_f1":
        values = macro_f1(outputs, targets, given)
        return values, macro_f1_total(values, given["labels"])
    sums = {
        "scaled_mse": lambda: scaled(outputs, targets, given, True),
        "scaled_mae": lambda: scaled(outputs, targets, given, False),
        "quantile_loss": lambda: quantile_loss(outputs, targets, given),
        "brier": lambda: brier(outputs, targets),
        "weighted_accuracy": lambda: weighted(outputs, targets, base.accuracy(outputs, targets[:, 0])),
        "weighted_cross_entropy": lambda: weighted(outputs, targets, base.cross_entropy(outputs, targets[:, 0])),
        "token_accuracy": lambda: token_accuracy(outputs, targets),
        "mean_iou": lambda: mean_iou(outputs, targets),
        "ndcg": lambda: ndcg(outputs, targets, given.get("k", 10)),
    }
    if name not in sums:
        return None
    values = sums[name]()
    return values, sum(values)
