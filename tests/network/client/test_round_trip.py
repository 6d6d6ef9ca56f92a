"""How long a client waits before it resends a request."""

from __future__ import annotations

import pytest

from pot_lab.network.client.round_trip import RoundTrip


def test_before_the_first_answer_and_on_a_quick_network_the_wait_is_the_least() -> None:
    trip = RoundTrip(0.5, 4.0)
    assert trip.retry_s == 0.5
    for _ in range(20):
        trip.took(0.01)
    assert trip.retry_s == 0.5


def test_on_a_slow_network_it_is_longer_than_answers_take_and_shrinks_as_they_become_steady() -> None:
    trip = RoundTrip(0.5, 60.0)
    trip.took(2.0)
    first_s = trip.retry_s
    assert first_s == pytest.approx(6.0)  # RFC 6298, 2.2: R + 4 * R / 2
    for _ in range(40):
        trip.took(2.0)
    assert 2.0 < trip.retry_s < 2.1


def test_it_follows_when_answers_become_slow_and_ends_at_the_most() -> None:
    trip = RoundTrip(0.5, 4.0)
    for _ in range(20):
        trip.took(0.2)
    waits_s = []
    for _ in range(30):
        trip.took(3.0)
        waits_s.append(trip.retry_s)
    assert waits_s[0] > 0.5 and max(waits_s) == 4.0 and all(wait_s <= 4.0 for wait_s in waits_s)
    for _ in range(200):
        trip.took(0.01)
    assert trip.retry_s == 0.5
