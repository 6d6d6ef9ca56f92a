"""Clients are served in turn, and nothing that they can fill has no end."""

from __future__ import annotations

import pytest

from pot_lab.network.aggregator import client_queues as queues
from pot_lab.network.aggregator.client_queues import FairQueue, Streams, Waiting
from pot_lab.network.wire import AskStatus, Follow


def test_a_flooding_client_waits_for_its_turn_like_everyone() -> None:
    queue = FairQueue()
    for number in range(1_000):
        queue.put("flood", b"r1", b"%d" % number)
    queue.put("quiet", b"r2", b"mine")
    assert len(queue) == queues.QUEUED_PER_CLIENT + 1
    assert [queue.take() for _ in range(2)] == [(b"r1", b"0"), (b"r2", b"mine")]
    assert queue.counters["client_frames_dropped"] == 1_000 - queues.QUEUED_PER_CLIENT


def test_the_queue_of_all_clients_is_bounded() -> None:
    queue = FairQueue()
    for client in range(100):
        for _ in range(queues.QUEUED_PER_CLIENT):
            queue.put(str(client), b"r", b"x")
    assert len(queue) == queues.QUEUED_IN_ALL


def test_all_who_asked_hear_the_reply_once() -> None:
    waiting = Waiting()
    waiting.add(b"d", b"r1", 0)
    waiting.add(b"d", b"r2", 1)
    waiting.add(b"d", b"r1", 2)
    assert waiting.pop(b"d") == [b"r1", b"r2"]
    assert waiting.pop(b"d") == []


def test_who_waits_too_long_or_too_many_is_forgotten() -> None:
    waiting = Waiting()
    for number in range(queues.WAITING_IN_ALL + 10):
        waiting.add(b"%d" % number, b"r", 0)
    assert len(waiting) == queues.WAITING_IN_ALL
    waiting.add(b"new", b"r", queues.WAITING_TTL_MS + 1)
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
    assert streams.owed(9, 10 + queues.STREAM_TTL_MS + 1) == [] and len(streams) == 0


def test_streams_of_one_connection_are_bounded_and_give_their_place_back() -> None:
    streams = Streams()
    opened = [streams.follow(b"r", Follow(number, 1, 1), 0) for number in range(20)]
    assert opened.count(True) == queues.STREAMS_PER_CONNECTION
    streams.unfollow(b"r", 0)
    streams.unfollow(b"r", 0)
    assert streams.follow(b"r", Follow(99, 1, 1), 0)
    assert not streams.follow(b"r", Follow(100, 1, 1), 0)


def test_a_client_may_queue_again_once_its_questions_were_taken() -> None:
    queue = FairQueue()
    for number in range(queues.QUEUED_PER_CLIENT):
        queue.put("a", b"r", AskStatus(number))
    queue.put("a", b"r", AskStatus(999_999))
    queue.take()
    queue.put("a", b"r", AskStatus(7))
    taken = [queue.take()[1] for _ in range(len(queue))]
    assert taken[0] == AskStatus(1) and taken[-1] == AskStatus(7) and AskStatus(999_999) not in taken
    assert queue.counters["client_frames_dropped"] == 1 and len(queue) == 0


def test_clients_are_served_one_question_each_in_turn() -> None:
    queue = FairQueue()
    for client in ("a", "b", "c"):
        for number in range(2):
            queue.put(client, client.encode(), AskStatus(number))
    assert [queue.take()[0] for _ in range(6)] == [b"a", b"b", b"c", b"a", b"b", b"c"]


def test_one_more_than_all_may_queue_is_dropped_whoever_asks() -> None:
    queue = FairQueue()
    clients = queues.QUEUED_IN_ALL // queues.QUEUED_PER_CLIENT
    for client in range(clients):
        for _ in range(queues.QUEUED_PER_CLIENT):
            queue.put(str(client), b"r", AskStatus(0))
    assert len(queue) == queues.QUEUED_IN_ALL and queue.counters["client_frames_dropped"] == 0
    queue.put("late", b"r", AskStatus(0))
    assert len(queue) == queues.QUEUED_IN_ALL and queue.counters["client_frames_dropped"] == 1


def test_connections_that_wait_for_one_request_are_bounded() -> None:
    waiting = Waiting()
    routes = [b"%d" % number for number in range(queues.STREAMS_PER_CONNECTION + 1)]
    for route in routes:
        waiting.add(b"d", route, 0)
    assert waiting.pop(b"d") == routes[:-1]


def test_a_request_waits_until_its_time_is_over_and_not_longer() -> None:
    waiting = Waiting()
    waiting.add(b"old", b"r", 1_000)
    waiting.add(b"new", b"r", 1_000 + queues.WAITING_TTL_MS)
    assert len(waiting) == 2
    waiting.add(b"newest", b"r", 1_001 + queues.WAITING_TTL_MS)
    assert len(waiting) == 2 and waiting.pop(b"old") == [] and waiting.pop(b"new") == [b"r"]


def test_exactly_so_many_requests_wait_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "WAITING_IN_ALL", 3)
    waiting = Waiting()
    for number in range(3):
        waiting.add(b"%d" % number, b"r", number)
    assert len(waiting) == 3
    waiting.add(b"3", b"r", 3)
    assert [bool(waiting.pop(b"%d" % number)) for number in range(4)] == [False, True, True, True]


def test_streams_are_bounded_in_all_and_a_renewal_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "STREAMS_IN_ALL", 2)
    streams = Streams()
    assert streams.follow(b"a", Follow(1, 1, 1), 0) and streams.follow(b"b", Follow(1, 1, 1), 0)
    assert not streams.follow(b"c", Follow(1, 1, 1), 0)
    assert streams.follow(b"a", Follow(1, 0, 5), 9) and len(streams) == 2
    [first, second] = streams.owed(1, 9)
    assert (first.route, first.next_sequence, first.credit, first.renewed_ms) == (b"a", 1, 5, 9)
    assert (second.route, second.stream) == (b"b", 1)
    streams.unfollow(b"b", 2)
    assert len(streams) == 2
    streams.unfollow(b"b", 1)
    assert streams.follow(b"c", Follow(1, 1, 1), 0)


def test_a_stream_lives_as_long_as_it_is_renewed_in_time() -> None:
    streams = Streams()
    streams.follow(b"r", Follow(1, 1, 1), 1_000)
    assert len(streams.owed(1, 1_000 + queues.STREAM_TTL_MS)) == 1
    assert streams.owed(1, 1_001 + queues.STREAM_TTL_MS) == [] and len(streams) == 0
    assert streams.follow(b"r", Follow(1, 1, 1), 2_000)
