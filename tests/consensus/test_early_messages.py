"""Early messages are kept within bounds, each sender's for each reason apart, and come back in their order."""

from __future__ import annotations

import pytest

from pot_lab.consensus.early_messages import EarlyMessages
from pot_lab.consensus.messages import Commit


def vote(sequence: int, replica: int = 1) -> Commit:
    return Commit(0, sequence, bytes(32), 0, bytes(32), replica, bytes(65))


def sequences(taken: list) -> list[tuple[int, int]]:
    return [(sender, message.sequence) for sender, message in taken]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_as_many_are_kept_as_the_limit_says_and_then_the_oldest_goes(limit: int) -> None:
    early = EarlyMessages(limit)
    assert all(early.put("later view", 1, vote(number)) for number in range(limit))
    assert len(early) == limit
    assert not early.put("later view", 1, vote(limit))
    assert len(early) == limit
    assert sequences(early.take("later view", lambda message: True)) == [(1, number) for number in range(1, limit + 1)]


def test_one_sender_and_one_reason_take_no_room_of_another() -> None:
    early = EarlyMessages(2)
    for number in range(10):
        early.put("later view", 1, vote(number))
    assert early.put("beyond", 1, vote(20)) and early.put("later view", 2, vote(30))
    assert len(early) == 4
    assert sequences(early.take("beyond", lambda message: True)) == [(1, 20)]
    assert sequences(early.take("later view", lambda message: True)) == [(1, 8), (1, 9), (2, 30)]
    assert len(early) == 0


def test_what_is_not_ready_stays_in_its_order() -> None:
    early = EarlyMessages(10)
    for number in (5, 1, 4, 2, 3):
        early.put("beyond", 1, vote(number))
    assert sequences(early.take("beyond", lambda message: message.sequence <= 3)) == [(1, 1), (1, 2), (1, 3)]
    assert len(early) == 2
    assert sequences(early.take("beyond", lambda message: True)) == [(1, 5), (1, 4)]
    assert early.take("beyond", lambda message: True) == []


def test_nothing_is_taken_twice_and_nothing_for_another_reason() -> None:
    early = EarlyMessages(3)
    early.put("beyond", 1, vote(1))
    assert early.take("later view", lambda message: True) == []
    assert sequences(early.take("beyond", lambda message: True)) == [(1, 1)]
    assert early.take("beyond", lambda message: True) == []
