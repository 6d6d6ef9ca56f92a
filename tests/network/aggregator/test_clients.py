"""The clients' side of an aggregator: frames become requests and answers, and nothing is sent before `flush`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pot_lab.agreement.application import RequestId
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import SendRefusal, SendReply, Submitted
from pot_lab.crypto.canonical import encode
from pot_lab.errors import Malformed
from pot_lab.network.aggregator import clients as clients_module
from pot_lab.network.aggregator.client_classes import MUTE_S
from pot_lab.network.aggregator.clients import AnswersQuestions, ClientService, QuestionAnswerer, bundled_replies
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.aggregator.metrics import Metrics
from pot_lab.network.aggregator.request_queue import REQUESTS_A_TURN
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
from pot_lab.network.zmtp.listener import Sender
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
        self.now_s = 0.0
        self.strangers = {b"s"}
        self.clients = self.service(Answers())
        self.sent: list[tuple[bytes, Answer]] = []
        self.gone: set[bytes] = set()

    def service(self, answers: AnswersQuestions) -> ClientService:
        return ClientService(
            answers, self.validate, self.is_funded, self.counters, lambda: self.now_s, lambda: self.now_s
        )

    def validate(self, request: bytes) -> RequestId:
        """Takes a tenth of a millisecond of the service's clock; false is what begins so."""
        self.now_s += 1e-4
        if request.startswith(b"false"):
            raise Malformed("false", seen=request)
        return RequestId(request[:1], 1)

    def is_funded(self, account: bytes) -> bool:
        return account not in self.strangers

    def send(self, route: bytes, answer: Answer) -> bool:
        if route in self.gone:
            return False
        self.sent.append((route, answer))
        return True

    def take(self, *questions: Question, route: bytes = ROUTE, client: str = "client") -> list[Submitted]:
        self.clients.receive((Sender(client, "here", route), encode_frame(each)) for each in questions)
        submitted = self.clients.take_up(1_000)
        self.clients.read(1_000, quiet=True)
        return submitted

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
    client, nobody = Sender("client", "here", ROUTE), Sender("", "here", ROUTE)
    frames = [(client, None), (nobody, encode_frame(AskStatus(1))), (client, b"\xc1"), (client, bytes(600_000))]
    service.clients.receive(frames)
    assert service.clients.take_up(0) == [] and service.clients.wait_ms is None
    assert service.counters == {"client_frames_malformed": 3, "client_frames_oversize": 1}


def test_a_turn_takes_so_many_requests_and_a_client_with_a_full_queue_is_not_read(service: Service) -> None:
    client = Sender("client", "here", ROUTE)
    for number in range(4):
        assert service.clients.wants(client)
        bundle = SubmitAll(tuple(b"%d %d" % (number, each) for each in range(100)), True)
        service.clients.receive([(client, encode_frame(bundle))])
    assert not service.clients.wants(client) and service.clients.wants(Sender("other", "here", b"other"))
    assert service.clients.wait_ms == 0 and len(service.clients.take_up(0)) == REQUESTS_A_TURN
    assert service.clients.wants(client)
    assert len(service.clients.take_up(0)) == 400 - REQUESTS_A_TURN and service.clients.wait_ms is None
    assert not service.clients.counters


def test_requests_wait_in_fair_order_while_the_replica_has_no_room(service: Service) -> None:
    """In a full pool whoever came later would be refused, whatever it had sent before."""
    flood, quiet = Sender("flood", "there", b"flood"), Sender("quiet", "here", b"quiet")
    for number in range(3):
        bundle = SubmitAll(tuple(b"%d %d" % (number, each) for each in range(100)), True)
        service.clients.receive([(flood, encode_frame(bundle))])
    assert len(service.clients.take_up(0, 10)) == 10
    assert service.clients.take_up(0, 0) == [] == service.clients.take_up(0, -5)
    assert service.clients.wait_ms == 10, "the loop does not spin"
    service.clients.receive([(quiet, encode_frame(Submit(b"mine", True)))])
    assert submitted(b"mine") in service.clients.take_up(0, 2)
    assert service.clients.wait_ms == 0


def test_a_false_request_is_refused_before_the_replica_has_it(service: Service) -> None:
    assert service.take(SubmitAll((b"false", b"a"), True)) == [submitted(b"a")]
    refused = RequestRefused(
        digest=request_digest(b"false"), code="Malformed", message="false", seen="66616c7365", wanted=""
    )
    assert service.flush() == [(ROUTE, refused)]
    assert service.counters["requests_refused"] == 1


def flood(service: Service, begins: bytes, *, clients: int, each: int = 100) -> None:
    """Many clients of one site send many requests each."""
    for number in range(clients):
        bundle = SubmitAll(tuple(begins + b"%d %d" % (number, place) for place in range(each)), True)
        sender = Sender(f"stranger {number}", "there", b"%d" % number)
        service.clients.receive([(sender, encode_frame(bundle))])


def turns_time_s(service: Service, *, quiet: bool = False) -> float:
    started_s = service.now_s
    service.clients.take_up(0, quiet=quiet)
    return service.now_s - started_s


@pytest.mark.parametrize("begins", [b"false", b"s"])
def test_requests_of_strangers_have_a_share_of_the_time_whatever_number_of_keys_they_use(
    service: Service, begins: bytes
) -> None:
    flood(service, begins, clients=40)
    took_s = [turns_time_s(service) for _ in range(100)]
    assert all(each < 0.003 for each in took_s) and service.clients.wait_ms in (0, 2)
    service.now_s += 1.0
    began_s, worked_s = service.now_s, 0.0
    while service.now_s < began_s + 1.0:
        worked_s += turns_time_s(service)
        service.now_s += 0.005
    assert 0.02 < worked_s < 0.125, "of a second, since ordering and answers cost as well"


def test_strangers_have_a_turns_time_while_nothing_is_decided(service: Service) -> None:
    flood(service, b"false", clients=4)
    for _ in range(10):
        assert 0.001 < turns_time_s(service, quiet=True) < 0.003


def test_funded_accounts_are_served_first_and_unfunded_ones_before_those_of_no_standing(service: Service) -> None:
    funded, unfunded = Sender("funded", "there", b"funded"), Sender("unfunded", "there", b"unfunded")
    for sender, request in ((funded, b"funded"), (unfunded, b"s unfunded")):
        service.clients.receive([(sender, encode_frame(Submit(request, True)))])
        assert service.clients.take_up(0) == [submitted(request)]
    flood(service, b"s", clients=40)
    service.now_s += 1.0
    service.clients.receive([(unfunded, encode_frame(Submit(b"s again", True)))])
    service.clients.receive([(funded, encode_frame(Submit(b"funded again", True)))])
    assert service.clients.take_up(0)[:2] == [submitted(b"funded again"), submitted(b"s again")]


def test_one_false_request_ends_a_standing_for_a_while(service: Service) -> None:
    client = Sender("client", "there", ROUTE)
    service.clients.receive([(client, encode_frame(Submit(b"a", True)))])
    service.clients.take_up(0)
    rest = tuple(b"false %d" % number for number in range(100))
    service.clients.receive([(client, encode_frame(SubmitAll(rest, True)))])
    assert turns_time_s(service) < 0.003
    for _ in range(1_000):
        turns_time_s(service)
        service.now_s += 0.01
    assert service.clients.wait_ms is None and service.counters["requests_refused"] == 100
    other = Sender("other", "there", b"other")

    def first_of_both() -> bytes:
        """Whose request comes first, where the one that was false speaks first and right."""
        for sender, name in ((client, b"a"), (other, b"b")):
            service.clients.receive([(sender, encode_frame(Submit(name + b" %f" % service.now_s, True)))])
        return service.clients.take_up(0)[0].request[:1]

    first_of_both()
    assert first_of_both() == b"b"
    service.now_s += MUTE_S
    first_of_both()
    assert first_of_both() == b"a"


def test_what_a_client_sends_stays_in_its_order_when_its_standing_changes(service: Service) -> None:
    requests = tuple(b"request %d" % number for number in range(60))
    client = Sender("client", "there", ROUTE)
    service.clients.receive([(client, encode_frame(SubmitAll(requests[:50], True)))])
    taken = service.clients.take_up(0, 3)
    service.clients.receive([(client, encode_frame(SubmitAll(requests[50:], True)))])
    taken += service.clients.take_up(0)
    assert [each.request for each in taken] == [*requests]


class Costly(Answers):
    """A query takes a millisecond of the service's clock."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def query(self, question: Query) -> Answer:
        self.service.now_s += 0.001
        return super().query(question)


def test_queries_have_a_turns_time_and_a_share_of_it_while_something_is_decided(service: Service) -> None:
    service.clients = service.service(Costly(service))
    client = Sender("client", "here", ROUTE)
    service.clients.receive((client, encode_frame(Query(number, "q", b""))) for number in range(40))

    def answered(*, quiet: bool) -> int:
        service.clients.read(0, quiet=quiet)
        return len(service.flush())

    assert [answered(quiet=True) for _ in range(3)] == [2, 2, 2]
    assert answered(quiet=False) == 1, "a quarter of the 2 ms that the turn before took"
    service.now_s += 0.001
    assert answered(quiet=False) == 0 and service.clients.wait_ms == 2
    service.now_s += 0.1
    assert answered(quiet=False) == 2
    assert answered(quiet=True) == 2


def test_queries_of_one_client_delay_those_of_another_by_one(service: Service) -> None:
    service.clients = service.service(Costly(service))
    heavy, light = Sender("heavy", "here", b"heavy"), Sender("light", "here", b"light")
    service.clients.receive((heavy, encode_frame(Query(number, "q", b""))) for number in range(64))
    service.clients.read(0, quiet=True)
    service.flush()
    service.clients.receive([(light, encode_frame(Query(1, "q", b"")))])
    service.clients.read(0, quiet=True)
    assert b"light" in [route for route, _ in service.flush()]


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


def test_a_query_that_finds_a_fault_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, _ = answerer()

    def broken(self: Toy, name: str, arguments: bytes) -> bytes:
        raise KeyError(name)

    monkeypatch.setattr(Toy, "query", broken)
    refused = answers.query(Query(1, "total", b""))
    assert isinstance(refused, QueryRefused) and refused.code == "QueryFailed"


def test_an_answer_is_computed_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, replica = answerer()
    asked: list[tuple[str, bytes]] = []

    def answer(self: Toy, name: str, arguments: bytes) -> bytes:
        asked.append((name, arguments))
        return b"%d" % len(asked)

    monkeypatch.setattr(Toy, "query", answer)
    for number in range(3):
        assert answers.query(Query(number, "q", b"x")) == QueryAnswered(number, 0, b"1")
    assert answers.query(Query(4, "q", b"y")) == QueryAnswered(4, 0, b"2")
    replica.executed = 7
    assert answers.query(Query(5, "q", b"x")) == QueryAnswered(5, 7, b"3")
    monkeypatch.setattr(clients_module, "_KNOWN_BYTES", 5)
    replica.executed = 8
    for number in range(3):
        answers.query(Query(number, "q", b"12345"))
    assert len(asked) == 6


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
