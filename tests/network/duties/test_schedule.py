"""Duties are polled when it is time or the loop was woken, and a fault of one stops neither the others nor the loop."""

from __future__ import annotations

from collections import Counter

import pytest

from pot_lab.network.duties.schedule import DutySchedule
from pot_lab.network.logs import EventLog


class Recorder:
    def __init__(self, *requests: bytes, fails: bool = False) -> None:
        self.requests, self.fails = list(requests), fails
        self.polled: list[int] = []
        self.batches: list[int] = []

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        self.batches.append(sequence)
        if self.fails:
            raise RuntimeError("batch")

    def poll(self, now_ms: int) -> list[bytes]:
        self.polled.append(now_ms)
        if self.fails:
            raise RuntimeError("poll")
        return self.requests


def schedule(*duties: Recorder) -> tuple[DutySchedule, Counter[str]]:
    counters: Counter[str] = Counter()
    return DutySchedule(duties, counters, EventLog("test.duties")), counters


def test_duties_are_polled_every_tenth_of_a_second_after_a_batch_and_when_woken() -> None:
    duty = Recorder(b"a", b"b")
    plan, counters = schedule(duty)
    assert plan.due_at_ms == 0
    assert plan.poll(1_000, woken=False) == [b"a", b"b"]
    assert plan.due_at_ms == 1_100
    assert plan.poll(1_099, woken=False) == []
    assert plan.poll(1_100, woken=False) == [b"a", b"b"]
    assert plan.poll(1_101, woken=True) == [b"a", b"b"]
    plan.on_batch(7, 1_101, ())
    assert plan.due_at_ms == 0 and plan.poll(1_102, woken=False) == [b"a", b"b"]
    assert duty.polled == [1_000, 1_100, 1_101, 1_102] and duty.batches == [7]
    assert counters == {"duty_requests": 8}


def test_without_duties_no_turn_is_needed_for_them() -> None:
    assert schedule()[0].due_at_ms is None


def test_a_duty_that_fails_is_counted_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = Recorder(fails=True), Recorder(b"a")
    plan, counters = schedule(bad, good)
    assert plan.poll(0, woken=True) == [b"a"]
    plan.on_batch(1, 1, ())
    assert good.batches == [1] and counters == {"duty_errors": 2, "duty_requests": 1}
    assert "duty_failed duty=Recorder" in caplog.text


class Closing(Recorder):
    def __init__(self, *, fails: bool = False) -> None:
        super().__init__(fails=fails)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        if self.fails:
            raise RuntimeError("close")


def test_duties_that_hold_something_are_closed_also_after_one_that_fails() -> None:
    bad, plain, good = Closing(fails=True), Recorder(), Closing()
    plan, counters = schedule(bad, plain, good)
    plan.close()
    assert (bad.closed, good.closed) == (1, 1) and counters == {"duty_errors": 1}
