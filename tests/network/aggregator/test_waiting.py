"""Who waits for a reply gets it once, and nothing that clients can fill has no end."""

from __future__ import annotations

import pytest

from pot_lab.network.aggregator import waiting as module
from pot_lab.network.aggregator.waiting import Waiting


def test_all_who_asked_get_the_reply_once() -> None:
    waiting = Waiting()
    waiting.add(b"d", b"r1", 0)
    waiting.add(b"d", b"r2", 1)
    waiting.add(b"d", b"r1", 2)
    assert waiting.pop(b"d") == [b"r1", b"r2"]
    assert waiting.pop(b"d") == []


def test_who_waits_too_long_or_too_many_is_forgotten() -> None:
    waiting = Waiting()
    for number in range(module.WAITING_IN_ALL + 10):
        waiting.add(b"%d" % number, b"r", 0)
    assert len(waiting) == module.WAITING_IN_ALL
    waiting.add(b"new", b"r", module.WAITING_TTL_MS + 1)
    assert len(waiting) == 1


def test_connections_that_wait_for_one_request_are_bounded() -> None:
    waiting = Waiting()
    routes = [b"%d" % number for number in range(module.ROUTES_PER_REQUEST + 1)]
    for route in routes:
        waiting.add(b"d", route, 0)
    assert waiting.pop(b"d") == routes[:-1]


def test_a_request_waits_until_its_time_is_over_and_not_longer() -> None:
    waiting = Waiting()
    waiting.add(b"old", b"r", 1_000)
    waiting.add(b"new", b"r", 1_000 + module.WAITING_TTL_MS)
    assert len(waiting) == 2
    waiting.add(b"newest", b"r", 1_001 + module.WAITING_TTL_MS)
    assert len(waiting) == 2 and waiting.pop(b"old") == [] and waiting.pop(b"new") == [b"r"]


def test_exactly_so_many_requests_wait_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_IN_ALL", 3)
    waiting = Waiting()
    for number in range(3):
        waiting.add(b"%d" % number, b"r", number)
    assert len(waiting) == 3
    waiting.add(b"3", b"r", 3)
    assert [bool(waiting.pop(b"%d" % number)) for number in range(4)] == [False, True, True, True]
