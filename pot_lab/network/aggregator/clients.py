"""The clients of an aggregator: their frames become requests and queries, and get answers, refusals and pushes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from pot_lab.agreement.application import Application, RequestId
from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import SendRefusal, SendReply, Submitted
from pot_lab.crypto.canonical import encode
from pot_lab.errors import Oversize, PotLabError
from pot_lab.network.aggregator.fair_queue import FairQueue
from pot_lab.network.aggregator.history import History
from pot_lab.network.aggregator.metrics import Metrics
from pot_lab.network.aggregator.read_time import TimeShare
from pot_lab.network.aggregator.request_queue import REQUESTS_A_TURN, Admitting, RequestQueue
from pot_lab.network.aggregator.streams import Streams
from pot_lab.network.aggregator.waiting import Waiting
from pot_lab.network.clock import wall_clock_ms
from pot_lab.network.errors import QueryFailed
from pot_lab.network.presence import PRESENCE, encode_presence
from pot_lab.network.seats import HANDOVERS, encode_handovers
from pot_lab.network.wire import (
    MAX_ANSWER_FRAME_BYTES,
    MAX_BUNDLE,
    Answer,
    Answered,
    AnsweredAll,
    AskStatus,
    Follow,
    Query,
    QueryAnswered,
    QueryRefused,
    RequestRefused,
    StatusAnswered,
    Submit,
    SubmitAll,
    Unfollow,
    decode_question,
)
from pot_lab.network.wire_codes import error_to_wire
from pot_lab.network.zmtp.listener import Sender

_log = logging.getLogger("pot_lab.aggregator")

_KNOWN_BYTES = 4 << 20
_REPLIES_BYTES, _REPLY_ROOM_BYTES = 1024 * 1024, 64
_ANSWER_ROOM_BYTES = 64


class AnswersQuestions(Protocol):
    """What the clients' side needs to answer questions (`QuestionAnswerer`)."""

    def query(self, question: Query) -> Answer:
        """Answer a query, or refuse it."""
        ...

    def status(self, call: int) -> Answer:
        """How this aggregator is."""
        ...


class QuestionAnswerer:
    """Answers queries and status calls of one aggregator: `metrics`, `handovers`, `presence` and `proof` itself, the
    rest by the application.

    Args:
        presence: what this host says of itself (`network.presence`).
    """

    def __init__(
        self,
        replica: Replica,
        application: Application,
        metrics: Metrics,
        presence: Callable[[], bytes] = lambda: encode_presence(b"", wall_clock_ms(), running=True),
    ) -> None:
        self._replica, self._application, self._metrics = replica, application, metrics
        self._presence = presence
        self._known: dict[tuple[str, bytes], bytes] = {}
        self._known_bytes = 0
        self._known_of = -1

    def query(self, question: Query) -> Answer:
        """Answer a query, or refuse it."""
        try:
            answer = self._answer(question.name, question.arguments)
            limit_bytes = MAX_ANSWER_FRAME_BYTES - _ANSWER_ROOM_BYTES
            if len(answer) > limit_bytes:
                seen, wanted = f"{len(answer)} bytes", f"at most {limit_bytes} bytes"
                raise Oversize("an answer is too large; ask for less", seen=seen, wanted=wanted)
        except PotLabError as error:
            return QueryRefused(call=question.call, executed=self._replica.executed, **error_to_wire(error))
        except Exception:  # a fault of ours that a client found must not end the process for the others
            _log.exception("the query %s failed", question.name)
            failed = QueryFailed("an aggregator cannot answer this query", seen=question.name)
            return QueryRefused(call=question.call, executed=self._replica.executed, **error_to_wire(failed))
        return QueryAnswered(question.call, self._replica.executed, answer)

    def status(self, call: int) -> Answer:
        """How this aggregator is."""
        replica = self._replica
        return StatusAnswered(
            call=call,
            view=replica.view,
            primary=replica.primary,
            executed=replica.executed,
            time_ms=replica.time_ms,
            state=replica.state,
            counters=self._metrics.totals(),
        )

    def _answer(self, name: str, arguments: bytes) -> bytes:
        if name == "metrics":
            return self._metrics.text().encode()
        if name == HANDOVERS:
            return encode_handovers(self._replica.succession.since(int.from_bytes(arguments[:8], "big")))
        if name == PRESENCE:
            return self._presence()
        if name == "proof":
            return encode(self._replica.prove(arguments))
        return self._known_answer(name, arguments)

    def _known_answer(self, name: str, arguments: bytes) -> bytes:
        """The application's answer; computed once for each state, as far as answers fit into memory."""
        if self._known_of != self._replica.executed:
            self._known.clear()
            self._known_bytes, self._known_of = 0, self._replica.executed
        question = name, arguments
        answer = self._known.get(question)
        if answer is None:
            answer = self._application.query(name, arguments)
            size_bytes = len(arguments) + len(answer)
            if self._known_bytes + size_bytes <= _KNOWN_BYTES:
                self._known[question] = answer
                self._known_bytes += size_bytes
        return answer


Reading = Query | Follow | Unfollow | AskStatus


class ClientService:
    """The clients' side of one aggregator. Answers gather until `flush`, which comes after the log was written.

    Requests and readings wait in queues of their own. Both serve sites and clients by the time that they used; readings
    have a turn's time besides (`TimeShare`), so that no number of them delays what the aggregators decide, and so have
    requests of unknown clients (`RequestQueue`).

    Args:
        answerer: answers queries and status calls.
        validate: raises PotLabError for a request that no aggregator admits; remembers what it has validated.
        is_funded: whether an account has stake or money in the state.
        counters: counts what is refused, dropped or not sent.
        clock: the time that the thread had, in seconds (`ServingClock`); what clients cost is measured by this.
        now_s: seconds, never going back.
    """

    def __init__(
        self,
        answerer: AnswersQuestions,
        validate: Callable[[bytes], RequestId],
        is_funded: Callable[[bytes], bool],
        counters: Counter[str],
        clock: Callable[[], float],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answerer, self._counters, self._clock = answerer, counters, clock
        admitting = Admitting(validate, is_funded, self._accept, self._refuse)
        self._requests = RequestQueue(admitting, counters, clock, now_s)
        self._readings: FairQueue[Reading] = FairQueue()
        self._read_time = TimeShare(clock)
        self._waiting, self._streams = Waiting(), Streams()
        self._submitted: list[Submitted] = []
        self._now_ms = 0
        self._replies: dict[bytes, list[Answered]] = {}
        self._answers: list[tuple[bytes, Answer]] = []

    @property
    def counters(self) -> Counter[str]:
        """What the queues counted."""
        return self._requests.counters + self._readings.counters

    @property
    def wait_ms(self) -> int | None:
        """How long the loop may wait at most; None for as long as it likes."""
        reading_ms = self._read_time.wait_ms if self._readings or self._streams.busy else None
        waits_ms = [each for each in (self._requests.wait_ms, reading_ms) if each is not None]
        return min(waits_ms, default=None)

    def wants(self, sender: Sender) -> bool:
        """Whether a frame of this client can be queued whole; while not, it waits in the kernel and loses nothing."""
        return self._requests.has_room(sender, MAX_BUNDLE) and self._readings.has_room(sender)

    def receive(self, frames: Iterable[tuple[Sender, bytes | None]]) -> None:
        """Queue the questions in these frames."""
        for sender, frame in frames:
            if frame is None or not sender.key:
                self._counters["client_frames_malformed"] += 1
                continue
            try:
                question = decode_question(frame)
            except PotLabError as error:
                self._counters["client_frames_" + error.code.lower()] += 1
                continue
            if isinstance(question, SubmitAll):
                for request in question.requests:
                    self._requests.put(sender, Submit(request, question.spread))
            elif isinstance(question, Submit):
                self._requests.put(sender, question)
            else:
                self._readings.put(sender, question, len(frame))

    def take_up(self, now_ms: int, room: int = REQUESTS_A_TURN, *, quiet: bool = False) -> list[Submitted]:
        """Take up a turn's requests, for the replica, which has room for so many.

        Args:
            quiet: whether nothing is being decided, so that requests of unknown clients delay nobody.
        """
        self._now_ms = now_ms
        self._requests.take_up(room, quiet=quiet)
        submitted, self._submitted = self._submitted, []
        return submitted

    def read(self, now_ms: int, *, quiet: bool) -> None:
        """Take up queries and other readings in a turn's time.

        Args:
            quiet: whether nothing is being decided, so that readings delay nobody.
        """
        self._read_time.begin(quiet=quiet)
        while self._readings and self._read_time.left_s > 0:
            started_s = self._clock()
            self._readings.serve(lambda sender, reading: self._read(sender, reading, now_ms), self._clock)
            self._read_time.spend(self._clock() - started_s)

    def _accept(self, sender: Sender, submit: Submit) -> None:
        digest = request_digest(submit.request)
        self._waiting.add(digest, sender.route, self._now_ms)
        self._submitted.append(Submitted(submit.request, submit.spread, digest))

    def _refuse(self, sender: Sender, submit: Submit, error: PotLabError) -> None:
        refused = RequestRefused(digest=request_digest(submit.request), **error_to_wire(error))
        self._answers.append((sender.route, refused))

    def _read(self, sender: Sender, reading: Reading, now_ms: int) -> None:
        if isinstance(reading, Query):
            self._counters["queries"] += 1
            self._answers.append((sender.route, self._answerer.query(reading)))
        elif isinstance(reading, Follow):
            if not self._streams.follow(sender, reading, now_ms):
                self._counters["streams_refused"] += 1
        elif isinstance(reading, Unfollow):
            self._streams.unfollow(sender.route, reading.stream)
        else:
            self._answers.append((sender.route, self._answerer.status(reading.call)))

    def reply(self, reply: SendReply) -> None:
        """Add the reply of an executed request to the answers of the connections that wait for it."""
        for route in self._waiting.pop(reply.digest):
            answer = Answered(digest=reply.digest, sequence=reply.sequence, time_ms=reply.time_ms, reply=reply.reply)
            self._replies.setdefault(route, []).append(answer)

    def refuse(self, refusal: SendRefusal) -> None:
        """Add a refusal to the answers of the connections that wait for the request."""
        refused = RequestRefused(digest=refusal.digest, **error_to_wire(refusal.error))
        self._answers += [(route, refused) for route in self._waiting.pop(refusal.digest)]

    def flush(self, send: Callable[[bytes, Answer], bool]) -> None:
        """Send the answers; the replies of one connection in one frame, or as few as fit."""
        for route, replies in self._replies.items():
            for answer in bundled_replies(replies):
                self._send(send, route, answer)
        self._replies.clear()
        for route, answer in self._answers:
            self._send(send, route, answer)
        self._answers.clear()

    def push(self, history: History, now_ms: int, send: Callable[[bytes, Answer], bool]) -> None:
        """Push executed batches to the streams that have credit for them, in the time that is left for readings."""
        budget_s = self._read_time.left_s
        started_s = self._clock()
        unsent = self._streams.push(history, now_ms, send, budget_s=budget_s, clock=self._clock)
        self._read_time.spend(self._clock() - started_s)
        if unsent:
            self._counters["answers_unsent"] += unsent

    def _send(self, send: Callable[[bytes, Answer], bool], route: bytes, answer: Answer) -> None:
        if not send(route, answer):
            self._counters["answers_unsent"] += 1


def bundled_replies(replies: list[Answered]) -> Iterable[Answer]:
    """Frames that carry these replies in their order, as few as `_REPLIES_BYTES` allows but with at least one each."""
    room_bytes, first = _REPLIES_BYTES, 0
    for index, reply in enumerate(replies):
        size_bytes = len(reply.reply) + _REPLY_ROOM_BYTES
        if size_bytes > room_bytes and index > first:
            yield _one_or_all(replies[first:index])
            room_bytes, first = _REPLIES_BYTES, index
        room_bytes -= size_bytes
    yield _one_or_all(replies[first:])


def _one_or_all(replies: list[Answered]) -> Answer:
    return replies[0] if len(replies) == 1 else AnsweredAll(tuple(replies))
