"""Virtual time goes forward, in the order of what was entered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.virtual_time import SECOND_US, START_MS, EventQueue


@given(st.lists(st.integers(0, 50)))
def test_actions_happen_by_time_and_then_by_entry(times_us: list[int]) -> None:
    queue, seen = EventQueue(), []
    for number, at_us in enumerate(times_us):
        queue.at(at_us, lambda at_us=at_us, number=number: seen.append((at_us, number)))
    queue.run(1_000)
    assert seen == sorted((at_us, number) for number, at_us in enumerate(times_us))
    assert queue.now_us == 1_000 and queue.events == len(times_us)


def test_what_is_entered_for_the_past_happens_now() -> None:
    queue, seen = EventQueue(), []
    queue.run(500)
    queue.at(100, lambda: seen.append(queue.now_us))
    assert queue.step() and not queue.step()
    assert seen == [500]


@given(st.integers(-10_000, 10_000), st.integers(-500, 500), st.integers(0, 1_000 * SECOND_US), st.integers(1, 100_000))
def test_a_clock_says_when_it_will_show_a_time(skew_ms: int, drift_ppm: int, now_us: int, ahead_ms: int) -> None:
    queue = EventQueue()
    queue.run(now_us)
    clock = Clock(queue, skew_ms, drift_ppm)
    wanted_ms = clock.now_ms + ahead_ms
    at_us = clock.when_us(wanted_ms)
    queue.run(at_us)
    assert wanted_ms <= clock.now_ms <= wanted_ms + 2


def test_a_clock_drifts_and_can_be_set() -> None:
    queue = EventQueue()
    clock = Clock(queue, 0, 100)
    queue.run(1_000 * SECOND_US)
    assert clock.now_ms == START_MS + 1_000_000 + 100
    clock.move(-5_000)
    assert clock.now_ms == START_MS + 1_000_000 + 100 - 5_000
