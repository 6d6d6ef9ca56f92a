"""The paper's Table 4, and its scenarios."""

from __future__ import annotations

SCENARIOS: tuple[tuple[int, int], ...] = ((1, 10), (1, 50), (1, 100), (10, 50), (10, 100))
"""(orders, validations) of each row."""
SIZES = (10, 30, 100)
"""Aggregators of each column."""
PAPER_S: dict[tuple[int, int], tuple[float, float, float]] = {
    (1, 10): (0.0387, 0.132, 0.463),
    (1, 50): (0.0374, 0.106, 0.418),
    (1, 100): (0.0466, 0.149, 0.373),
    (10, 50): (0.0452, 0.113, 0.407),
    (10, 100): (0.0338, 0.125, 0.392),
}
"""Seconds as printed, on 20 cores of an i7-12700T; one process, no client signatures, nothing on disk."""
PAPER_PROGRAM_S = {10: 0.039, 30: 0.279, 100: 2.31}
"""What the paper's program takes on 2 cores like those of benchmarks.md, when they are fast."""
