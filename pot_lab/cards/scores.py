"""Scores in the user's words: what a total over a count of examples means for each score function."""

from __future__ import annotations

import math
from fractions import Fraction

from pot_lab.protocol.records import MICRO, ScoreSpec

SHARES = ("accuracy", "top_k_accuracy")
NATS = ("cross_entropy", "next_token_loss", "perplexity")
DISTANCES = ("mse", "mae")
USUAL_DECIMALS = 6


def base_name(full_name: str) -> str:
    """A score function's name without its parameters and version."""
    return full_name.partition("[")[0].partition("/")[0]


def decimals_of(full_name: str) -> int:
    """The parameter `decimals` of mse and mae, by a full name such as `mse[decimals=3]`."""
    for item in full_name.partition("[")[2].partition("]")[0].split(","):
        name, _, value = item.partition("=")
        if name == "decimals":
            return int(value)
    return USUAL_DECIMALS


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
    if name == "macro_f1":
        return f"{float(100 * each / MICRO):.4g} % ({exact})"
    if name == "perplexity":
        return f"perplexity {math.exp(each / MICRO):.4g} ({exact})"
    if name in NATS:
        return f"{float(each / MICRO):.4g} nats ({exact})"
    if name in DISTANCES:
        return f"{float(each / 10 ** decimals_of(spec.name)):.4g} ({exact})"
    return exact
