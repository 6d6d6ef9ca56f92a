"""How long answers take, so that a request whose answer is only slow is not resent (RFC 6298)."""

from __future__ import annotations

_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4


class RoundTrip:
    """The smoothed time from a request to its answer, and how long to wait before the request is resent.

    A resent request counts from its first sending: an aggregator knows it by its digest, so the repetition seldom
    brings the answer, and under load every request is resent until the estimate has grown.

    Args:
        least_s, most_s: bounds of the wait; until the first answer it is `least_s`.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._mean_s: float | None = None
        self._deviation_s = 0.0

    def took(self, seconds: float) -> None:
        """Update the estimate by one answer that took so many seconds."""
        if self._mean_s is None:
            self._mean_s, self._deviation_s = seconds, seconds / 2
            return
        self._deviation_s += _DEVIATION_GAIN * (abs(seconds - self._mean_s) - self._deviation_s)
        self._mean_s += _GAIN * (seconds - self._mean_s)

    @property
    def retry_s(self) -> float:
        """How long to wait for an answer before resending, in seconds."""
        if self._mean_s is None:
            return self._least_s
        return min(self._most_s, max(self._least_s, self._mean_s + _DEVIATIONS * self._deviation_s))
