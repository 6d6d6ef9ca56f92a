"""A network's client: it asks every aggregator and accepts what f+1 of them answer in equal bytes.

Works on an `IoThread`; each method returns a `Call` at once, to wait for (`result`) or to await. Requests go to all
aggregators and are resent with back-off until enough answered; resending is harmless, since none runs twice. A
connection that breaks is made again by itself, and subscriptions go on where they were, without gaps.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, assert_never

from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import Handover
from pot_lab.network.client.calls import AggregatorStatus, Call, EventCallback, Vouched, closed_error
from pot_lab.network.client.io_thread import IoThread
from pot_lab.network.client.links import AggregatorLink, AggregatorLinks
from pot_lab.network.client.membership import MembershipFollower
from pot_lab.network.client.queries import Queries, StatusQueries
from pot_lab.network.client.streams import EventStreams, Subscription
from pot_lab.network.client.submissions import Submissions, check_size
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import ClientClosed
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.seats import entries_of, succession_of
from pot_lab.network.wire import (
    Answer,
    Answered,
    AnsweredAll,
    Pushed,
    QueryAnswered,
    QueryRefused,
    RequestRefused,
    StatusAnswered,
)

_log = logging.getLogger("pot_lab.client")


class NetworkClient:
    """A client of one network.

    Args:
        config: the network.
        curve_keypair: this client's CURVE keys; new ones if not given. They name the connection, not an account.
        io_thread: a thread to share; by default the client has its own and ends it with `close`.
        in_flight: at most so many requests are unanswered at once, the others wait here for their turn. More than
            an aggregator holds for one account (`ConsensusParameters.pending_per_account`) would be refused there for
            a while, and overtaken by later nonces that void it.
    """

    def __init__(
        self,
        config: NetworkConfig,
        curve_keypair: CurveKeyPair | None = None,
        *,
        io_thread: IoThread | None = None,
        in_flight: int = 128,
    ) -> None:
        self.config = config
        succession = succession_of(config)
        self._io = io_thread or IoThread()
        self._owns_io = io_thread is None
        self._closed = False
        self._vouched = Vouched(succession.latest.membership.n)
        self._links = AggregatorLinks(
            self._io,
            curve_keypair or CurveKeyPair.generate(),
            on_answer=self._dispatch,
            unanswered_frames=self._unanswered_frames,
            on_ready=lambda link: self._streams.on_ready(link),
        )
        self._submissions = Submissions(self._io, self._links, self._vouched, in_flight)
        self._queries = Queries(self._io, self._links, self._vouched)
        self._statuses = StatusQueries(self._io, self._links)
        self._streams = EventStreams(self._io, self._links, self._vouched)
        self._stream_numbers = itertools.count(1)
        self._follower = MembershipFollower(self._io, self._links, self._queries, succession, self._change_set)
        self._io.call(self._open)

    # Called by users, on any thread.

    @property
    def handovers(self) -> tuple[Handover, ...]:
        """The handovers from the network's first set to `membership`, each signed by the set before it."""
        return self._follower.handovers

    @property
    def membership(self) -> Membership:
        """The set of aggregators in force, as far as this client has followed it from the network's first."""
        return self._follower.membership

    @property
    def known_sequence(self) -> int:
        """The last batch that f+1 aggregators told this client of; 0 before the first answer."""
        return self._vouched.known

    def submit(self, request: bytes, *, timeout_s: float = 30.0) -> Call[bytes]:
        """Have a signed request ordered and executed; the call gives its reply, equal from f+1 aggregators.

        Raises:
            Oversize: the request does not fit a frame.
        The call raises:
            (the refusal's class): f+1 aggregators refused to queue it.
            Unreachable, WrongServerKey, NoAgreement: not enough equal answers in time. The request may still be
                executed; submitting the same bytes again is safe and gives its reply.
        """
        return self.submit_all((request,), timeout_s=timeout_s)[0]

    def submit_all(self, requests: Sequence[bytes], *, timeout_s: float = 30.0) -> list[Call[bytes]]:
        """Submit several requests in their order; as `submit` of each, but they travel together."""
        for request in requests:
            check_size(request)
        calls: list[Call[bytes]] = [Call() for _ in requests]
        self._start(lambda: self._submissions.begin(requests, calls, timeout_s), *calls)
        return calls

    def query(self, name: str, arguments: bytes = b"", *, timeout_s: float = 10.0) -> Call[bytes]:
        """Read the state; the call gives the answer, equal from f+1 aggregators (asked again while batches are
        executed), of a state not before anything that this client was told of until now.

        The call raises: as `submit`, and whatever the application refuses the query with.
        """
        call: Call[bytes] = Call()
        self._start(lambda: self._queries.begin(name, arguments, None, call, timeout_s), call)
        return call

    def ask(self, index: int, name: str, arguments: bytes = b"", *, timeout_s: float = 10.0) -> Call[bytes]:
        """Ask one aggregator alone, e.g. for its `metrics`; nobody vouches for the answer."""
        call: Call[bytes] = Call()
        self._start(lambda: self._queries.begin(name, arguments, index, call, timeout_s), call)
        return call

    def subscribe(self, callback: EventCallback, from_sequence: int = 0) -> Subscription:
        """Call `callback(sequence, time_ms, events)` for every batch from `from_sequence` on (0 and 1: from the first).

        In order, each once, no gaps, once f+1 aggregators pushed the same; past batches come from their histories.
        Runs on the client's thread, so it must be quick.

        Raises:
            ClientClosed: the client is closed, or was made by another process.
        """
        if not self._usable:
            raise closed_error()
        subscription = Subscription(next(self._stream_numbers), callback, max(from_sequence, 1), self._unsubscribe)
        self._io.call(lambda: self._streams.begin(subscription))
        return subscription

    def status(self, *, timeout_s: float = 2.0) -> Call[list[AggregatorStatus]]:
        """How every aggregator is, by index; those that do not answer in time are not `reachable`.

        The call raises: ClientClosed alone.
        """
        call: Call[list[AggregatorStatus]] = Call()
        self._start(lambda: self._statuses.begin(call, timeout_s), call)
        return call

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Run a quick action on the client's thread `delay_s` from now, unless the client is closed by then.

        Raises:
            ClientClosed: the client is closed, or was made by another process.
        """
        if not self._usable:
            raise closed_error()
        self._io.call(lambda: self._io.after(delay_s, lambda: None if self._closed else action()))

    def close(self) -> None:
        """Fail what is pending, close the connections and end the thread."""
        if not self._usable:
            self._closed = True
            return
        self._closed = True
        self._io.call(self._shut)
        if self._owns_io:
            self._io.close()

    def __enter__(self) -> NetworkClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _usable(self) -> bool:
        return self._io.usable and not self._closed

    def _start(self, action: Callable[[], None], *calls: Call[Any]) -> None:
        """Run an action on the thread, or fail its calls where that is impossible."""
        if self._usable:
            self._io.call(action)
        else:
            for call in calls:
                call.fail(closed_error())

    def _unsubscribe(self, subscription: Subscription) -> None:
        if self._usable:
            self._io.call(lambda: self._streams.end(subscription))

    # Everything below runs on the thread.

    def _open(self) -> None:
        self._links.connect(entries_of(self.membership, self.config))
        self._streams.start()
        self._follower.start()

    def _shut(self) -> None:
        gone = ClientClosed("the client was closed before the answer came")
        self._submissions.fail_all(gone)
        self._queries.fail_all(gone)
        self._statuses.fail_all(gone)
        self._streams.clear()
        self._links.disconnect()

    def _change_set(self) -> None:
        """Connect to the set that is in force now, and count its answers alone."""
        if self._closed or not len(self._links):
            return
        _log.info("the aggregators since batch %d are %d", self.membership.since, self.membership.n)
        self._vouched.change_set(self.membership.n)
        self._links.disconnect()
        self._submissions.forget_answers()
        self._queries.forget_answers()
        self._links.connect(entries_of(self.membership, self.config))
        self._streams.change_set()

    def _unanswered_frames(self, link: AggregatorLink) -> Iterator[bytes]:
        yield from self._submissions.frames_for(link.index)
        yield from self._queries.frames_for(link.index)
        yield from self._statuses.frames_for(link.index)

    def _dispatch(self, link: AggregatorLink, answer: Answer) -> None:
        if isinstance(answer, Answered):
            self._submissions.on_answered(link.index, answer)
        elif isinstance(answer, AnsweredAll):
            for each in answer.answers:
                self._submissions.on_answered(link.index, each)
        elif isinstance(answer, RequestRefused):
            self._submissions.on_refused(link.index, answer)
        elif isinstance(answer, QueryAnswered | QueryRefused):
            self._queries.on_answer(link.index, answer)
        elif isinstance(answer, Pushed):
            self._streams.on_pushed(link, answer)
        elif isinstance(answer, StatusAnswered):
            self._statuses.on_answer(link.index, answer)
        else:
            assert_never(answer)
