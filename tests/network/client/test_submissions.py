"""Requests go to all aggregators in order, again to those that did not answer, and end with f+1 equal answers."""

from __future__ import annotations

import pytest

from pot_lab.consensus.messages import request_digest
from pot_lab.errors import Malformed, Oversize
from pot_lab.network.client.calls import Call, Vouched
from pot_lab.network.client.submissions import MAX_REQUEST_BYTES, Submissions, bundled, check_size
from pot_lab.network.errors import ClientClosed, NoAgreement, Unreachable
from pot_lab.network.wire import (
    MAX_BUNDLE,
    MAX_CLIENT_FRAME_BYTES,
    Answered,
    RequestRefused,
    Submit,
    SubmitAll,
    decode_question,
)
from tests.network.client.parts import KeptLinks, TurnedLoop

N, NEEDED = 4, 2


class Client:
    def __init__(self, in_flight: int = 128) -> None:
        self.loop, self.links, self.vouched = TurnedLoop(), KeptLinks(N), Vouched(N)
        self.submissions = Submissions(self.loop, self.links, self.vouched, in_flight)

    def submit(self, *requests: bytes, timeout_s: float = 30.0) -> list[Call[bytes]]:
        calls: list[Call[bytes]] = [Call() for _ in requests]
        self.submissions.begin(requests, calls, timeout_s)
        return calls

    def answer(self, index: int, request: bytes, reply: bytes = b"ok", sequence: int = 7) -> None:
        digest = request_digest(request)
        self.submissions.on_answered(index, Answered(digest=digest, sequence=sequence, time_ms=1, reply=reply))

    def refuse(self, index: int, request: bytes, code: str = "Malformed") -> None:
        refused = RequestRefused(digest=request_digest(request), code=code, message="no", seen="s", wanted="w")
        self.submissions.on_refused(index, refused)


def one(request: bytes) -> list[list[Submit]]:
    return [[Submit(request, True)]] * N


def test_a_request_goes_to_all_and_ends_with_the_second_equal_reply() -> None:
    client = Client()
    [call] = client.submit(b"a")
    assert client.links.sent() == one(b"a")
    client.answer(0, b"a")
    client.answer(1, b"a", b"another reply")
    client.answer(0, b"a")
    assert not call.done()
    client.answer(3, b"a")
    assert call.result(0) == b"ok" and client.vouched.known == 7


def test_replies_of_another_batch_or_time_are_not_equal() -> None:
    client = Client()
    [call] = client.submit(b"a")
    client.answer(0, b"a", sequence=7)
    client.answer(1, b"a", sequence=8)
    assert not call.done()
    client.answer(2, b"a", sequence=8)
    assert call.done() and client.vouched.known == 8


def test_a_request_is_resent_with_growing_waits_to_those_that_did_not_answer() -> None:
    client = Client()
    client.submit(b"a")
    client.links.sent()
    client.answer(2, b"a")
    times_s, start_s = [], client.loop.time_s
    while client.loop.time_s < start_s + 12:
        client.loop.pass_time(0.25)
        sent = client.links.sent()
        if any(sent):
            assert sent == [[Submit(b"a", True)], [Submit(b"a", True)], [], [Submit(b"a", True)]]
            times_s.append(client.loop.time_s - start_s)
    assert times_s == [0.5, 1.5, 3.5, 7.5, 11.5]


def test_the_first_wait_grows_with_the_time_that_answers_take() -> None:
    client = Client()
    client.submit(b"a")
    client.loop.pass_time(0.4)
    client.answer(0, b"a")
    client.answer(1, b"a")
    client.links.sent()
    client.submit(b"b")
    client.links.sent()
    client.loop.pass_time(1.19)
    assert not any(client.links.sent())
    client.loop.pass_time(0.02)
    assert client.links.sent() == one(b"b")


def test_a_request_without_enough_answers_fails_at_its_time_and_not_before() -> None:
    client = Client()
    [call] = client.submit(b"a", timeout_s=5.0)
    client.answer(0, b"a")
    client.loop.pass_time(4.99)
    assert not call.done()
    client.loop.pass_time(0.02)
    with pytest.raises(Unreachable, match="the request was not answered by 2"):
        call.result(0)
    client.links.sent()
    client.loop.pass_time(20)
    assert not any(client.links.sent())


def test_two_different_answers_are_no_agreement() -> None:
    client = Client()
    [call] = client.submit(b"a", timeout_s=1.0)
    client.answer(0, b"a", b"x")
    client.answer(1, b"a", b"y")
    client.loop.pass_time(1.0)
    with pytest.raises(NoAgreement):
        call.result(0)


def test_the_second_refusal_under_one_code_ends_the_call_with_its_error() -> None:
    client = Client()
    [call] = client.submit(b"a")
    client.refuse(0, b"a")
    client.refuse(1, b"a", "Oversize")
    assert not call.done()
    client.refuse(2, b"a")
    with pytest.raises(Malformed, match=r"no \(seen: s, wanted: w\)"):
        call.result(0)


def test_a_full_queue_is_no_end_and_the_request_is_resent() -> None:
    client = Client()
    [call] = client.submit(b"a")
    client.links.sent()
    for index in range(N):
        client.refuse(index, b"a", "QueueFull")
    assert not call.done()
    client.loop.pass_time(0.5)
    assert client.links.sent() == one(b"a")


def test_the_same_bytes_again_are_sent_again_and_answered_once_for_both() -> None:
    client = Client()
    [first] = client.submit(b"a")
    client.answer(0, b"a")
    client.links.sent()
    [second] = client.submit(b"a")
    assert client.links.sent() == one(b"a")
    client.answer(1, b"a")
    assert first.done() and not second.done()
    client.answer(0, b"a")
    assert second.result(0) == b"ok"


def test_only_so_many_are_unanswered_at_once_and_the_others_follow_in_order() -> None:
    client = Client(in_flight=2)
    requests = [b"a", b"b", b"c", b"d"]
    calls = client.submit(*requests)
    assert client.links.sent() == [[SubmitAll((b"a", b"b"), True)]] * N
    for index in range(NEEDED):
        client.answer(index, b"b")
    assert calls[1].done() and client.links.sent() == one(b"c")
    for index in range(NEEDED):
        client.answer(index, b"a")
    assert client.links.sent() == one(b"d")
    for request in (b"c", b"d"):
        for index in range(NEEDED):
            client.answer(index, request)
    assert all(call.done() for call in calls) and not any(client.links.sent())


def test_a_request_whose_turn_never_came_fails_in_time_and_gives_no_turn_away() -> None:
    client = Client(in_flight=1)
    first, second, third = client.submit(b"a", timeout_s=9), client.submit(b"b", timeout_s=1), client.submit(b"c")
    client.links.sent()
    client.loop.pass_time(1.0)
    assert second[0].done() and not first[0].done() and not third[0].done()
    assert all(sent in ([], [Submit(b"a", True)]) for sent in client.links.sent())
    client.answer(0, b"a")
    client.answer(1, b"a")
    assert client.links.sent() == one(b"c")


def test_a_new_connection_gets_what_its_aggregator_has_not_answered_in_order() -> None:
    client = Client(in_flight=3)
    client.submit(b"a", b"b", b"c", b"d")
    client.answer(1, b"b")
    assert [decode_question(frame) for frame in client.submissions.frames_for(1)] == [SubmitAll((b"a", b"c"), True)]
    assert [decode_question(frame) for frame in client.submissions.frames_for(0)] == [
        SubmitAll((b"a", b"b", b"c"), True)
    ]


def test_a_connection_that_takes_no_more_gets_nothing_that_would_overtake() -> None:
    client = Client()
    big = [bytes([number]) * (MAX_REQUEST_BYTES - 8) for number in range(3)]
    client.links[1].takes = 1
    client.submit(*big)
    assert [len(sent) for sent in client.links.sent()] == [3, 1, 3, 3]
    client.links[1].takes = 9
    client.loop.pass_time(0.5)
    assert [len(sent) for sent in client.links.sent()] == [3, 3, 3, 3]


def test_answers_of_the_set_before_do_not_count_in_the_next() -> None:
    client = Client()
    [call] = client.submit(b"a")
    client.answer(0, b"a")
    client.submissions.forget_answers()
    client.answer(1, b"a")
    assert not call.done()
    client.answer(2, b"a")
    assert call.done()


def test_a_closed_client_fails_all_and_forgets_them() -> None:
    client = Client(in_flight=1)
    calls = client.submit(b"a", b"b")
    client.submissions.fail_all(ClientClosed("gone"))
    for call in calls:
        with pytest.raises(ClientClosed):
            call.result(0)
    assert list(client.submissions.frames_for(0)) == []
    client.links.sent()
    client.loop.pass_time(60)
    assert not any(client.links.sent())


def test_frames_hold_as_many_requests_as_fit_and_keep_their_order() -> None:
    assert list(bundled([])) == []
    frames = [decode_question(frame) for frame in bundled(bytes([n]) for n in range(MAX_BUNDLE + 1))]
    assert isinstance(frames[0], SubmitAll) and len(frames[0].requests) == MAX_BUNDLE
    assert frames[1] == Submit(bytes([MAX_BUNDLE]), True)
    half = MAX_REQUEST_BYTES // 2 - 8
    sizes = [(half, half), (half, half + 1)]
    counts = [len(list(bundled(bytes(size) for size in pair))) for pair in sizes]
    assert counts == [1, 2]
    for requests in ([bytes(MAX_REQUEST_BYTES)], [bytes(half)] * 2, [b""] * MAX_BUNDLE):
        assert all(len(frame) <= MAX_CLIENT_FRAME_BYTES for frame in bundled(requests))


def test_a_request_that_fits_no_frame_is_refused() -> None:
    check_size(bytes(MAX_REQUEST_BYTES))
    with pytest.raises(Oversize, match=f"seen: {MAX_REQUEST_BYTES + 1} bytes"):
        check_size(bytes(MAX_REQUEST_BYTES + 1))
