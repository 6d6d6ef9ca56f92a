"""The feed asks the ledger for what changed and for nothing else, and never stays behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pot_lab.jobs.order_feed import REFRESH_S, SETTLE_S, OrderFeed
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.state import Event
from tests.jobs.in_process import InProcessClient, Market
from tests.protocol.scenes import PROVIDERS


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def client(market: Market) -> InProcessClient:
    return InProcessClient(market, PROVIDERS[0])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(client: InProcessClient, clock: Clock) -> OrderFeed:
    feed = OrderFeed(client, clock, windows=tuple(Window))
    feed.follow()
    return feed


def read_all(feed: OrderFeed, *orders: bytes) -> None:
    feed.refresh()
    for order_id in orders:
        feed.view(order_id)
    feed.summaries()
    feed.open_orders(20)


def settled(feed: OrderFeed, clock: Clock, *orders: bytes) -> None:
    """Everything read, and the time after the last event over."""
    read_all(feed, *orders)
    clock.now_s += SETTLE_S
    read_all(feed, *orders)


def test_nothing_is_read_twice_while_nothing_changes(
    feed: OrderFeed, client: InProcessClient, clock: Clock, place: Callable[..., bytes]
) -> None:
    orders = place(), place()
    settled(feed, clock, *orders)
    client.read.clear()
    for _ in range(3):
        read_all(feed, *orders)
    assert client.read == []


def test_only_the_order_that_changed_is_read_again(
    feed: OrderFeed, client: InProcessClient, market: Market, clock: Clock, place: Callable[..., bytes]
) -> None:
    changed, other = place(), place()
    settled(feed, clock, changed, other)
    client.read.clear()
    assert market.claim(changed, PROVIDERS[1], "model").accepted
    read_all(feed, changed, other)
    assert sorted(client.read) == ["fetch_orders", "order", "orders_in"]
    view = feed.view(changed)
    assert view is not None and len(view.claims) == 1


def test_an_answer_that_lagged_behind_its_event_is_read_again(
    feed: OrderFeed, client: InProcessClient, clock: Clock, place: Callable[..., bytes]
) -> None:
    order_id = place()
    settled(feed, clock, order_id)
    client.read.clear()
    feed.on_batch(1, 1, [Event(kind="window_opened", order=order_id)])
    for seconds, reads in ((0.0, 1), (SETTLE_S / 2, 2), (SETTLE_S / 2, 3), (0.1, 3), (0.1, 3)):
        clock.now_s += seconds
        feed.refresh()
        feed.view(order_id)
        assert client.read.count("order") == reads


def test_when_no_event_comes_everything_is_read_again_after_a_while(
    feed: OrderFeed, client: InProcessClient, market: Market, clock: Clock, place: Callable[..., bytes]
) -> None:
    order_id = place()
    settled(feed, clock, order_id)
    market.followers.clear()  # the stream is silent
    market.wait_for(order_id, Window.VOID)
    client.read.clear()
    started_s = 1000.0
    clock.now_s = started_s + REFRESH_S - 0.01
    read_all(feed, order_id)
    assert client.read == []
    clock.now_s = started_s + REFRESH_S
    read_all(feed, order_id)
    view = feed.view(order_id)
    assert view is not None and view.window is Window.VOID
    assert sorted(client.read) == ["fetch_orders", "order", "orders_in"]
    clock.now_s -= 1000.0  # somebody set the clock back
    client.read.clear()
    read_all(feed, order_id)
    assert len(client.read) == 3


def test_a_read_that_failed_is_tried_again(
    feed: OrderFeed, client: InProcessClient, place: Callable[..., bytes]
) -> None:
    order_id = place()
    feed.refresh()
    client.failing = OSError("away")
    for read in (lambda: feed.view(order_id), feed.summaries, lambda: feed.open_orders(1)):
        with pytest.raises(OSError):
            read()
    client.failing = None
    assert feed.view(order_id) is not None and feed.summaries() and feed.open_orders(1)


def test_an_order_that_the_ledger_lacks_is_none(feed: OrderFeed) -> None:
    assert feed.view(bytes(32)) is None


def test_a_forgotten_order_is_read_anew(
    feed: OrderFeed, client: InProcessClient, clock: Clock, place: Callable[..., bytes]
) -> None:
    order_id = place()
    settled(feed, clock, order_id)
    client.read.clear()
    feed.forget(order_id)
    feed.forget(order_id)
    feed.view(order_id)
    assert client.read == ["order"]


def test_a_batch_with_events_wakes_whoever_waits_and_an_empty_one_does_not(feed: OrderFeed) -> None:
    feed.on_batch(1, 1, [])
    assert not feed._woken.is_set()
    waiter = threading.Thread(target=lambda: feed.wait(600))
    waiter.start()
    feed.on_batch(2, 2, [Event(kind="epoch_settled")])
    waiter.join(240)
    assert not waiter.is_alive() and not feed._woken.is_set()


def test_a_closed_stream_is_not_followed(feed: OrderFeed, market: Market, client: InProcessClient) -> None:
    market.followers.clear()
    subscription = feed.follow()
    assert market.followers == [feed.on_batch]
    subscription.close()
    assert market.followers == []
