"""Streams of executed batches: each batch once, in order and without gaps, once f+1 aggregators pushed the same."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pot_lab.network.client.calls import EventCallback, Target, Targets, TimedLoop, Vouched
from pot_lab.network.wire import Follow, Pushed, Unfollow, encode_frame

_log = logging.getLogger("pot_lab.client")
_CREDIT = 64
_AHEAD = 256
_RENEW_AFTER_S = 2.0


class Subscription:
    """A stream of executed batches; `close` ends it.

    Attributes:
        stream: its number, under which aggregators push.
        next_sequence: the batch that the callback gets next.
        closed: whether `close` was called.
        expected: the batch that each aggregator is to push next, by index.
        credit: how many more batches each aggregator may push, by index.
        pushed: which aggregators pushed what of batches not yet delivered, by sequence.
    """

    def __init__(
        self, stream: int, callback: EventCallback, next_sequence: int, end: Callable[[Subscription], None]
    ) -> None:
        self.stream = stream
        self.callback = callback
        self.next_sequence = next_sequence
        self.closed = False
        self.expected: dict[int, int] = {}
        self.credit: dict[int, int] = {}
        self.pushed: dict[int, dict[tuple[int, tuple[bytes, ...]], set[int]]] = {}
        self._end = end

    def close(self) -> None:
        """End the stream: no callback starts after the one that may be running."""
        self.closed = True
        self._end(self)


class EventStreams:
    """All subscriptions of one client; lives on the client's thread.

    An aggregator pushes batches as long as it has credit, which is renewed as batches arrive and every
    `_RENEW_AFTER_S` besides: a renewal also fills the gaps of what was lost.
    """

    def __init__(self, io: TimedLoop, links: Targets, vouched: Vouched) -> None:
        self._io, self._links, self._vouched = io, links, vouched
        self._open: dict[int, Subscription] = {}

    def begin(self, subscription: Subscription) -> None:
        """Start to follow."""
        self._open[subscription.stream] = subscription
        for link in self._links:
            self._restart(link, subscription)

    def end(self, subscription: Subscription) -> None:
        """Stop to follow."""
        if self._open.pop(subscription.stream, None) is not None:
            frame = encode_frame(Unfollow(subscription.stream))
            for link in self._links:
                link.send(frame)

    def on_ready(self, link: Target) -> None:
        """A connection takes frames (again): follow on it from the next batch that is wanted."""
        for subscription in self._open.values():
            self._restart(link, subscription)

    def start(self) -> None:
        """Renew all streams from time to time, while there are connections."""
        self._io.after(_RENEW_AFTER_S, self._renew)

    def change_set(self) -> None:
        """Count pushes anew: another set of aggregators is in force, and not yet connected."""
        for subscription in self._open.values():
            subscription.pushed.clear()
            subscription.credit.clear()
            subscription.expected = {link.index: subscription.next_sequence for link in self._links}

    def clear(self) -> None:
        """Forget all streams."""
        self._open.clear()

    def on_pushed(self, link: Target, answer: Pushed) -> None:
        """Count a pushed batch, and deliver what f+1 aggregators pushed alike."""
        subscription = self._open.get(answer.stream)
        if subscription is None or answer.sequence != subscription.expected.get(link.index):
            return  # a repetition, or what follows a gap that the next renewal fills
        subscription.expected[link.index] = answer.sequence + 1
        subscription.credit[link.index] = subscription.credit.get(link.index, 0) - 1
        if answer.sequence >= subscription.next_sequence:
            tally = subscription.pushed.setdefault(answer.sequence, {})
            tally.setdefault((answer.time_ms, answer.events), set()).add(link.index)
            self._deliver(subscription)
        if subscription.credit[link.index] <= _CREDIT // 2:
            self._follow(link, subscription)

    def _renew(self) -> None:
        if len(self._links):
            for subscription in self._open.values():
                for link in self._links:
                    self._follow(link, subscription)
            self.start()

    def _restart(self, link: Target, subscription: Subscription) -> None:
        subscription.expected[link.index] = subscription.next_sequence
        self._follow(link, subscription)

    def _follow(self, link: Target, subscription: Subscription) -> None:
        expected = subscription.expected[link.index]
        if expected < subscription.next_sequence + _AHEAD:
            subscription.credit[link.index] = _CREDIT
            link.send(encode_frame(Follow(subscription.stream, expected, _CREDIT)))

    def _deliver(self, subscription: Subscription) -> None:
        while not subscription.closed:
            sequence = subscription.next_sequence
            tally = subscription.pushed.get(sequence, {})
            agreed = next((what for what, indices in tally.items() if len(indices) >= self._vouched.needed), None)
            if agreed is None:
                return
            del subscription.pushed[sequence]
            subscription.next_sequence = sequence + 1
            self._vouched.note(sequence)
            try:
                subscription.callback(sequence, *agreed)
            except Exception:  # the callback is the user's; the stream goes on
                _log.exception("a subscription's callback failed at batch %d", sequence)
