"""A watched order is read when it changes, when its stream is silent, and never twice at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import Call
from pot_lab.network.client.order_watch import OrderWatch
from pot_lab.network.errors import ClientClosed, Unreachable
from pot_lab.protocol.state import Event
from pot_lab.protocol.views import OrderView

ORDER, OTHER = b"o" * 32, b"p" * 32


def view(number: int) -> OrderView:
    """Views are passed on as they are, so numbers stand for them here."""
    return cast(OrderView, number)


class Source:
    """What the ledger client does for a watch, driven by the test."""

    def __init__(self) -> None:
        self.reads: list[Call[OrderView]] = []
        self.callbacks: list[Callable[[int, int, list[Event]], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.closed_streams = 0
        self.gone = False

    def read(self) -> Call[OrderView]:
        call: Call[OrderView] = Call()
        self.reads.append(call)
        return call

    def follow(self, callback: Callable[[int, int, list[Event]], None]) -> Source:
        if self.gone:
            raise ClientClosed("gone")
        self.callbacks.append(callback)
        return self

    def close(self) -> None:
        self.closed_streams += 1

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        if self.gone:
            raise ClientClosed("gone")
        self.timers.append((delay_s, action))

    def push(self, *orders: bytes) -> None:
        for callback in self.callbacks:
            callback(1, 1, [Event(kind="claim_committed", order=order) for order in orders])


@pytest.fixture
def source() -> Source:
    return Source()


def watched(source: Source, **more: object) -> tuple[OrderWatch, list[OrderView], list[PotLabError]]:
    views: list[OrderView] = []
    errors: list[PotLabError] = []
    watch = OrderWatch(ORDER, source, views.append, on_error=errors.append, poll_s=5.0)
    watch.refresh()
    return watch, views, errors


def test_an_event_of_the_order_leads_to_one_read_and_others_to_none(source: Source) -> None:
    _, views, errors = watched(source)
    source.reads[0].finish(view(0))
    source.push(OTHER)
    source.push()
    assert len(source.reads) == 1
    source.push(OTHER, ORDER)
    assert len(source.reads) == 2
    source.reads[1].finish(view(1))
    assert views == [0, 1] and errors == []


def test_it_follows_once_and_not_before_the_first_read_ended(source: Source) -> None:
    watched(source)
    assert source.callbacks == []
    source.reads[0].finish(view(0))
    source.push(ORDER)
    source.reads[1].finish(view(1))
    assert len(source.callbacks) == 1


def test_events_during_a_read_lead_to_one_more_after_it(source: Source) -> None:
    _, views, _ = watched(source)
    source.reads[0].finish(view(0))
    source.push(ORDER)
    source.push(ORDER)
    source.push(ORDER)
    assert len(source.reads) == 2
    source.reads[1].finish(view(1))
    assert len(source.reads) == 3
    source.reads[2].finish(view(2))
    assert len(source.reads) == 3 and views == [0, 1, 2]


def test_a_silent_stream_leads_to_a_slow_poll(source: Source) -> None:
    _, views, _ = watched(source)
    source.reads[0].finish(view(0))
    [(delay_s, poll)] = source.timers
    assert delay_s == 5.0
    poll()
    source.reads[1].finish(view(1))
    assert views == [0, 1] and len(source.timers) == 2


def test_a_timer_from_before_a_later_read_does_nothing(source: Source) -> None:
    watched(source)
    source.reads[0].finish(view(0))
    source.push(ORDER)
    source.reads[1].finish(view(1))
    source.timers[0][1]()
    assert len(source.reads) == 2
    source.timers[1][1]()
    assert len(source.reads) == 3


def test_a_read_that_failed_is_reported_and_the_watch_goes_on(source: Source) -> None:
    _, views, errors = watched(source)
    source.reads[0].fail(Unreachable("far away"))
    assert [type(error) for error in errors] == [Unreachable] and source.callbacks == []
    source.timers[0][1]()
    source.reads[1].finish(view(1))
    assert views == [1] and len(source.callbacks) == 1


def test_after_close_nothing_is_called_and_the_stream_has_ended(source: Source) -> None:
    watch, views, errors = watched(source)
    source.reads[0].finish(view(0))
    source.push(ORDER)
    with watch:
        pass
    watch.close()
    source.reads[1].finish(view(1))
    source.push(ORDER)
    source.timers[0][1]()
    watch.refresh()
    assert views == [0] and errors == [] and len(source.reads) == 2 and source.closed_streams == 1


def test_a_watch_closed_during_its_first_read_follows_nothing(source: Source) -> None:
    watch, views, _ = watched(source)
    watch.close()
    source.reads[0].finish(view(0))
    assert views == [] and source.callbacks == [] and source.timers == []


@pytest.mark.parametrize("fails", [True, False])
def test_a_closed_client_ends_the_watch(source: Source, fails: bool) -> None:
    watch, views, errors = watched(source)
    source.gone = True
    if fails:
        source.reads[0].fail(ClientClosed("gone"))
        assert [type(error) for error in errors] == [ClientClosed]
    else:
        source.reads[0].finish(view(0))
    watch.refresh()
    assert len(source.reads) == 1 and source.timers == [] and views == []


def test_a_callback_that_fails_does_not_end_the_watch(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    def fails(view: OrderView) -> None:
        raise RuntimeError("the user's own fault")

    watch = OrderWatch(ORDER, source, fails)
    watch.refresh()
    source.reads[0].finish(view(0))
    assert len(source.timers) == 1 and "failed" in caplog.text


def test_a_callback_may_close_the_watch(source: Source) -> None:
    watch = OrderWatch(ORDER, source, lambda view: watch.close())
    watch.refresh()
    source.reads[0].finish(view(0))
    source.push(ORDER)
    assert len(source.reads) == 1 and source.closed_streams == 1
