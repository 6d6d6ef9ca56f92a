"""Streams are owed what they have credit for, end in silence, and those of a stranger shut nobody out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.network.aggregator import streams as module
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.aggregator.streams import Streams
from pot_lab.network.wire import Answer, Follow, Pushed
from pot_lab.network.zmtp.listener import Sender


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def sender(route: str = "r", key: str = "", site: str = "here") -> Sender:
    return Sender(key or route, site, route.encode())


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "history.sqlite", "flush")
    made.append([HistoryRow(sequence, sequence, (b"e",)) for sequence in range(1, 201)])
    yield made
    made.close()


def test_streams_are_owed_what_they_have_credit_for_and_end_in_silence() -> None:
    streams = Streams()
    assert streams.follow(sender(), Follow(1, 5, 3), 0)
    assert streams.owed(4, 0) == []
    assert [stream.next_sequence for stream in streams.owed(5, 0)] == [5]
    streams.follow(sender(), Follow(1, 6, 3), 10)
    assert len(streams.owed(9, 10)) == 1
    assert streams.owed(9, 10 + module.STREAM_TTL_MS + 1) == [] and len(streams) == 0


def test_a_stream_lives_as_long_as_it_is_renewed_in_time() -> None:
    streams = Streams()
    streams.follow(sender("old"), Follow(1, 1, 1), 500)
    streams.follow(sender(), Follow(1, 1, 1), 1_000)
    streams.follow(sender("old"), Follow(1, 1, 1), 1_001)
    assert len(streams.owed(1, 1_000 + module.STREAM_TTL_MS)) == 2
    streams.owed(1, 1_001 + module.STREAM_TTL_MS)
    assert len(streams) == 1
    streams.owed(1, 1_002 + module.STREAM_TTL_MS)
    assert len(streams) == 0 and streams.follow(sender(), Follow(1, 1, 1), 2_000)


def test_streams_of_one_connection_and_of_one_key_are_bounded_and_give_their_place_back() -> None:
    streams = Streams()
    opened = [streams.follow(sender(), Follow(number, 1, 1), 0) for number in range(20)]
    assert opened.count(True) == module.STREAMS_PER_CONNECTION
    streams.unfollow(b"r", 0)
    streams.unfollow(b"r", 0)
    assert streams.follow(sender(), Follow(99, 1, 1), 0)
    assert not streams.follow(sender(), Follow(100, 1, 1), 0)
    for number in range(200):
        streams.follow(sender(f"c{number}", "one key"), Follow(1, 1, 1), 0)
    assert len(streams) == module.STREAMS_PER_CONNECTION + module.STREAMS_PER_KEY


def test_4096_streams_of_a_stranger_shut_nobody_out_at_another_address() -> None:
    streams = Streams()
    for connection in range(256):
        for number in range(16):
            assert streams.follow(sender(f"c{connection}"), Follow(number, 1, 1), connection)
    assert len(streams) == module.STREAMS_IN_ALL
    assert not streams.follow(sender("more"), Follow(1, 1, 1), 300)
    for number in range(10):
        assert streams.follow(sender("honest", site="there"), Follow(number, 1, 1), 300)
    assert len(streams) == module.STREAMS_IN_ALL
    assert not streams.follow(sender("c0"), Follow(0, 1, 1), 300), "the one not renewed for longest made room"
    assert streams.follow(sender("c255"), Follow(0, 1, 1), 300)


def test_pushes_end_with_their_time_and_who_used_least_comes_first(history: History) -> None:
    streams, clock, sent = Streams(), Clock(), []

    def send(route: bytes, answer: Answer) -> bool:
        clock.now_s += 0.001
        sent.append(route)
        return True

    def push() -> list[bytes]:
        streams.push(history, 0, send, budget_s=0.1, clock=clock)
        pushed = list(sent)
        sent.clear()
        return pushed

    for number in range(16):
        streams.follow(sender("stranger"), Follow(number, 1, 200), 0)
    assert push() == [b"stranger"] * 128 and streams.busy
    streams.follow(sender("honest", site="there"), Follow(1, 1, 200), 0)
    assert push()[: module.PUSHES_A_TURN] == [b"honest"] * module.PUSHES_A_TURN
    while streams.busy:
        push()
    assert [each for each in streams._streams.values() if each.next_sequence != 201] == []
    assert push() == []


def test_a_stream_gets_each_batch_once_and_no_more_than_its_credit(history: History) -> None:
    streams, clock, got = Streams(), Clock(), []

    def send(route: bytes, answer: Answer) -> bool:
        assert isinstance(answer, Pushed)
        got.append(answer.sequence)
        return len(got) % 2 == 0

    streams.follow(sender(), Follow(1, 100, 90), 0)
    unsent = streams.push(history, 0, send, budget_s=0, clock=clock)
    assert (unsent, streams.busy) == (32, True)
    streams.push(history, 0, send, budget_s=0, clock=clock)
    assert got == list(range(100, 190)) and not streams.busy
    assert streams.push(history, 0, send, budget_s=0, clock=clock) == 0 and len(got) == 90
