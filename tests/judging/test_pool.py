"""A pool judges side by side up to its bound, never blocks its asker, and loses no answer."""

from __future__ import annotations

import threading
import time

from pot_lab.crypto.canonical import decode, encode
from pot_lab.judging import CheckModel, Finding, HelperLimits, JudgeHelper, Judgement, JudgePool
from pot_lab.judging.frames import LENGTH_BYTES, framed
from pot_lab.judging.records import HelperReply, HelperRequest

RIGHT = Judgement(finding=Finding.RIGHT)


class WaitingHelper:
    """A helper in this process that replies once the test lets it; `entered` counts requests that began."""

    def __init__(self, let: threading.Semaphore, entered: threading.Semaphore) -> None:
        self._let, self._entered = let, entered
        self._out = framed(encode(HelperReply(number=0, judgement=RIGHT)))
        self._killed = threading.Event()

    def send(self, data: bytes, timeout_s: float) -> None:
        request = decode(data[LENGTH_BYTES:], HelperRequest, limit_bytes=1 << 20)
        self._entered.release()
        while not self._let.acquire(timeout=0.01):
            if self._killed.is_set():
                raise BrokenPipeError("killed")
        self._out += framed(encode(HelperReply(number=request.number, judgement=RIGHT)))

    def receive(self, size: int, timeout_s: float) -> bytes:
        data, self._out = self._out[:size], self._out[size:]
        return data

    def exit_status(self) -> int | None:
        return -9 if self._killed.is_set() else None

    def kill(self) -> None:
        self._killed.set()


class Pool:
    """A pool of waiting helpers, and what a test needs to drive it."""

    def __init__(self, helpers: int, waiting_limit: int = 100, rest_after_s: float = 300.0) -> None:
        self.let, self.entered, self.done = threading.Semaphore(0), threading.Semaphore(0), threading.Semaphore(0)
        self.started = 0
        self.helpers: list[WaitingHelper] = []

        def start(limits: HelperLimits) -> WaitingHelper:
            self.started += 1
            self.helpers.append(WaitingHelper(self.let, self.entered))
            return self.helpers[-1]

        made = [JudgeHelper(start) for _ in range(helpers)]
        self.pool = JudgePool(made, waiting_limit=waiting_limit, rest_after_s=rest_after_s, on_done=self.done.release)

    def submit(self, *keys: int) -> None:
        for key in keys:
            self.pool.submit(key, CheckModel(graph="/g", weights="/w", mid=bytes(32)))


def test_requests_run_side_by_side_up_to_the_bound() -> None:
    both = Pool(2)
    both.submit(1, 2, 3)
    assert both.entered.acquire(timeout=240) and both.entered.acquire(timeout=240)
    assert not both.entered.acquire(timeout=0.05)  # the third waits for one of two helpers
    assert both.pool.collect() == []
    both.let.release(3)
    for _ in range(3):
        assert both.done.acquire(timeout=240)
    assert sorted(key for key, _ in both.pool.collect()) == [1, 2, 3]
    assert both.pool.collect() == [] and both.started == 2
    both.pool.close()


def test_a_helper_is_started_before_the_first_request() -> None:
    one = Pool(4)
    for _ in range(3):
        one.pool.prepare()
    one.submit(1)
    assert one.entered.acquire(timeout=240)
    one.pool.prepare()  # it has one, and work to do
    one.let.release()
    assert one.done.acquire(timeout=240)
    one.pool.prepare()
    one.submit(2)
    one.let.release()
    assert one.done.acquire(timeout=240) and one.started == 1
    one.pool.close()
    one.pool.prepare()
    assert one.started == 1


def test_a_prepared_helper_waits_for_its_request() -> None:
    one = Pool(4)
    one.pool.prepare()
    while not one.started:
        time.sleep(0.01)
    assert not one.entered.acquire(timeout=0.05) and one.pool.collect() == []
    one.pool.close()


def test_helpers_are_started_when_they_are_needed() -> None:
    one = Pool(4)
    assert one.started == 0
    for key in range(3):
        one.submit(key)
        one.let.release()
        assert one.done.acquire(timeout=240)
    assert one.started <= 3
    one.pool.close()


def test_beyond_the_queue_nothing_waits() -> None:
    one = Pool(1, waiting_limit=2)
    one.submit(1)
    assert one.entered.acquire(timeout=240)
    one.submit(2, 3, 4, 5)
    assert [(key, found.code) for key, found in one.pool.collect()] == [(4, "JudgesBusy"), (5, "JudgesBusy")]
    one.pool.close()


def test_a_lower_turn_comes_first_and_the_highest_waits_in_vain() -> None:
    one = Pool(1, waiting_limit=2)
    one.submit(1)
    assert one.entered.acquire(timeout=240)
    for key, turn in ((2, 7), (3, 7), (4, 0), (5, 3)):
        one.pool.submit(key, CheckModel(graph="/g", weights="/w", mid=bytes(32)), turn=turn)
    assert [(key, found.code) for key, found in one.pool.collect()] == [(3, "JudgesBusy"), (2, "JudgesBusy")]
    one.let.release(3)
    for _ in range(3):
        assert one.done.acquire(timeout=240)
    assert [key for key, _ in one.pool.collect()] == [1, 4, 5]
    one.pool.close()


def test_closing_answers_everything_and_ends_the_threads() -> None:
    before = set(threading.enumerate())
    one = Pool(1)
    one.submit(1)
    assert one.entered.acquire(timeout=240)
    one.submit(2, 3)
    one.pool.close()
    one.submit(4)
    found = dict(one.pool.collect())
    assert set(found) == {1, 2, 3, 4}
    assert {judgement.finding for judgement in found.values()} == {Finding.NOT_JUDGED}
    assert set(threading.enumerate()) <= before


def test_a_helper_without_work_is_ended_and_the_next_request_starts_one() -> None:
    one = Pool(1, rest_after_s=0.01)
    for number in range(2):
        one.let.release()
        one.submit(number)
        assert one.done.acquire(timeout=240)
        while one.helpers[-1].exit_status() is None:
            pass
    assert one.started == 2
    assert [found.finding for _, found in one.pool.collect()] == [Finding.RIGHT] * 2
    one.pool.close()
