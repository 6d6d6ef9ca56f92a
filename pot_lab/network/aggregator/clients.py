"""The clients of an aggregator: their frames become requests and queries, and get answers, refusals and pushes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol, assert_never

from pot_lab.agreement.application import Application
from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import SendRefusal, SendReply, Submitted
from pot_lab.crypto.canonical import encode
from pot_lab.errors import InvariantBroken, Oversize, PotLabError
from pot_lab.network.aggregator.client_queues import FairQueue, Streams, Waiting
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.aggregator.metrics import Metrics
from pot_lab.network.seats import HANDOVERS, encode_handovers
from pot_lab.network.wire import (
    MAX_ANSWER_FRAME_BYTES,
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
    Submit,
    SubmitAll,
    Unfollow,
    decode_question,
)
from pot_lab.network.wire_codes import error_to_wire

QUESTIONS_A_TURN = 256
"""How many questions are taken up in one turn."""
_PUSHES_A_TURN = 64
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
    """Answers queries and status calls of one aggregator: `metrics`, `handovers` and `proof` itself, the rest by the
    application.
    """

    def __init__(self, replica: Replica, application: Application, metrics: Metrics) -> None:
        self._replica, self._application, self._metrics = replica, application, metrics

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
        if name == "proof":
            return encode(self._replica.prove(arguments))
        return self._application.query(name, arguments)


class ClientService:
    """The clients' side of one aggregator. Answers gather until `flush`, which comes after the log was written.

    Args:
        answerer: answers queries and status calls.
        counters: counts what is refused, dropped or not sent.
    """

    def __init__(self, answerer: AnswersQuestions, counters: Counter[str]) -> None:
        self._answerer, self._counters = answerer, counters
        self._queue, self._waiting, self._streams = FairQueue(), Waiting(), Streams()
        self._replies: dict[bytes, list[Answered]] = {}
        self._answers: list[tuple[bytes, Answer]] = []

    @property
    def counters(self) -> Counter[str]:
        """What the queue counted."""
        return self._queue.counters

    @property
    def busy(self) -> bool:
        """Whether questions wait for their turn."""
        return bool(self._queue)

    def receive(self, frames: Iterable[tuple[str, bytes, bytes | None]]) -> None:
        """Queue the questions in these frames (client, route back, frame); stops reading once a turn's are there.

        What stays in the socket is not lost; in a full queue it would be, and later nonces would overtake it.
        """
        for client, route, frame in frames:
            if frame is None or not client:
                self._counters["client_frames_malformed"] += 1
                continue
            try:
                question = decode_question(frame)
            except PotLabError as error:
                self._counters["client_frames_" + error.code.lower()] += 1
                continue
            if isinstance(question, SubmitAll):
                for request in question.requests:
                    self._queue.put(client, route, Submit(request, question.spread))
            else:
                self._queue.put(client, route, question)
            if len(self._queue) >= QUESTIONS_A_TURN:
                return

    def take_up(self, now_ms: int) -> list[Submitted]:
        """Take up a turn's questions, one client after the other; returns the requests among them, for the replica."""
        submitted: list[Submitted] = []
        for _ in range(min(QUESTIONS_A_TURN, len(self._queue))):
            route, question = self._queue.take()
            if isinstance(question, Submit):
                digest = request_digest(question.request)
                self._waiting.add(digest, route, now_ms)
                submitted.append(Submitted(question.request, question.spread, digest))
            elif isinstance(question, Query):
                self._counters["queries"] += 1
                self._answers.append((route, self._answerer.query(question)))
            elif isinstance(question, Follow):
                if not self._streams.follow(route, question, now_ms):
                    self._counters["streams_refused"] += 1
            elif isinstance(question, Unfollow):
                self._streams.unfollow(route, question.stream)
            elif isinstance(question, AskStatus):
                self._answers.append((route, self._answerer.status(question.call)))
            elif isinstance(question, SubmitAll):
                raise InvariantBroken("a bundle is in the queue", wanted="its requests one by one")
            else:
                assert_never(question)
        return submitted

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
        """Push executed batches to the streams that have credit for them."""
        read: dict[int, list[HistoryRow]] = {}
        for stream in self._streams.owed(history.height, now_ms):
            first = stream.next_sequence
            if first not in read:
                read[first] = history.read(first, _PUSHES_A_TURN)
            for row in read[first][: stream.credit]:
                pushed = Pushed(stream=stream.stream, sequence=row.sequence, time_ms=row.time_ms, events=row.events)
                self._send(send, stream.route, pushed)
                stream.next_sequence, stream.credit = row.sequence + 1, stream.credit - 1

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
