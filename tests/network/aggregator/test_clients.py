"""The clients' side of an aggregator: frames become requests and answers, and nothing is sent before `flush`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import SendRefusal, SendReply, Submitted
from pot_lab.crypto.canonical import encode
from pot_lab.errors import Malformed
from pot_lab.network.aggregator import clients as clients_module
from pot_lab.network.aggregator.clients import QUESTIONS_A_TURN, ClientService, QuestionAnswerer, bundled_replies
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.aggregator.metrics import Metrics
from pot_lab.network.wire import (
    Answer,
    Answered,
    AnsweredAll,
    AskStatus,
    Follow,
    Pushed,
    Query,
    QueryAnswered,
    QueryRefused,
    Question,
    RequestRefused,
    StatusAnswered,
    Submit,
    SubmitAll,
    Unfollow,
    encode_frame,
)
from tests.network.toy import Toy
from tests.protocol.world import key

ROUTE = b"route"


class Answers:
    """Answers every question by its number."""

    def query(self, question: Query) -> Answer:
        return QueryAnswered(question.call, 1, question.arguments)

    def status(self, call: int) -> Answer:
        return QueryAnswered(call, 1, b"status")


class Service:
    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.clients = ClientService(Answers(), self.counters)
        self.sent: list[tuple[bytes, Answer]] = []
        self.gone: set[bytes] = set()

    def send(self, route: bytes, answer: Answer) -> bool:
        if route in self.gone:
            return False
        self.sent.append((route, answer))
        return True

    def take(self, *questions: Question, route: bytes = ROUTE, client: str = "client") -> list[Submitted]:
        self.clients.receive((client, route, encode_frame(each)) for each in questions)
        return self.clients.take_up(1_000)

    def flush(self) -> list[tuple[bytes, Answer]]:
        self.clients.flush(self.send)
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def service() -> Service:
    return Service()


def submitted(request: bytes, *, spread: bool = True) -> Submitted:
    return Submitted(request, spread, request_digest(request))


def replied(request: bytes, reply: bytes = b"r", sequence: int = 3) -> SendReply:
    return SendReply(digest=request_digest(request), sequence=sequence, time_ms=30, reply=reply)


def answered(request: bytes, reply: bytes = b"r", sequence: int = 3) -> Answered:
    return Answered(digest=request_digest(request), sequence=sequence, time_ms=30, reply=reply)


def test_requests_go_to_the_replica_and_their_replies_to_whom_waits(service: Service) -> None:
    assert service.take(Submit(b"a", True)) == [submitted(b"a")]
    assert service.take(Submit(b"a", False), route=b"other") == [submitted(b"a", spread=False)]
    assert service.flush() == []
    service.clients.reply(replied(b"a"))
    service.clients.reply(replied(b"nobody waits for this"))
    assert service.flush() == [(ROUTE, answered(b"a")), (b"other", answered(b"a"))]
    service.clients.reply(replied(b"a"))
    assert service.flush() == []


def test_a_bundle_is_as_many_requests(service: Service) -> None:
    assert service.take(SubmitAll((b"a", b"b"), True)) == [submitted(b"a"), submitted(b"b")]
    service.clients.reply(replied(b"a"))
    service.clients.reply(replied(b"b"))
    assert service.flush() == [(ROUTE, AnsweredAll((answered(b"a"), answered(b"b"))))]


def test_a_refusal_names_the_rule_to_whom_waits_and_once(service: Service) -> None:
    service.take(Submit(b"a", True))
    refusal = SendRefusal(request_digest(b"a"), Malformed("bad", seen=1, wanted=2))
    service.clients.refuse(refusal)
    expected = RequestRefused(digest=request_digest(b"a"), code="Malformed", message="bad", seen="1", wanted="2")
    assert service.flush() == [(ROUTE, expected)]
    service.clients.refuse(refusal)
    assert service.flush() == []


def test_queries_and_status_are_answered_on_the_connection_that_asked(service: Service) -> None:
    assert service.take(Query(7, "total", b"x"), AskStatus(8)) == []
    assert service.flush() == [(ROUTE, QueryAnswered(7, 1, b"x")), (ROUTE, QueryAnswered(8, 1, b"status"))]
    assert service.counters == {"queries": 1}


def test_what_is_no_question_is_counted_and_dropped(service: Service) -> None:
    frames = [("client", ROUTE, None), ("", ROUTE, encode_frame(AskStatus(1))), ("client", ROUTE, b"\xc1")]
    service.clients.receive([*frames, ("client", ROUTE, bytes(600_000))])
    assert service.clients.take_up(0) == [] and not service.clients.busy
    assert service.counters == {"client_frames_malformed": 3, "client_frames_oversize": 1}


def test_a_turn_takes_so_many_and_leaves_the_rest_where_it_is(service: Service) -> None:
    frames = iter([("client", ROUTE, encode_frame(Submit(b"%d" % n, True))) for n in range(QUESTIONS_A_TURN + 5)])
    service.clients.receive(frames)
    assert len(list(frames)) == 5
    assert service.clients.busy and len(service.clients.take_up(0)) == QUESTIONS_A_TURN and not service.clients.busy
    service.clients.receive([("client", ROUTE, encode_frame(SubmitAll((b"x",) * 100, True)))] * 5)
    assert len(service.clients.take_up(0)) == QUESTIONS_A_TURN and service.clients.busy
    assert len(service.clients.take_up(0)) == 300 - QUESTIONS_A_TURN


def test_what_is_not_sent_is_counted(service: Service) -> None:
    service.take(Submit(b"a", True), Query(1, "q", b""))
    service.clients.reply(replied(b"a"))
    service.gone.add(ROUTE)
    assert service.flush() == [] and service.counters["answers_unsent"] == 2


def test_replies_are_bundled_up_to_a_size_with_at_least_one_each() -> None:
    def sizes(*replies_bytes: int) -> list[int]:
        replies = [answered(b"%d" % n, bytes(size)) for n, size in enumerate(replies_bytes)]
        frames = list(bundled_replies(replies))
        counts = [len(each.answers) if isinstance(each, AnsweredAll) else 1 for each in frames]
        flat = [one for each in frames for one in (each.answers if isinstance(each, AnsweredAll) else (each,))]
        assert flat == replies and not any(isinstance(each, AnsweredAll) and len(each.answers) == 1 for each in frames)
        return counts

    limit, room = clients_module._REPLIES_BYTES, clients_module._REPLY_ROOM_BYTES
    half = limit // 2 - room
    assert sizes(1) == [1]
    assert sizes(1, 1, 1) == [3]
    assert sizes(half, half) == [2]
    assert sizes(half, half, 1) == [2, 1]
    assert sizes(half, half + 1) == [1, 1]
    assert sizes(2 * limit, 2 * limit, 1, 1) == [1, 1, 2]
    assert sizes(half, half, half, half, half) == [2, 2, 1]


def test_batches_are_pushed_for_credit_and_from_where_the_stream_is(service: Service, tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite", "flush")
    history.append([HistoryRow(sequence, sequence * 10, (b"e%d" % sequence,)) for sequence in range(1, 6)])
    service.take(Follow(1, 2, 2), Follow(2, 4, 9))
    service.clients.push(history, 1_000, service.send)
    pushed = [
        (answer.stream, answer.sequence, answer.time_ms, answer.events)
        for _, answer in service.sent
        if isinstance(answer, Pushed)
    ]
    assert pushed == [(1, 2, 20, (b"e2",)), (1, 3, 30, (b"e3",)), (2, 4, 40, (b"e4",)), (2, 5, 50, (b"e5",))]
    service.sent.clear()
    service.clients.push(history, 1_000, service.send)
    assert service.sent == []
    service.take(Follow(1, 4, 1), Unfollow(2))
    history.append([HistoryRow(6, 60, ())])
    service.clients.push(history, 1_000, service.send)
    assert [answer.sequence for _, answer in service.sent if isinstance(answer, Pushed)] == [4]
    history.close()


def test_too_many_streams_of_one_connection_are_counted(service: Service) -> None:
    service.take(*(Follow(number, 1, 1) for number in range(20)))
    assert service.counters["streams_refused"] == 4


class LateSuccession:
    """Sets of aggregators whose eras are asked for."""

    def __init__(self) -> None:
        self.eras: list[int] = []

    def since(self, era: int) -> list[object]:
        self.eras.append(era)
        return []


def answerer() -> tuple[QuestionAnswerer, Replica]:
    identities = [key(f"replica {index}") for index in range(4)]
    membership = Membership(network_id=bytes(32), addresses=tuple(each.address for each in identities), index=0)
    replica, toy = Replica(membership, identities[0], Toy()), Toy()
    return QuestionAnswerer(replica, toy, Metrics(replica, lambda: 0)), replica


def test_metrics_handovers_and_proofs_are_answered_by_the_aggregator_and_the_rest_by_the_application() -> None:
    answers, replica = answerer()
    assert answers.query(Query(1, "total", b"")) == QueryAnswered(1, 0, b"0")
    metrics = answers.query(Query(2, "metrics", b""))
    assert isinstance(metrics, QueryAnswered) and metrics.answer.startswith(b"pot_lab_view 0\n")
    assert answers.query(Query(3, "handovers", bytes(8))) == QueryAnswered(3, 0, encode(()))
    unknown = answers.query(Query(4, "weather", b""))
    assert isinstance(unknown, QueryRefused) and (unknown.call, unknown.executed, unknown.seen) == (4, 0, "weather")
    unproved = answers.query(Query(5, "proof", bytes(32)))
    assert isinstance(unproved, QueryRefused) and unproved.code == "NoProof"
    status = answers.status(6)
    assert isinstance(status, StatusAnswered)
    assert (status.call, status.view, status.primary, status.executed) == (6, 0, 0, 0)
    assert (status.time_ms, status.state) == (replica.time_ms, replica.state) and "uptime_ms" in status.counters


def test_the_era_of_handovers_is_eight_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, replica = answerer()
    sets = LateSuccession()
    monkeypatch.setattr(replica, "succession", sets)
    answers.query(Query(1, "handovers", (0x0102030405060708).to_bytes(8, "big") + b"more"))
    assert sets.eras == [0x0102030405060708]


def test_an_answer_that_fits_no_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, _ = answerer()
    monkeypatch.setattr(clients_module, "MAX_ANSWER_FRAME_BYTES", 64 + 10)
    monkeypatch.setattr(Toy, "query", lambda self, name, arguments: arguments)
    assert answers.query(Query(1, "echo", bytes(10))) == QueryAnswered(1, 0, bytes(10))
    refused = answers.query(Query(1, "echo", bytes(11)))
    assert isinstance(refused, QueryRefused)
    assert (refused.code, refused.seen, refused.wanted) == ("Oversize", "11 bytes", "at most 10 bytes")
