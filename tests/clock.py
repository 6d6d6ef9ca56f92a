"""A clock that tests set."""

from __future__ import annotations


class Clock:
    """Seconds that stand still until a test moves them.

    Args:
        now_s: what it shows first.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s
