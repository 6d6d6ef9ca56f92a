"""An aggregator's votes on disputes: asked once, submitted until they count, and no helper's death loses one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Hashable
from pathlib import Path

import psutil
import pytest

from pot_lab.judging import (
    CheckModel,
    Finding,
    HelperLimits,
    JudgeBody,
    JudgeHelper,
    Judgement,
    JudgePool,
    start_helper,
)
from pot_lab.judging.process import HelperProcess
from pot_lab.judging.records import not_judged
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.judge import FIRST_RETRY_MS, LONGEST_RETRY_MS, JudgeDuty, WantedJudgement
from tests.judging.cases import make_case

RIGHT, WRONG = Judgement(finding=Finding.RIGHT), Judgement(finding=Finding.WRONG)


def body(number: int = 0) -> CheckModel:
    return CheckModel(graph="/g", weights=f"/{number}", mid=bytes(32))


class HeldJudges(JudgePool):
    """A pool whose answers come when the test gives them."""

    def __init__(self) -> None:
        super().__init__([])
        self.submitted: list[Hashable] = []
        self.bodies: list[JudgeBody] = []
        self.waits_s: list[float | None] = []
        self.answers: list[tuple[Hashable, Judgement]] = []
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def submit(self, key: Hashable, body: JudgeBody, *, wall_s: float | None = None, turn: int = 0) -> None:
        self.submitted.append(key)
        self.bodies.append(body)
        self.waits_s.append(wall_s)

    def collect(self) -> list[tuple[Hashable, Judgement]]:
        found, self.answers = self.answers, []
        return found


class Bench:
    """A duty over questions that the test opens and closes."""

    def __init__(self) -> None:
        self.wanted: dict[bytes, JudgeBody] = {}
        self.wall_s: float | None = None
        self.judges = HeldJudges()
        self.duty = JudgeDuty(
            lambda: {name: WantedJudgement(each, self.wall_s) for name, each in self.wanted.items()},
            lambda name, found: name + found.finding.encode(),
            self.judges,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_question_is_asked_once_and_its_vote_submitted_until_it_counts(bench: Bench) -> None:
    bench.wanted = {b"a": body(), b"b": body(1)}
    for now_ms in range(0, 10_000, 100):
        assert bench.duty.poll(now_ms) == []
    assert bench.judges.submitted == [b"a", b"b"]
    bench.judges.answers = [(b"a", RIGHT), (b"b", WRONG)]
    assert bench.duty.poll(10_000) == [b"aright", b"bwrong"]
    assert bench.duty.poll(10_000 + REPEAT_AFTER_MS - 1) == []
    del bench.wanted[b"a"]  # it counts
    assert bench.duty.poll(10_000 + REPEAT_AFTER_MS) == [b"bwrong"]
    assert bench.judges.submitted == [b"a", b"b"]


def test_a_question_is_waited_for_as_long_as_it_needs(bench: Bench) -> None:
    bench.wanted = {b"usual": body()}
    bench.duty.poll(0)
    bench.wanted, bench.wall_s = {b"large": body(1)}, 3_600.0
    bench.duty.poll(1)
    assert bench.judges.waits_s == [None, 3_600.0]


def test_an_invalid_request_is_an_answer_too(bench: Bench) -> None:
    bench.wanted = {b"a": body()}
    bench.duty.poll(0)
    bench.judges.answers = [(b"a", Judgement(finding=Finding.INVALID, code="ProvesNothing"))]
    assert bench.duty.poll(1) == [b"ainvalid"]


def test_what_was_not_judged_is_asked_again_later_and_later(bench: Bench) -> None:
    bench.wanted = {b"a": body()}
    waits, now_ms = [], 0
    bench.duty.poll(now_ms)
    for _ in range(9):
        bench.judges.answers = [(b"a", not_judged("HelperDied"))]
        asked_ms, before = now_ms, len(bench.judges.submitted)
        while len(bench.judges.submitted) == before:
            assert bench.duty.poll(now_ms) == []
            now_ms += 500
        waits.append(now_ms - 500 - asked_ms)
        now_ms -= 500
    assert waits == [min(FIRST_RETRY_MS << k, LONGEST_RETRY_MS) for k in range(9)]


def test_one_question_that_kills_helpers_delays_no_other(bench: Bench) -> None:
    bench.wanted = {b"a": body(), b"b": body(1)}
    bench.duty.poll(0)
    bench.judges.answers = [(b"a", not_judged("HelperDied")), (b"b", RIGHT)]
    assert bench.duty.poll(1) == [b"bright"]


def test_nothing_is_kept_of_questions_that_are_closed(bench: Bench) -> None:
    bench.wanted = {b"a": body(), b"b": body(1), b"c": body(2)}
    bench.duty.poll(0)
    bench.judges.answers = [(b"a", RIGHT), (b"b", not_judged("HelperDied"))]
    bench.duty.poll(1)
    bench.wanted = {}
    bench.judges.answers = [(b"c", RIGHT)]  # it closed while a helper was at it
    assert bench.duty.poll(2) == [] == bench.duty.poll(3)
    kept = [bench.duty._answers, bench.duty._submitted_at_ms, bench.duty._failures, bench.duty._retry_at_ms]
    assert not any(kept) and not bench.duty._asked


class RealJudges:
    """A duty with one real helper."""

    def __init__(self, wanted: dict[bytes, JudgeBody], wall_s: float = 600.0) -> None:
        self.wanted = wanted
        self.started: list[HelperProcess] = []
        self.done = threading.Semaphore(0)

        def start(limits: HelperLimits) -> HelperProcess:
            self.started.append(start_helper(limits))
            return self.started[-1]

        limits = HelperLimits(wall_s=wall_s, start_s=600.0)
        pool = JudgePool([JudgeHelper(start, limits)], on_done=self.done.release)
        self.duty = JudgeDuty(
            lambda: {name: WantedJudgement(each) for name, each in self.wanted.items()},
            lambda name, found: name + found.finding.encode(),
            pool,
        )
        self.now_ms = 0

    def votes(self) -> list[bytes]:
        """The votes on all that is wanted, each once, with time that passes until they are there."""
        found: dict[bytes, None] = {}
        while len(found) < len(self.wanted):
            found |= dict.fromkeys(self.duty.poll(self.now_ms))  # on a busy machine one is due again before the last
            if not self.done.acquire(timeout=0.01):
                self.now_ms += 50
        return list(found)


def test_a_helper_killed_with_9_in_the_middle_of_a_request_loses_no_vote(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    judges = RealJudges({b"warm": case.model()})
    assert judges.votes() == [b"warmright"]
    os.kill(judges.started[0].pid, signal.SIGSTOP)  # so that the request is in the middle for sure
    judges.wanted = {b"lie": case.dispute(case.lying({3: 7}), 3)}
    assert judges.duty.poll(judges.now_ms) == []
    os.kill(judges.started[0].pid, signal.SIGKILL)
    assert judges.votes() == [b"liewrong"]
    assert len(judges.started) == 2
    judges.duty.close()
    assert not any(psutil.pid_exists(each.pid) for each in judges.started)


def test_a_helper_that_is_stopped_is_killed_and_loses_no_vote(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    judges = RealJudges({b"warm": case.model()}, wall_s=5.0)
    assert judges.votes() == [b"warmright"]
    os.kill(judges.started[0].pid, signal.SIGSTOP)
    judges.wanted = {b"honest": case.dispute(case.honest, 3)}
    assert judges.votes() == [b"honestright"]
    assert not psutil.pid_exists(judges.started[0].pid)
    judges.duty.close()


def test_closing_does_not_wait_for_a_helper_that_is_stopped(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    judges = RealJudges({b"warm": case.model()})
    assert judges.votes() == [b"warmright"]
    os.kill(judges.started[0].pid, signal.SIGSTOP)
    judges.wanted = {b"other": case.model()}
    judges.duty.poll(judges.now_ms)
    judges.duty.close()
    assert not psutil.pid_exists(judges.started[0].pid)


def test_a_thousand_disputes_are_voted_on_by_few_helpers(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    liar = case.lying({3: 7})
    wanted = {f"{i:04}".encode(): case.dispute(liar if i % 2 else case.honest, 3, row=True) for i in range(1_000)}
    judges = RealJudges(dict(wanted))
    found = sorted(judges.votes())
    assert found == [name + (b"wrong" if int(name) % 2 else b"right") for name in sorted(wanted)]
    assert len(judges.started) == 1
    judges.duty.close()


def test_the_duty_loads_nothing_of_what_a_helper_runs() -> None:
    code = (
        "import sys, pot_lab.network.duties.judge as duty; pool = duty.judge_pool(); pool.close(); "
        "print(*(name for name in sys.modules if name.startswith(('torch', 'numpy', 'pot_lab.scoring', "
        "'pot_lab.judging.helper'))))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert answer.stdout.split() == []
