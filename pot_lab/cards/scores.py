"""Scores in the user's words: what a total over a count of examples means for each score function."""

from __future__ import annotations

import math
from fractions import Fraction

from pot_lab.protocol.records import MICRO, ScoreSpec

SHARES = ("accuracy", "top_k_accuracy")
NATS = ("cross_entropy", "next_token_loss", "perplexity")
SCALED = ("scaled_mse", "scaled_mae")
DISTANCES = ("mse", "mae", *SCALED, "quantile_loss")
LABELS = ("multilabel_micro_f1", "multilabel_macro_f1")
WEIGHTED = ("weighted_accuracy", "weighted_cross_entropy")
MILLIONTHS = ("macro_f1", "token_accuracy", "mean_iou", "auc", "ndcg", *LABELS)
"""Whose best is 10^6 for an example."""
USUAL_DECIMALS = 6


def base_name(full_name: str) -> str:
    """A score function's name without its parameters and version."""
    return full_name.partition("[")[0].partition("/")[0]


def decimals_of(full_name: str) -> int:
    """The parameter `decimals` of a distance, by a full name such as `mse[decimals=3]`."""
    return parameter_of(full_name, "decimals", USUAL_DECIMALS)


def parameter_of(full_name: str, name: str, usual: int) -> int:
    """A parameter of a full name such as `top_k_accuracy[k=3]`."""
    for item in full_name.partition("[")[2].partition("]")[0].split(","):
        key, _, value = item.partition("=")
        if key == name:
            return int(value)
    return usual


def score_text(spec: ScoreSpec, total: int, count: int) -> str:
    """A score as people read it, with the exact numbers: `95 of 100`, `0.412 nats (total 412000, count 1)`.

    Args:
        spec: the score function.
        total, count: the exact score; `count` is positive.
    """
    each, name = Fraction(total, count), base_name(spec.name)
    if name in SHARES:
        return f"{total} of {count}"
    exact = f"total {total}, count {count}"
    if name in MILLIONTHS:
        return f"{float(100 * each / MICRO):.4g} % ({exact})"
    if name == "perplexity":
        return f"perplexity {math.exp(each / MICRO):.4g} ({exact})"
    if name in NATS:
        return f"{float(each / MICRO):.4g} nats ({exact})"
    if name == "scaled_mse":
        return f"R2 {float(1 - each / MICRO):.4g} ({exact})"
    if name == "scaled_mae":
        return f"{float(each / MICRO):.4g} of the targets' mean distance ({exact})"
    if name == "brier":
        return f"Brier {float(each / MICRO):.4g} ({exact})"
    if name == "weighted_cross_entropy":
        return f"{float(each / MICRO):.4g} nats times weight ({exact})"
    if name == "weighted_accuracy":
        return f"weight {float(each):.4g} ({exact})"
    if name in DISTANCES:
        return f"{float(each / 10 ** decimals_of(spec.name)):.4g} ({exact})"
    return exact
