"""A network's client: it asks every aggregator and believes what f+1 of them say in equal bytes.

Works on an `IoThread`; each method returns a `Call` at once, to wait for (`result`) or to await. Requests go to all
aggregators and are repeated with back-off until enough answered; repeating is harmless, since none runs twice. A
connection that breaks is made again by itself, and subscriptions go on where they were, without gaps.
"""

from __future__ import annotations

import itertools
import logging
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import zmq

from pot_lab.agreement.quorum import weak_quorum
from pot_lab.consensus.batching import QueueFull
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import Handover, request_digest
from pot_lab.errors import Oversize, PotLabError
from pot_lab.network.client.calls import AggregatorStatus, Call, EventCallback, _Pending
from pot_lab.network.client.io_thread import IoThread
from pot_lab.network.client.links import _GIVEN_UP, _Link
from pot_lab.network.client.round_trip import RoundTrip
from pot_lab.network.client.streams import Subscription
from pot_lab.network.client.submissions import _FRAME_ROOM_BYTES, _bundled, _unanswered
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import (
    ClientClosed,
    NoAgreement,
    Unreachable,
    WrongServerKey,
)
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.seats import HANDOVERS, decode_handovers, entries_of, succession_of
from pot_lab.network.transport import reconnect
from pot_lab.network.wire import (
    MAX_CLIENT_FRAME_BYTES,
    Answer,
    Answered,
    AnsweredAll,
    AskStatus,
    Follow,
    Pushed,
    Query,
    QueryAnswered,
    QueryRefused,
    RequestRefused,
    StatusAnswered,
    Unfollow,
    decode_answer,
    encode_frame,
)
from pot_lab.network.wire_codes import error_from_wire

_log = logging.getLogger("pot_lab.client")


_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 4.0
_FIRST_ASK_AGAIN_S, _LAST_ASK_AGAIN_S = 0.03, 0.5
_TEMPORARY = frozenset({QueueFull.__name__})
_CREDIT = 64
_AHEAD = 256
_RENEW_S = 2.0
_MEND_S = 1.0
_FOLLOW_S = 3.0
_FRAMES_A_TURN = 1_000


class NetworkClient:
    """A client of one network.

    Args:
        config: the network.
        curve_keypair: this client's CURVE keys; new ones if not given. They name the connection, not an account.
        io_thread: a thread to share; by default the client has its own and ends it with `close`.
        in_flight: so many requests at most are on their way at once, the others wait here for their turn. More than
            an aggregator holds for one account (`Parameters.pending_per_account`) would be refused there for a while,
            and overtaken by later nonces that void it.
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
        self._succession = succession_of(config)
        self._needed = weak_quorum(self.membership.n)
        self._keys = curve_keypair or CurveKeyPair.generate()
        self._thread = io_thread or IoThread()
        self._owns_thread = io_thread is None
        self._closed = False
        self._links: list[_Link] = []
        self._submissions: dict[bytes, tuple[bytes, list[_Pending]]] = {}  # request and who waits, by digest
        self._round_trip = RoundTrip(_FIRST_RETRY_S, _LAST_RETRY_S)
        self._unsent: dict[bytes, None] = {}  # of these, those whose turn has not come, in order
        self._in_flight = in_flight
        self._known = 0  # the last batch that f+1 aggregators told of
        self._queries: dict[int, tuple[bytes, _Pending]] = {}
        self._statuses: dict[int, tuple[Call[list[AggregatorStatus]], dict[int, StatusAnswered]]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._calls = 0
        self._asked_next = 0
        self._thread.call(self._open)

    # What a user calls, on any thread.

    def submit(self, request: bytes, *, timeout_s: float = 30.0) -> Call[bytes]:
        """Have a signed request ordered and executed; the call gives its reply, equal from f+1 aggregators.

        The call raises:
            (the refusal's class): f+1 aggregators refused to queue it.
            Unreachable, WrongServerKey, NoAgreement: not enough equal answers in time. The request may still be
                executed; submitting the same bytes again is safe and gives its reply.
        """
        return self.submit_all((request,), timeout_s=timeout_s)[0]

    def submit_all(self, requests: Sequence[bytes], *, timeout_s: float = 30.0) -> list[Call[bytes]]:
        """Submit several requests in their order; as `submit` of each, but they travel together."""
        for request in requests:
            if len(request) > MAX_CLIENT_FRAME_BYTES - _FRAME_ROOM_BYTES:
                seen, wanted = f"{len(request)} bytes", f"at most {MAX_CLIENT_FRAME_BYTES - _FRAME_ROOM_BYTES} bytes"
                raise Oversize("a request is too large", seen=seen, wanted=wanted)
        calls: list[Call[bytes]] = [Call() for _ in requests]
        if not self._thread.usable or self._closed:
            for call in calls:
                call._fail(_gone())
        else:
            self._thread.call(lambda: self._begin_submissions(requests, calls, timeout_s))
        return calls

    def query(self, name: str, arguments: bytes = b"", *, timeout_s: float = 10.0) -> Call[bytes]:
        """Read the state; the call gives the answer, equal from f+1 aggregators (asked again while batches are
        executed), of a state not before anything that this client was told until now.

        The call raises: as `submit`, and whatever the application refuses the query with.
        """
        call: Call[bytes] = Call()
        self._hand_over(call, lambda: self._begin_query(name, arguments, None, call, timeout_s))
        return call

    def ask(self, index: int, name: str, arguments: bytes = b"", *, timeout_s: float = 10.0) -> Call[bytes]:
        """Ask one aggregator alone, e.g. for its `metrics`; nobody vouches for the answer."""
        call: Call[bytes] = Call()
        self._hand_over(call, lambda: self._begin_query(name, arguments, index, call, timeout_s))
        return call

    def subscribe(self, callback: EventCallback, from_sequence: int = 0) -> Subscription:
        """Call `callback(sequence, time_ms, events)` for every batch from `from_sequence` on (0 and 1: from the first).

        In order, each once, no gaps, once f+1 aggregators pushed the same; past batches come from their histories.
        Runs on the client's thread, so it must be quick.
        """
        if not self._thread.usable or self._closed:
            raise _gone()
        self._calls += 1
        subscription = Subscription(self, self._calls, callback, max(from_sequence, 1))
        self._thread.call(lambda: self._begin_stream(subscription))
        return subscription

    def status(self, *, timeout_s: float = 2.0) -> Call[list[AggregatorStatus]]:
        """How every aggregator is, by index; never fails, those who do not answer in time are not `reachable`."""
        call: Call[list[AggregatorStatus]] = Call()
        self._hand_over(call, lambda: self._begin_status(call, timeout_s))
        return call

    def close(self) -> None:
        """Fail what is pending, close the connections and end the thread."""
        if self._closed or not self._thread.usable:
            self._closed = True
            return
        self._closed = True
        self._thread.call(self._shut)
        if self._owns_thread:
            self._thread.close()

    def __enter__(self) -> NetworkClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Everything below runs on the thread.

    def _hand_over(self, call: Call[Any], action: Callable[[], None]) -> None:
        if not self._thread.usable or self._closed:
            call._fail(_gone())
        else:
            self._thread.call(action)

    @property
    def handovers(self) -> tuple[Handover, ...]:
        """How it got there, each proved by the set before."""
        return tuple(self._succession.handovers)

    @property
    def membership(self) -> Membership:
        """The set of aggregators that this client believes, as far as it has followed it from the network's first."""
        return self._succession.latest.membership

    def _open(self) -> None:
        self._connect()
        self._thread.after(_RENEW_S, self._renew_streams)
        self._thread.after(_FOLLOW_S, self._ask_who)

    def _connect(self) -> None:
        for entry in entries_of(self.membership, self.config):
            link = _Link(entry, self._thread.context, self._keys)
            self._links.append(link)
            self._thread.read(link.socket, lambda link=link: self._hear(link))  # type: ignore[misc]
            self._thread.read(link.monitor, lambda link=link: self._watch(link))  # type: ignore[misc]

    def _shut(self) -> None:
        gone = ClientClosed("the client was closed before the answer came")
        for _, pendings in self._submissions.values():
            for pending in pendings:
                pending.call._fail(gone)
        for _, pending in self._queries.values():
            pending.call._fail(gone)
        for call, _ in self._statuses.values():
            call._fail(gone)
        self._submissions.clear()
        self._unsent.clear()
        self._queries.clear()
        self._statuses.clear()
        self._subscriptions.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        for link in self._links:
            self._thread.forget(link.socket)
            self._thread.forget(link.monitor)
            link.close()
        self._links.clear()

    # Following the sets of aggregators.

    def _ask_who(self) -> None:
        """Ask one aggregator after the other whether another set has taken over; its signatures answer for it."""
        if self._closed or not self._links:
            return
        self._asked_next = (self._asked_next + 1) % len(self._links)
        call: Call[bytes] = Call()
        call.future.add_done_callback(lambda future: self._follow_to(future))
        era = self.membership.since.to_bytes(8, "big")
        self._begin_query(HANDOVERS, era, self._links[self._asked_next].index, call, _FOLLOW_S)
        self._thread.after(_FOLLOW_S, self._ask_who)

    def _follow_to(self, answered: Future[bytes]) -> None:
        if self._closed or answered.exception() is not None:
            return
        before = self.membership
        try:
            for handover in decode_handovers(answered.result()):
                if not self._succession.follow(handover):
                    _log.warning("an aggregator showed a set of aggregators that the one before did not sign")
                    break
        except PotLabError:
            _log.warning("an aggregator answered with no sets of aggregators")
        if self.membership is not before:
            self._thread.after(0, self._change_links)  # later: the answer's own link is being read now

    def _change_links(self) -> None:
        """Speak with the set that is in force now, and count its answers alone."""
        if self._closed or not self._links:
            return
        _log.info("the aggregators since batch %d are %d", self.membership.since, self.membership.n)
        self._needed = weak_quorum(self.membership.n)
        self._disconnect()
        for _, pendings in self._submissions.values():
            for pending in pendings:
                pending.forget()
        for _, pending in self._queries.values():
            pending.forget()
        for subscription in self._subscriptions.values():
            subscription.pushed.clear()
            subscription.credit.clear()
        self._connect()
        for subscription in self._subscriptions.values():
            subscription.expected = dict.fromkeys(range(self.membership.n), subscription.next_sequence)

    def _watch(self, link: _Link) -> None:
        while self._links:
            try:
                event, _ = struct.unpack("=HI", link.monitor.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                return
            if link.note(event):
                self._resume(link)
            elif event & _GIVEN_UP:
                self._thread.after(_MEND_S, lambda: self._mend(link))

    def _mend(self, link: _Link) -> None:
        """Connect anew: libzmq gives a connection up for good when its handshake breaks the protocol."""
        if self._links and not link.connected:
            reconnect(link.socket, link.url)

    def _resume(self, link: _Link) -> None:
        """A connection is usable (again): say everything that this aggregator has not answered, in order.

        Nothing newer may overtake it, or an account's later nonce would void its earlier ones.
        """
        frames = list(
            _bundled(
                request
                for digest, (request, pendings) in self._submissions.items()
                if digest not in self._unsent and _unanswered(pendings, link.index)
            )
        )
        frames += [frame for frame, pending in self._queries.values() if _asks(pending, link.index)]
        frames += [
            encode_frame(AskStatus(number)) for number, (_, got) in self._statuses.items() if link.index not in got
        ]
        link.ready = True
        if not all(link.send(frame) for frame in frames):
            link.ready = False
            self._thread.after(0.02, lambda: self._resume(link) if link.connected and self._links else None)
            return
        for subscription in self._subscriptions.values():
            subscription.expected[link.index] = subscription.next_sequence
            self._follow(link, subscription)

    def _hear(self, link: _Link) -> None:
        for _ in range(_FRAMES_A_TURN):
            if not self._links:
                return
            try:
                frame = link.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                answer = decode_answer(frame)
            except PotLabError:
                _log.warning("aggregator %d sent a frame that holds no answer", link.index)
                continue
            self._take(link, answer)

    def _take(self, link: _Link, answer: Answer) -> None:
        if isinstance(answer, Answered):
            self._on_answered(link.index, answer)
        elif isinstance(answer, AnsweredAll):
            for each in answer.answers:
                self._on_answered(link.index, each)
        elif isinstance(answer, RequestRefused):
            self._on_refused(link.index, answer)
        elif isinstance(answer, QueryAnswered):
            self._on_query_answer(link.index, answer, answer.answer)
        elif isinstance(answer, QueryRefused):
            self._on_query_answer(link.index, answer, (answer.code, answer.message, answer.seen, answer.wanted))
        elif isinstance(answer, Pushed):
            self._on_pushed(link, answer)
        else:
            self._on_status(link.index, answer)

    # Submissions.

    def _begin_submissions(self, requests: Sequence[bytes], calls: Sequence[Call[bytes]], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        begun: list[tuple[bytes, _Pending]] = []
        again: list[bytes] = []
        for request, call in zip(requests, calls, strict=True):
            digest, pending = request_digest(request), _Pending(call, deadline_s)
            if digest not in self._submissions:
                self._submissions[digest] = request, []
                self._unsent[digest] = None
            elif digest not in self._unsent:
                again.append(digest)
            self._submissions[digest][1].append(pending)
            begun.append((digest, pending))
        self._thread.after(timeout_s, lambda: self._expire_submissions(begun))
        self._send_submissions(again)
        self._send_next()

    def _send_next(self) -> None:
        room = self._in_flight - (len(self._submissions) - len(self._unsent))
        if not self._unsent or room <= 0:
            return
        turn = list(itertools.islice(self._unsent, room))
        for digest in turn:
            del self._unsent[digest]
        self._send_submissions(turn)

    def _send_submissions(self, digests: Sequence[bytes]) -> None:
        """Say requests to all aggregators, and again to those that did not answer when a while has passed."""
        if digests:
            now_s, wait_s = time.monotonic(), self._round_trip.retry_s
            for digest in digests:
                for pending in self._submissions[digest][1]:
                    pending.said_s = pending.said_s or now_s
            self._say_submissions(digests)
            self._thread.after(wait_s, lambda: self._retry_submissions(digests, wait_s))

    def _say_submissions(self, digests: Sequence[bytes]) -> None:
        entries = [self._submissions[digest] for digest in digests]
        frames: dict[tuple[bytes, ...], list[bytes]] = {}
        for link in self._links:
            unanswered = tuple(request for request, pendings in entries if _unanswered(pendings, link.index))
            if unanswered not in frames:
                frames[unanswered] = list(_bundled(unanswered))
            for frame in frames[unanswered]:
                if not link.send(frame):
                    break  # nothing later may overtake it; `_resume` or the next retry says it again

    def _retry_submissions(self, digests: Sequence[bytes], waited_s: float) -> None:
        left = [digest for digest in digests if digest in self._submissions and digest not in self._unsent]
        if left:
            self._say_submissions(left)
            wait_s = min(2 * waited_s, _LAST_RETRY_S)
            self._thread.after(wait_s, lambda: self._retry_submissions(left, wait_s))

    def _expire_submissions(self, begun: Sequence[tuple[bytes, _Pending]]) -> None:
        for digest, pending in begun:
            if not pending.call.done():
                self._end_submission(digest, pending)
                pending.call._fail(self._why_not(pending, "the request was not answered"))

    def _end_submission(self, digest: bytes, pending: _Pending) -> None:
        entry = self._submissions.get(digest)
        if entry is not None and pending in entry[1]:
            entry[1].remove(pending)
            if not entry[1]:
                del self._submissions[digest]
                self._unsent.pop(digest, None)
                self._send_next()

    def _on_answered(self, index: int, answer: Answered) -> None:
        for pending in list(self._submissions.get(answer.digest, (b"", []))[1]):
            if pending.count(index, (answer.sequence, answer.time_ms, answer.reply)) >= self._needed:
                self._known = max(self._known, answer.sequence)
                if pending.said_s:
                    self._round_trip.took(time.monotonic() - pending.said_s)
                self._end_submission(answer.digest, pending)
                pending.call._finish(answer.reply)

    def _on_refused(self, index: int, answer: RequestRefused) -> None:
        error = error_from_wire(answer.code, answer.message, answer.seen, answer.wanted)
        for pending in list(self._submissions.get(answer.digest, (b"", []))[1]):
            pending.refusals[index] = error
            if answer.code not in _TEMPORARY and pending.count(index, answer.code) >= self._needed:
                self._end_submission(answer.digest, pending)
                pending.call._fail(error)

    # Queries.

    def _begin_query(self, name: str, arguments: bytes, only: int | None, call: Call[bytes], timeout_s: float) -> None:
        pending = _Pending(call, time.monotonic() + timeout_s)
        pending.only, pending.since = only, self._known
        self._ask_all(name, arguments, pending, _FIRST_ASK_AGAIN_S)

    def _ask_all(self, name: str, arguments: bytes, pending: _Pending, again_s: float) -> None:
        """One round of a query; the next begins when all answered differently, or when answers stay out."""
        if not self._links:
            return
        self._calls += 1
        number = self._calls
        frame = encode_frame(Query(number, name, arguments))
        pending.said.clear()
        self._queries[number] = (frame, pending)
        for link in self._links:
            if pending.only in (None, link.index):
                link.send(frame)
        started_s = time.monotonic()

        def look() -> None:
            if pending.call.done() or number not in self._queries:
                return
            now_s = time.monotonic()
            if now_s >= pending.deadline_s:
                del self._queries[number]
                pending.call._fail(self._why_not(pending, f"the query {name} was not answered"))
                return
            asked = 1 if pending.only is not None else len(self._links)
            if len(pending.said) == asked or (len(pending.said) >= self._needed and now_s - started_s > again_s):
                del self._queries[number]
                self._ask_all(name, arguments, pending, min(2 * again_s, _LAST_ASK_AGAIN_S))
            else:
                self._thread.after(min(again_s, max(pending.deadline_s - now_s, 0.001)), look)

        self._thread.after(min(again_s, max(pending.deadline_s - started_s, 0.001)), look)

    def _on_query_answer(self, index: int, answer: QueryAnswered | QueryRefused, said: object) -> None:
        entry = self._queries.get(answer.call)
        if entry is None or entry[1].only not in (None, index):
            return
        pending = entry[1]
        is_old = pending.only is None and answer.executed < pending.since
        pending.executed[index] = answer.executed
        alike = pending.count(index, index if is_old else said)  # an old state's answer is like nobody else's
        if is_old or alike < (self._needed if pending.only is None else 1):
            return
        if pending.only is None:
            vouched = [pending.executed[other] for other, its in pending.said.items() if its == said]
            self._known = max(self._known, min(vouched))
        del self._queries[answer.call]
        if isinstance(answer, QueryAnswered):
            pending.call._finish(answer.answer)
        else:
            pending.call._fail(error_from_wire(answer.code, answer.message, answer.seen, answer.wanted))

    def _why_not(self, pending: _Pending, what: str) -> Unreachable:
        """The error that says what is known about every aggregator that did not answer."""
        reasons: dict[int, str] = {}
        for link in self._links:
            if pending.only not in (None, link.index):
                continue
            if link.index in pending.said:
                reasons[link.index] = f"{link.where} answered"
            elif link.index in pending.refusals:
                reasons[link.index] = f"{link.where} refused: {pending.refusals[link.index]}"
            else:
                reasons[link.index] = link.reason
        needed = self._needed if pending.only is None else 1
        told = "; ".join(f"aggregator {index}: {reason}" for index, reason in reasons.items())
        message = f"{what} by {needed} aggregators alike ({len(pending.said)} of {len(reasons)} answered): {told}"
        if len(pending.said) >= needed:
            return NoAgreement(message, reasons)
        if sum(link.wrong_key for link in self._links if link.index in reasons) > len(reasons) - needed:
            return WrongServerKey(message, reasons)
        return Unreachable(message, reasons)

    # Streams.

    def _begin_stream(self, subscription: Subscription) -> None:
        self._subscriptions[subscription.stream] = subscription
        for link in self._links:
            subscription.expected[link.index] = subscription.next_sequence
            self._follow(link, subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        def end() -> None:
            if self._subscriptions.pop(subscription.stream, None) is not None:
                for link in self._links:
                    link.send(encode_frame(Unfollow(subscription.stream)))

        if self._thread.usable and not self._closed:
            self._thread.call(end)

    def _follow(self, link: _Link, subscription: Subscription) -> None:
        expected = subscription.expected[link.index]
        if expected < subscription.next_sequence + _AHEAD:
            subscription.credit[link.index] = _CREDIT
            link.send(encode_frame(Follow(subscription.stream, expected, _CREDIT)))

    def _renew_streams(self) -> None:
        if not self._links:
            return
        for subscription in self._subscriptions.values():
            for link in self._links:
                self._follow(link, subscription)
        self._thread.after(_RENEW_S, self._renew_streams)

    def _on_pushed(self, link: _Link, answer: Pushed) -> None:
        subscription = self._subscriptions.get(answer.stream)
        if subscription is None or answer.sequence != subscription.expected.get(link.index):
            return  # a repetition, or what follows a gap that the next renewal fills
        subscription.expected[link.index] = answer.sequence + 1
        subscription.credit[link.index] -= 1
        if answer.sequence >= subscription.next_sequence:
            tally = subscription.pushed.setdefault(answer.sequence, {})
            tally.setdefault((answer.time_ms, answer.events), set()).add(link.index)
            self._deliver(subscription)
        if subscription.credit[link.index] <= _CREDIT // 2:
            self._follow(link, subscription)

    def _deliver(self, subscription: Subscription) -> None:
        while not subscription.closed:
            sequence = subscription.next_sequence
            tally = subscription.pushed.get(sequence, {})
            agreed = next((what for what, links in tally.items() if len(links) >= self._needed), None)
            if agreed is None:
                return
            del subscription.pushed[sequence]
            subscription.next_sequence = sequence + 1
            self._known = max(self._known, sequence)
            try:
                subscription.callback(sequence, *agreed)
            except Exception:  # the callback is the user's; the stream goes on
                _log.exception("a subscription's callback failed at batch %d", sequence)

    # Status.

    def _begin_status(self, call: Call[list[AggregatorStatus]], timeout_s: float) -> None:
        self._calls += 1
        number = self._calls
        self._statuses[number] = (call, {})
        frame = encode_frame(AskStatus(number))
        for link in self._links:
            link.send(frame)
        self._thread.after(timeout_s, lambda: self._end_status(number))

    def _on_status(self, index: int, answer: StatusAnswered) -> None:
        entry = self._statuses.get(answer.call)
        if entry is not None:
            entry[1][index] = answer
            if len(entry[1]) == len(self._links):
                self._end_status(answer.call)

    def _end_status(self, number: int) -> None:
        entry = self._statuses.pop(number, None)
        if entry is None:
            return
        call, got = entry
        highest = max((answer.executed for answer in got.values()), default=0)
        found: list[AggregatorStatus] = []
        for link in self._links:
            answer = got.get(link.index)
            if answer is None:
                found.append(AggregatorStatus(link.index, False, link.reason))
                continue
            found.append(
                AggregatorStatus(
                    link.index,
                    True,
                    "",
                    answer.view,
                    answer.primary,
                    answer.executed,
                    highest - answer.executed,
                    answer.time_ms,
                    answer.state,
                    answer.counters,
                )
            )
        call._finish(found)


def _gone() -> ClientClosed:
    return ClientClosed("this client is closed, or was made by another process")


def _asks(pending: _Pending, index: int) -> bool:
    return index not in pending.said and pending.only in (None, index)
