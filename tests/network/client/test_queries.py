"""A query ends with f+1 equal answers of a state that is new enough; status never fails."""

from __future__ import annotations

import pytest

from pot_lab.network.client.calls import AggregatorStatus, Call, Vouched
from pot_lab.network.client.queries import Queries, StatusQueries
from pot_lab.network.errors import ClientClosed, NoAgreement, Unreachable
from pot_lab.network.wire import AskStatus, Query, QueryAnswered, QueryRefused, StatusAnswered, decode_question
from pot_lab.protocol.errors import UnknownOrder
from tests.network.client.parts import KeptLinks, TurnedLoop

N = 4


class Client:
    def __init__(self, n: int = N) -> None:
        self.loop, self.links, self.vouched = TurnedLoop(), KeptLinks(n), Vouched(n)
        self.queries = Queries(self.loop, self.links, self.vouched)

    def query(self, only: int | None = None, timeout_s: float = 10.0) -> Call[bytes]:
        call: Call[bytes] = Call()
        self.queries.begin("total", b"x", only, call, timeout_s)
        return call

    def answer(self, index: int, number: int, answer: bytes = b"a", executed: int = 5) -> None:
        self.queries.on_answer(index, QueryAnswered(number, executed, answer))

    def refuse(self, index: int, number: int, message: str = "no", executed: int = 5) -> None:
        refused = QueryRefused(
            call=number, executed=executed, code="UnknownOrder", message=message, seen="s", wanted="w"
        )
        self.queries.on_answer(index, refused)


def asked(number: int) -> list[Query]:
    return [Query(number, "total", b"x")]


def test_the_second_equal_answer_ends_the_query() -> None:
    client = Client()
    call = client.query()
    assert client.links.sent() == [asked(1)] * N
    client.answer(0, 1)
    client.answer(1, 1, b"b")
    client.answer(0, 1)
    assert not call.done()
    client.answer(2, 1)
    assert call.result(0) == b"a"


def test_refusals_are_equal_in_all_their_texts() -> None:
    client = Client()
    call = client.query()
    client.refuse(0, 1)
    client.refuse(1, 1, "not at all")
    client.answer(2, 1)
    assert not call.done()
    client.refuse(3, 1)
    with pytest.raises(UnknownOrder, match=r"no \(seen: s, wanted: w\)"):
        call.result(0)


def test_an_answer_of_an_older_state_than_known_counts_for_nothing() -> None:
    client = Client()
    client.vouched.note(6)
    call = client.query()
    client.answer(0, 1, executed=5)
    client.answer(1, 1, executed=5)
    client.answer(2, 1, executed=6)
    assert not call.done()
    client.answer(3, 1, executed=7)
    assert call.result(0) == b"a" and client.vouched.known == 6


def test_the_known_state_is_the_oldest_of_those_that_agreed() -> None:
    client = Client()
    client.query()
    client.answer(0, 1, executed=9)
    client.answer(1, 1, b"b", executed=3)
    client.answer(2, 1, executed=8)
    assert client.vouched.known == 8


def test_one_aggregator_alone_is_asked_and_nobody_vouches() -> None:
    client = Client()
    client.vouched.note(6)
    call = client.query(only=2)
    assert client.links.sent() == [[], [], asked(1), []]
    client.answer(1, 1)
    assert not call.done()
    client.answer(2, 1, executed=1)
    assert call.result(0) == b"a" and client.vouched.known == 6


def test_when_all_answered_differently_the_next_round_asks_again() -> None:
    client = Client()
    call = client.query()
    client.links.sent()
    for index in range(N):
        client.answer(index, 1, b"%d" % index)
    client.loop.pass_time(0.03)
    assert client.links.sent() == [asked(2)] * N
    client.answer(0, 1)
    client.answer(0, 2)
    assert not call.done()
    client.answer(1, 2)
    assert call.done()


def test_when_enough_answered_differently_the_others_are_waited_for_a_round_only() -> None:
    client = Client()
    client.query()
    client.links.sent()
    client.answer(0, 1, b"0")
    client.loop.pass_time(1)
    assert not any(client.links.sent()), "one answer alone is no reason to ask again"
    client.answer(1, 1, b"1")
    client.loop.pass_time(0.03)
    assert client.links.sent() == [asked(2)] * N


def test_rounds_become_longer_up_to_half_a_second() -> None:
    client = Client()
    client.query(timeout_s=30)
    number, times_s, start_s = 1, [], client.loop.time_s
    client.links.sent()
    while len(times_s) < 9:
        for index in range(N):
            client.answer(index, number, b"%d" % index)
        client.loop.pass_time(0.01)
        if any(client.links.sent()):
            number += 1
            times_s.append(client.loop.time_s - start_s)
    waits_s = [round(after - before, 2) for before, after in zip([0.0, *times_s], times_s, strict=False)]
    assert waits_s == sorted(waits_s) and waits_s[0] == 0.03 and 0.5 <= waits_s[-1] <= 0.51


def test_a_query_without_agreement_fails_at_its_time() -> None:
    client = Client()
    silent, different = client.query(timeout_s=2.0), client.query(timeout_s=2.0)
    client.answer(0, 2, b"0")
    client.loop.pass_time(1.99)
    client.answer(1, 2, b"1")
    assert not silent.done() and not different.done()
    client.loop.pass_time(0.05)
    with pytest.raises(Unreachable, match="the query total was not answered by 2"):
        silent.result(0)
    with pytest.raises(NoAgreement):
        different.result(0)
    client.links.sent()
    client.loop.pass_time(10)
    assert not any(client.links.sent())


def test_one_aggregators_silence_is_one_answer_missing() -> None:
    client = Client()
    call = client.query(only=1, timeout_s=1.0)
    client.loop.pass_time(1.1)
    with pytest.raises(Unreachable, match="by 1"):
        call.result(0)


def test_a_new_connection_gets_the_queries_that_concern_it() -> None:
    client = Client()
    client.query()
    client.query(only=1)
    client.answer(0, 1)
    assert [decode_question(frame) for frame in client.queries.frames_for(0)] == []
    assert [decode_question(frame) for frame in client.queries.frames_for(1)] == [*asked(1), *asked(2)]
    assert [decode_question(frame) for frame in client.queries.frames_for(2)] == asked(1)


def test_answers_of_the_set_before_do_not_count_in_the_next() -> None:
    client = Client()
    call = client.query()
    client.answer(0, 1)
    client.queries.forget_answers()
    client.answer(1, 1)
    assert not call.done()
    client.answer(0, 1)
    assert call.done()


def test_a_closed_client_fails_its_queries() -> None:
    client = Client()
    call = client.query()
    client.queries.fail_all(ClientClosed("gone"))
    with pytest.raises(ClientClosed):
        call.result(0)
    assert list(client.queries.frames_for(1)) == []


def test_without_connections_nothing_is_asked() -> None:
    client = Client()
    client.links.links.clear()
    call = client.query()
    client.loop.pass_time(60)
    assert not call.done()


# Status.


class StatusClient:
    def __init__(self) -> None:
        self.loop, self.links = TurnedLoop(), KeptLinks(N)
        self.statuses = StatusQueries(self.loop, self.links)

    def status(self, timeout_s: float = 2.0) -> Call[list[AggregatorStatus]]:
        call: Call[list[AggregatorStatus]] = Call()
        self.statuses.begin(call, timeout_s)
        return call

    def answer(self, index: int, number: int, executed: int) -> None:
        self.statuses.on_answer(
            index,
            StatusAnswered(
                call=number, view=8, primary=2, executed=executed, time_ms=3, state=bytes(32), counters={"a": index}
            ),
        )


def test_status_ends_when_all_answered_and_says_who_lags() -> None:
    client = StatusClient()
    call = client.status()
    assert client.links.sent() == [[AskStatus(1)]] * N
    for index, executed in enumerate([9, 7, 9]):
        client.answer(index, 1, executed)
    assert not call.done()
    client.answer(3, 1, 4)
    states = call.result(0)
    assert [state.index for state in states] == [0, 1, 2, 3]
    assert [state.lag for state in states] == [0, 2, 0, 5]
    first = states[0]
    assert (first.reachable, first.reason, first.view, first.primary) == (True, "", 8, 2)
    assert (first.height, first.time_ms, first.state, first.counters) == (9, 3, bytes(32), {"a": 0})


def test_who_does_not_answer_in_time_is_not_reachable_and_that_is_no_error() -> None:
    client = StatusClient()
    call = client.status(timeout_s=2.0)
    client.answer(1, 1, 9)
    client.loop.pass_time(1.99)
    assert not call.done()
    client.loop.pass_time(0.02)
    states = call.result(0)
    assert [state.reachable for state in states] == [False, True, False, False]
    assert states[0].reason == "aggregator 0 is away"
    away = states[0]
    assert (away.view, away.primary, away.height, away.lag, away.time_ms, away.state, away.counters) == (
        *(0, 0, 0, 0, 0),
        b"",
        {},
    )
    client.answer(0, 1, 9)


def test_a_status_of_nobody_is_no_error() -> None:
    client = StatusClient()
    call = client.status(timeout_s=1.0)
    client.loop.pass_time(1.0)
    assert [state.reachable for state in call.result(0)] == [False] * N


def test_a_new_connection_gets_the_status_calls_it_has_not_answered() -> None:
    client = StatusClient()
    client.status()
    client.status()
    client.answer(0, 1, 9)
    assert [decode_question(frame) for frame in client.statuses.frames_for(0)] == [AskStatus(2)]
    assert [decode_question(frame) for frame in client.statuses.frames_for(1)] == [AskStatus(1), AskStatus(2)]
    client.statuses.fail_all(ClientClosed("gone"))
    assert list(client.statuses.frames_for(1)) == []
