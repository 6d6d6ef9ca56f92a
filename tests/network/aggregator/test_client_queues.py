"""Clients are served in turn, and nothing that they can fill has no end."""

from __future__ import annotations

from pot_lab.network.aggregator import client_queues as desk
from pot_lab.network.aggregator.client_queues import FairQueue, Streams, Waiting
from pot_lab.network.wire import Follow


def test_a_flooding_client_waits_for_its_turn_like_everyone() -> None:
    queue = FairQueue()
    for number in range(1_000):
        queue.put("flood", b"r1", b"%d" % number)
    queue.put("quiet", b"r2", b"mine")
    assert len(queue) == desk.QUEUED_PER_CLIENT + 1
    assert [queue.take() for _ in range(2)] == [(b"r1", b"0"), (b"r2", b"mine")]
    assert queue.counters["client_frames_dropped"] == 1_000 - desk.QUEUED_PER_CLIENT


def test_the_queue_of_all_clients_is_bounded() -> None:
    queue = FairQueue()
    for client in range(100):
        for _ in range(desk.QUEUED_PER_CLIENT):
            queue.put(str(client), b"r", b"x")
    assert len(queue) == desk.QUEUED_IN_ALL


def test_all_who_asked_hear_the_reply_once() -> None:
    waiting = Waiting()
    waiting.add(b"d", b"r1", 0)
    waiting.add(b"d", b"r2", 1)
    waiting.add(b"d", b"r1", 2)
    assert waiting.pop(b"d") == [b"r1", b"r2"]
    assert waiting.pop(b"d") == []


def test_who_waits_too_long_or_too_many_is_forgotten() -> None:
    waiting = Waiting()
    for number in range(desk.WAITING_IN_ALL + 10):
        waiting.add(b"%d" % number, b"r", 0)
    assert len(waiting) == desk.WAITING_IN_ALL
    waiting.add(b"new", b"r", desk.WAITING_TTL_MS + 1)
    assert len(waiting) == 1


def test_streams_are_owed_what_they_have_credit_for_and_end_in_silence() -> None:
    streams = Streams()
    assert streams.follow(b"r", Follow(1, 5, 3), 0)
    assert streams.owed(4, 0) == []
    assert [stream.next_sequence for stream in streams.owed(5, 0)] == [5]
    streams.owed(5, 0)[0].credit = 0
    assert streams.owed(5, 0) == []
    streams.follow(b"r", Follow(1, 6, 3), 10)
    assert len(streams.owed(9, 10)) == 1
    assert streams.owed(9, 10 + desk.STREAM_TTL_MS + 1) == [] and len(streams) == 0


def test_streams_of_one_connection_are_bounded_and_give_their_place_back() -> None:
    streams = Streams()
    opened = [streams.follow(b"r", Follow(number, 1, 1), 0) for number in range(20)]
    assert opened.count(True) == desk.STREAMS_PER_CONNECTION
    streams.unfollow(b"r", 0)
    streams.unfollow(b"r", 0)
    assert streams.follow(b"r", Follow(99, 1, 1), 0)
    assert not streams.follow(b"r", Follow(100, 1, 1), 0)
