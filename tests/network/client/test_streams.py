"""Batches are delivered in order, once each, when f+1 aggregators pushed the same; credit and gaps are renewed."""

from __future__ import annotations

import pytest

from pot_lab.network.client.calls import Vouched
from pot_lab.network.client.streams import EventStreams, Subscription
from pot_lab.network.wire import Follow, Pushed, Unfollow
from tests.network.client.parts import KeptLinks, TurnedLoop

N, CREDIT, AHEAD = 4, 64, 256
Row = tuple[int, int, tuple[bytes, ...]]


class Client:
    def __init__(self) -> None:
        self.loop, self.links, self.vouched = TurnedLoop(), KeptLinks(N), Vouched(N)
        self.streams = EventStreams(self.loop, self.links, self.vouched)
        self.rows: list[Row] = []

    def subscribe(self, first: int = 1, stream: int = 1) -> Subscription:
        subscription = Subscription(stream, lambda *row: self.rows.append(row), first, self.streams.end)
        self.streams.begin(subscription)
        return subscription

    def push(self, index: int, sequence: int, events: tuple[bytes, ...] = (b"e",), stream: int = 1) -> None:
        pushed = Pushed(stream=stream, sequence=sequence, time_ms=10 * sequence, events=events)
        self.streams.on_pushed(self.links[index], pushed)


def row(sequence: int) -> Row:
    return sequence, 10 * sequence, (b"e",)


def test_a_batch_is_delivered_once_two_pushed_the_same() -> None:
    client = Client()
    client.subscribe(5)
    assert client.links.sent() == [[Follow(1, 5, CREDIT)]] * N
    client.push(0, 5)
    client.push(0, 5)
    client.push(1, 5, (b"false",))
    assert client.rows == []
    client.push(2, 5)
    client.push(3, 5)
    assert client.rows == [row(5)] and client.vouched.known == 5


def test_batches_are_delivered_in_order_whoever_is_ahead() -> None:
    client = Client()
    client.subscribe()
    for sequence in (1, 2, 3):
        client.push(0, sequence)
    assert client.rows == []
    for sequence in (1, 2, 3):
        client.push(1, sequence)
    for sequence in (1, 2, 3):
        client.push(2, sequence)
    assert client.rows == [row(1), row(2), row(3)]


def test_a_gap_is_not_counted_and_the_next_renewal_asks_for_it() -> None:
    client = Client()
    client.subscribe()
    client.links.sent()
    client.push(0, 1)
    client.push(0, 3)
    client.streams.start()
    client.loop.pass_time(1.99)
    assert not any(client.links.sent())
    client.loop.pass_time(0.02)
    assert client.links.sent() == [[Follow(1, 2, CREDIT)], *[[Follow(1, 1, CREDIT)]] * 3]
    client.loop.pass_time(2.0)
    assert all(client.links.sent())


def test_credit_is_renewed_when_half_of_it_is_used() -> None:
    client = Client()
    client.subscribe()
    client.links.sent()
    for sequence in range(1, CREDIT // 2):
        client.push(0, sequence)
        client.push(1, sequence)
    assert not any(client.links.sent())
    client.push(0, CREDIT // 2)
    client.push(1, CREDIT // 2)
    follow = [Follow(1, CREDIT // 2 + 1, CREDIT)]
    assert client.links.sent() == [follow, follow, [], []]


def test_an_aggregator_far_ahead_gets_no_more_credit() -> None:
    client = Client()
    client.subscribe()
    client.links.sent()
    for sequence in range(1, AHEAD + CREDIT):
        client.push(0, sequence)
    asked = [question.next_sequence for question in client.links.sent()[0] if isinstance(question, Follow)]
    assert asked == list(range(1 + CREDIT // 2, 1 + AHEAD, CREDIT // 2))


def test_a_new_connection_follows_from_what_is_wanted_next() -> None:
    client = Client()
    client.subscribe()
    for index in (0, 1):
        client.push(index, 1)
    client.push(2, 1)
    client.links.sent()
    client.streams.on_ready(client.links[3])
    assert client.links.sent() == [[], [], [], [Follow(1, 2, CREDIT)]]
    client.push(3, 2)
    client.push(0, 2)
    assert client.rows == [row(1), row(2)]


def test_another_set_starts_from_nothing() -> None:
    client = Client()
    subscription = client.subscribe()
    client.push(0, 1)
    client.streams.change_set()
    client.push(1, 1)
    assert client.rows == []
    client.push(0, 1)
    assert client.rows == [row(1)] and subscription.expected == {0: 2, 1: 2, 2: 1, 3: 1}


def test_a_closed_subscription_gets_nothing_more_and_ends_at_the_aggregators() -> None:
    client = Client()
    subscription = client.subscribe()
    client.push(0, 1)
    client.links.sent()
    subscription.close()
    assert client.links.sent() == [[Unfollow(1)]] * N
    client.push(1, 1)
    assert client.rows == []
    subscription.close()
    assert not any(client.links.sent())


def test_a_callback_that_closes_its_subscription_is_called_no_more() -> None:
    client = Client()
    rows: list[int] = []

    def once(sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        rows.append(sequence)
        subscription.close()

    subscription = Subscription(1, once, 1, client.streams.end)
    client.streams.begin(subscription)
    client.push(0, 1)
    client.push(0, 2)
    client.push(1, 1)
    client.push(1, 2)
    assert rows == [1]


def test_a_callback_that_fails_is_logged_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    rows: list[int] = []

    def fails(sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        rows.append(sequence)
        raise RuntimeError("the user's own fault")

    client.streams.begin(Subscription(1, fails, 1, client.streams.end))
    for index in (0, 1):
        for sequence in (1, 2):
            client.push(index, sequence)
    assert rows == [1, 2] and "failed at batch 1" in caplog.text


def test_pushes_of_unknown_streams_and_after_clear_are_dropped() -> None:
    client = Client()
    client.subscribe()
    client.push(0, 1, stream=2)
    client.push(1, 1, stream=2)
    client.streams.clear()
    client.push(0, 1)
    client.push(1, 1)
    assert client.rows == []


def test_without_connections_nothing_is_renewed_any_more() -> None:
    client = Client()
    client.subscribe()
    client.links.sent()
    client.streams.start()
    links, client.links.links = client.links.links, []
    client.loop.pass_time(2.0)
    client.links.links = links
    client.loop.pass_time(60.0)
    assert not any(client.links.sent())
