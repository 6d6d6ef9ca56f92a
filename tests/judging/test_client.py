"""A helper's client never raises: dead, silent, lying and unstartable helpers are "not judged", and are replaced."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pot_lab.crypto.canonical import decode, encode
from pot_lab.judging import CheckModel, Finding, HelperLimits, JudgeHelper, Judgement
from pot_lab.judging.client import FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S
from pot_lab.judging.frames import LENGTH_BYTES, framed
from pot_lab.judging.records import HelperReply, HelperRequest, not_judged

BODY = CheckModel(graph="/g", weights="/w", mid=bytes(32))
RIGHT = Judgement(finding=Finding.RIGHT)
READY = framed(encode(HelperReply(number=0, judgement=RIGHT)))

Scripted = Callable[[HelperRequest], bytes | Exception]


class ScriptedHelper:
    """A helper in this process: what it sends is made from the request; time passes when it is silent."""

    def __init__(self, answer: Scripted, *, ready: bytes = READY) -> None:
        self._answer, self._out = answer, ready
        self.status: int | None = None
        self.killed = 0
        self.waited_s: list[float] = []
        self.told_s: list[int] = []

    def send(self, data: bytes, timeout_s: float) -> None:
        request = decode(data[LENGTH_BYTES:], HelperRequest, limit_bytes=1 << 20)
        self.told_s.append(request.wall_s)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        self._out += answer

    def receive(self, size: int, timeout_s: float) -> bytes:
        self.waited_s.append(timeout_s)
        if self._out == b"silent":
            raise TimeoutError
        data, self._out = self._out[:size], self._out[size:]
        return data

    def exit_status(self) -> int | None:
        return self.status

    def kill(self) -> None:
        self.killed += 1
        self.status = -9


class Started:
    """Starts scripted helpers in turn; the last answer serves all further ones."""

    def __init__(
        self, *answers: Callable[[HelperRequest], bytes | Exception] | Exception, ready: bytes = READY
    ) -> None:
        self._answers, self._ready = list(answers), ready
        self.helpers: list[ScriptedHelper] = []
        self.tries = 0

    def __call__(self, limits: HelperLimits) -> ScriptedHelper:
        self.tries += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.helpers.append(ScriptedHelper(answer, ready=self._ready))
        return self.helpers[-1]


def honest(request: HelperRequest) -> bytes:
    return framed(encode(HelperReply(number=request.number, judgement=RIGHT)))


def test_one_helper_answers_one_request_after_the_other() -> None:
    start = Started(honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    assert [helper.judge(BODY) for _ in range(3)] == [RIGHT] * 3
    assert len(start.helpers) == 1 and start.helpers[0].killed == 0


BROKEN = {
    "closed": (lambda request: b"", "HelperDied"),
    "cut": (lambda request: honest(request)[:-1], "HelperDied"),
    "pipe": (lambda request: BrokenPipeError("gone"), "HelperDied"),
    "slow": (lambda request: b"silent", "HelperTooSlow"),
    "rubbish": (lambda request: framed(b"rubbish"), "HelperLied"),
    "endless": (lambda request: (1 << 31).to_bytes(4, "big"), "HelperLied"),
    "another number": (lambda request: framed(encode(HelperReply(number=9, judgement=RIGHT))), "HelperLied"),
    "an old number": (lambda request: READY, "HelperLied"),
    "an impossible answer": (
        lambda request: framed(
            encode(HelperReply(number=request.number, judgement=Judgement(finding=Finding.RIGHT, expected=1)))
        ),
        "HelperLied",
    ),
}


@pytest.mark.parametrize(("answer", "code"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_helper_is_killed_and_the_next_request_has_a_fresh_one(answer: Scripted, code: str) -> None:
    start = Started(answer, honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    found = helper.judge(BODY)
    assert (found.finding, found.code) == (Finding.NOT_JUDGED, code)
    assert start.helpers[0].killed == 1
    assert helper.judge(BODY) == RIGHT
    assert len(start.helpers) == 2


def test_a_helper_that_says_that_it_ends_is_not_asked_again() -> None:
    """It says so after a fault, and would take the next request to its grave."""
    fault = not_judged("OutOfMemory")
    start = Started(
        lambda request: framed(encode(HelperReply(number=request.number, judgement=fault, ends=True))), honest
    )
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    assert helper.judge(BODY) == fault
    assert start.helpers[0].killed == 1 and helper.judge(BODY) == RIGHT


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_requests() -> None:
    """A helper that lost its turn is killed, so its late answer can never meet another request."""
    start = Started(lambda request: b"silent", honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    assert helper.judge(BODY).code == "HelperTooSlow"
    assert start.helpers[0].killed == 1 and helper.judge(BODY) == RIGHT


def test_a_helper_that_drips_is_cut_off_by_the_whole_time() -> None:
    now = [0.0]

    class Dripping(ScriptedHelper):
        def receive(self, size: int, timeout_s: float) -> bytes:
            now[0] += 1.0 if self.dripping else 0.0
            return super().receive(1, timeout_s)

        def send(self, data: bytes, timeout_s: float) -> None:
            super().send(data, timeout_s)
            self.dripping = True

        dripping = False

    helper = JudgeHelper(lambda limits: Dripping(honest), HelperLimits(wall_s=10.0), lambda: now[0])
    assert helper.judge(BODY).code == "HelperTooSlow"
    assert now[0] == 10.0


def test_a_helper_that_ended_between_requests_is_replaced_before_one_is_lost() -> None:
    start = Started(honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    assert helper.judge(BODY) == RIGHT
    start.helpers[0].status = -9
    assert helper.judge(BODY) == RIGHT
    assert len(start.helpers) == 2


@pytest.mark.parametrize(
    "ready",
    [
        b"",
        framed(b"rubbish"),
        framed(encode(HelperReply(number=1, judgement=RIGHT))),
        framed(encode(HelperReply(number=0, judgement=not_judged("SelfTestFailed")))),
    ],
)
def test_a_helper_that_is_not_ready_is_no_helper(ready: bytes) -> None:
    start = Started(honest, ready=ready)
    found = JudgeHelper(start, clock_s=lambda: 0.0).judge(BODY)
    assert (found.finding, found.code) == (Finding.NOT_JUDGED, "HelperNotStarted")
    assert start.helpers[0].killed == 1


def test_helpers_that_cannot_start_are_tried_later_and_later() -> None:
    now = [0.0]
    start = Started(OSError("no process"))
    helper = JudgeHelper(start, clock_s=lambda: now[0])
    waits, tried_at_s = [], 0.0
    assert helper.judge(BODY).code == "HelperNotStarted"
    while len(waits) < 9:
        now[0] += FIRST_BACK_OFF_S
        if helper.judge(BODY).code == "HelperNotStarted":
            waits.append(now[0] - tried_at_s)
            tried_at_s = now[0]
    assert waits == [min(FIRST_BACK_OFF_S * 2.0**k, LONGEST_BACK_OFF_S) for k in range(9)]
    assert start.tries == 10


def test_a_start_that_succeeds_forgets_the_failed_ones() -> None:
    now = [0.0]
    start = Started(OSError("once"), honest)
    helper = JudgeHelper(start, clock_s=lambda: now[0])
    assert helper.judge(BODY).code == "HelperNotStarted"
    now[0] = FIRST_BACK_OFF_S
    assert helper.judge(BODY) == RIGHT


def test_hostile_requests_in_a_row_do_not_keep_an_honest_one_waiting() -> None:
    """Back-off counts failed starts only: whoever kills helpers by requests delays nobody's judgement."""
    start = Started(*[lambda request: b""] * 20, honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    assert [helper.judge(BODY).code for _ in range(20)] == ["HelperDied"] * 20
    assert helper.judge(BODY) == RIGHT


def test_a_request_that_is_too_large_or_no_record_starts_nothing() -> None:
    start = Started(honest)
    helper = JudgeHelper(start, HelperLimits(request_bytes=40), clock_s=lambda: 0.0)
    assert helper.judge(BODY).code == "Oversize"
    assert helper.judge(CheckModel(graph="/g", weights="/w", mid=1 << 70)).code == "RequestNotEncodable"  # type: ignore[arg-type]
    assert start.tries == 0


def test_the_wait_is_the_requests_own_or_that_of_the_limits() -> None:
    start = Started(honest)
    helper = JudgeHelper(start, HelperLimits(wall_s=7.0, start_s=11.0), clock_s=lambda: 0.0)
    helper.judge(BODY)
    helper.judge(BODY, wall_s=3.0)
    assert set(start.helpers[0].waited_s) == {11.0, 7.0, 3.0} and start.helpers[0].told_s == [7, 3]


def test_a_helper_that_rests_is_started_again_by_the_next_request() -> None:
    start = Started(honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    helper.rest()
    assert helper.judge(BODY) == RIGHT
    helper.rest()
    assert start.helpers[0].killed == 1 and helper.judge(BODY) == RIGHT
    assert len(start.helpers) == 2


def test_after_close_nothing_is_judged_or_started() -> None:
    start = Started(honest)
    helper = JudgeHelper(start, clock_s=lambda: 0.0)
    helper.close()
    assert helper.judge(BODY).code == "HelperClosed"
    assert start.tries == 0
