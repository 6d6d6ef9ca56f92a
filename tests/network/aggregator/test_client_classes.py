"""A client's class comes from its last valid requests, lasts for a while, and is lost by one that does not validate."""

from __future__ import annotations

import pytest

from pot_lab.network.aggregator import client_classes as module
from pot_lab.network.aggregator.client_classes import KEPT_S, MUTE_S, ClientClass, ClientClasses


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_class_lasts_for_its_time_after_the_last_request_that_earned_it(clock: Clock) -> None:
    classes = ClientClasses(clock)
    assert classes.of("client") is ClientClass.NEW
    for _ in range(3):
        classes.admitted("client", ClientClass.FUNDED)
        clock.now_s += KEPT_S - 1
        assert classes.of("client") is ClientClass.FUNDED and classes.of("another") is ClientClass.NEW
    clock.now_s += 1
    assert classes.of("client") is ClientClass.NEW


def test_requests_of_unfunded_accounts_take_no_class_from_a_client_that_speaks_for_funded_ones_too(
    clock: Clock,
) -> None:
    classes = ClientClasses(clock)
    classes.admitted("client", ClientClass.FUNDED)
    clock.now_s += KEPT_S / 2
    classes.admitted("client", ClientClass.VALID)
    assert classes.of("client") is ClientClass.FUNDED
    clock.now_s += KEPT_S / 2
    assert classes.of("client") is ClientClass.NEW, "nor do they prolong it"
    classes.admitted("client", ClientClass.VALID)
    assert classes.of("client") is ClientClass.VALID
    classes.admitted("client", ClientClass.FUNDED)
    assert classes.of("client") is ClientClass.FUNDED


def test_a_false_request_takes_the_class_and_keeps_it_away_for_a_while(clock: Clock) -> None:
    classes = ClientClasses(clock)
    classes.admitted("client", ClientClass.FUNDED)
    classes.refused("client")
    for wait_s, expected in ((0.0, ClientClass.NEW), (MUTE_S - 1, ClientClass.NEW), (1.0, ClientClass.FUNDED)):
        clock.now_s += wait_s
        classes.admitted("client", ClientClass.FUNDED)
        assert classes.of("client") is expected


def test_so_many_clients_are_remembered_those_heard_of_last(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    classes = ClientClasses(clock)
    for number in range(100):
        classes.admitted("regular", ClientClass.FUNDED)
        classes.admitted(f"stranger {number}", ClientClass.VALID)
        classes.refused(f"liar {number}")
    assert classes.of("regular") is ClientClass.FUNDED and classes.of("stranger 99") is ClientClass.VALID
    assert classes.of("stranger 3") is ClientClass.NEW
    assert len(classes._earned) == len(classes._muted) == 10
