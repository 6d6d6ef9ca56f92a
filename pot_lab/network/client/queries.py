"""Queries of the state, answered when f+1 aggregators give equal bytes, and the status of every aggregator."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import AggregatorStatus, Call, PendingCall, Targets, TimedLoop, Vouched
from pot_lab.network.wire import AskStatus, Query, QueryAnswered, QueryRefused, StatusAnswered, encode_frame
from pot_lab.network.wire_codes import error_from_wire

_FIRST_ROUND_S, _LAST_ROUND_S = 0.03, 0.5
_LEAST_WAIT_S = 0.001


class Queries:
    """All queries of one client; lives on the client's thread.

    A query goes to all aggregators in rounds: while batches are executed their answers may be of different states, and
    the next round asks again. An answer of a state before anything that the client knows of does not count.
    """

    def __init__(self, io: TimedLoop, links: Targets, vouched: Vouched) -> None:
        self._io, self._links, self._vouched = io, links, vouched
        self._open: dict[int, tuple[bytes, PendingCall]] = {}  # frame and call, by the round's number
        self._numbers = itertools.count(1)

    def begin(self, name: str, arguments: bytes, only: int | None, call: Call[bytes], timeout_s: float) -> None:
        """Ask all aggregators, or one alone whose answer nobody vouches for; the call ends within `timeout_s`."""
        pending = PendingCall(call, self._io.now_s() + timeout_s)
        pending.only, pending.since = only, self._vouched.known
        self._ask(name, arguments, pending, _FIRST_ROUND_S)

    def frames_for(self, index: int) -> Iterator[bytes]:
        """Frames of the queries that this aggregator has not answered."""
        return (
            frame for frame, pending in self._open.values() if pending.concerns(index) and index not in pending.answers
        )

    def on_answer(self, index: int, answer: QueryAnswered | QueryRefused) -> None:
        """Count an answer or refusal; the f+1st equal one ends the call."""
        entry = self._open.get(answer.call)
        if entry is None or not entry[1].concerns(index):
            return
        pending = entry[1]
        content: object
        if isinstance(answer, QueryAnswered):
            content = answer.answer
        else:
            content = (answer.code, answer.message, answer.seen, answer.wanted)
        is_old = pending.only is None and answer.executed < pending.since
        pending.executed[index] = answer.executed
        equal = pending.count(index, index if is_old else content)  # an old state's answer equals no other
        if is_old or equal < (self._vouched.needed if pending.only is None else 1):
            return
        if pending.only is None:
            self._vouched.note(min(pending.executed[other] for other, its in pending.answers.items() if its == content))
        del self._open[answer.call]
        if isinstance(answer, QueryAnswered):
            pending.call.finish(answer.answer)
        else:
            pending.call.fail(error_from_wire(answer.code, answer.message, answer.seen, answer.wanted))

    def forget_answers(self) -> None:
        """Count all answers anew: another set of aggregators is in force."""
        for _, pending in self._open.values():
            pending.forget()

    def fail_all(self, error: PotLabError) -> None:
        """End all calls with this error."""
        for _, pending in self._open.values():
            pending.call.fail(error)
        self._open.clear()

    def _ask(self, name: str, arguments: bytes, pending: PendingCall, round_s: float) -> None:
        """One round; the next begins when all answered without agreement, or after `round_s` when f+1 did."""
        if not len(self._links):
            return
        number = next(self._numbers)
        frame = encode_frame(Query(number, name, arguments))
        pending.answers.clear()
        self._open[number] = (frame, pending)
        for link in self._links:
            if pending.concerns(link.index):
                link.send(frame)
        started_s = self._io.now_s()

        def check() -> None:
            if pending.call.done() or number not in self._open:
                return
            now_s = self._io.now_s()
            needed = self._vouched.needed if pending.only is None else 1
            if now_s >= pending.deadline_s:
                del self._open[number]
                pending.call.fail(self._links.unanswered(pending, f"the query {name} was not answered", needed))
                return
            asked = len(self._links) if pending.only is None else 1
            answered = len(pending.answers)
            if answered == asked or (answered >= self._vouched.needed and now_s - started_s > round_s):
                del self._open[number]
                self._ask(name, arguments, pending, min(2 * round_s, _LAST_ROUND_S))
            else:
                self._io.after(min(round_s, max(pending.deadline_s - now_s, _LEAST_WAIT_S)), check)

        self._io.after(min(round_s, max(pending.deadline_s - started_s, _LEAST_WAIT_S)), check)


class StatusQueries:
    """All status calls of one client; lives on the client's thread."""

    def __init__(self, io: TimedLoop, links: Targets) -> None:
        self._io, self._links = io, links
        self._open: dict[int, tuple[Call[list[AggregatorStatus]], dict[int, StatusAnswered]]] = {}
        self._numbers = itertools.count(1)

    def begin(self, call: Call[list[AggregatorStatus]], timeout_s: float) -> None:
        """Ask every aggregator; the call ends when all answered, or after `timeout_s`."""
        number = next(self._numbers)
        self._open[number] = (call, {})
        frame = encode_frame(AskStatus(number))
        for link in self._links:
            link.send(frame)
        self._io.after(timeout_s, functools.partial(self._end, number))

    def frames_for(self, index: int) -> Iterator[bytes]:
        """Frames of the status calls that this aggregator has not answered."""
        return (encode_frame(AskStatus(number)) for number, (_, got) in self._open.items() if index not in got)

    def on_answer(self, index: int, answer: StatusAnswered) -> None:
        """Store one aggregator's answer; the last one ends the call."""
        entry = self._open.get(answer.call)
        if entry is not None:
            entry[1][index] = answer
            if len(entry[1]) == len(self._links):
                self._end(answer.call)

    def fail_all(self, error: PotLabError) -> None:
        """End all calls with this error."""
        for call, _ in self._open.values():
            call.fail(error)
        self._open.clear()

    def _end(self, number: int) -> None:
        entry = self._open.pop(number, None)
        if entry is None:
            return
        call, got = entry
        highest = max((answer.executed for answer in got.values()), default=0)
        call.finish([self._status(link.index, got.get(link.index), highest) for link in self._links])

    def _status(self, index: int, answer: StatusAnswered | None, highest: int) -> AggregatorStatus:
        if answer is None:
            return AggregatorStatus(index=index, reachable=False, reason=self._links.reason(index))
        return AggregatorStatus(
            index=index,
            reachable=True,
            view=answer.view,
            primary=answer.primary,
            height=answer.executed,
            lag=highest - answer.executed,
            time_ms=answer.time_ms,
            state=answer.state,
            counters=answer.counters,
        )
