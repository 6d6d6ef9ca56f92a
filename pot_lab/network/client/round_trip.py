"""How long answers take, so that what is only slow is not said twice (RFC 6298)."""

from __future__ import annotations

_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4


class RoundTrip:
    """The smoothed time from a request to its answer, and how long to wait before the request is said again.

    A repeated request counts from its first saying: an aggregator knows it by its digest, so the repetition seldom
    brings the answer, and under load every request is repeated until this has learned better.

    Args:
        least_s, most_s: bounds of the wait; until the first answer it is `least_s`.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._mean_s: float | None = None
        self._deviation_s = 0.0

    def took(self, seconds: float) -> None:
        """Learn from one answer."""
        if self._mean_s is None:
            self._mean_s, self._deviation_s = seconds, seconds / 2
            return
        self._deviation_s += _DEVIATION_GAIN * (abs(seconds - self._mean_s) - self._deviation_s)
        self._mean_s += _GAIN * (seconds - self._mean_s)

    @property
    def retry_s(self) -> float:
        """How long to wait for an answer before asking again."""
        if self._mean_s is None:
            return self._least_s
        return min(self._most_s, max(self._least_s, self._mean_s + _DEVIATIONS * self._deviation_s))
