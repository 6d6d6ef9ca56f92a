"""When duties are polled, and that a fault of one does not stop the ordering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pot_lab.network.duties.duty import ClosingDuty, Duty
from pot_lab.network.logs import EventLog

_POLL_EVERY_MS = 100


class DutySchedule:
    """The duties of one aggregator, polled after every batch, when somebody wakes the loop, and every 100 ms.

    Args:
        duties: in the order in which they are polled.
        counters: counts `duty_requests` and `duty_errors`.
        events: where a duty's exception is logged.
    """

    def __init__(self, duties: Sequence[Duty], counters: Counter[str], events: EventLog) -> None:
        self._duties, self._counters, self._events = tuple(duties), counters, events
        self._due_at_ms = 0

    @property
    def due_at_ms(self) -> int | None:
        """When duties are polled next; None where there are none."""
        return self._due_at_ms if self._duties else None

    def poll(self, now_ms: int, *, woken: bool) -> list[bytes]:
        """The requests that the duties want to submit now; polls them if that is due, or if `woken`."""
        if not woken and now_ms < self._due_at_ms:
            return []
        self._due_at_ms = now_ms + _POLL_EVERY_MS
        requests: list[bytes] = []
        for duty in self._duties:
            try:
                requests += duty.poll(now_ms)
            except Exception:  # a duty's fault must not take the ordering down with it
                self._failed(duty)
        self._counters["duty_requests"] += len(requests)
        return requests

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Tell the duties of an executed batch; they are polled in the next turn."""
        self._due_at_ms = 0
        for duty in self._duties:
            try:
                duty.on_batch(sequence, time_ms, events)
            except Exception:  # a duty's fault must not take the ordering down with it
                self._failed(duty)

    def close(self) -> None:
        """End what the duties hold: helper processes, threads."""
        for duty in self._duties:
            if isinstance(duty, ClosingDuty):
                try:
                    duty.close()
                except Exception:  # the others' processes must end too
                    self._failed(duty)

    def _failed(self, duty: Duty) -> None:
        self._counters["duty_errors"] += 1
        self._events.exception("duty_failed", duty=type(duty).__name__)
