"""Work on the chain is done one job after the other, in its order, whatever a job raises."""

from __future__ import annotations

import threading

import pytest

from pot_lab.network.duties.chain_queue import ChainQueue, Work
from tests.network.duties.parts import HeldQueue


def test_jobs_run_in_order_on_one_thread_that_is_started_again_when_needed() -> None:
    queue, done = HeldQueue(), []
    queue.add(lambda: done.append(1))
    queue.add(lambda: done.append(2))
    assert len(queue.held) == 1 and done == []
    assert queue.work() == 1 and done == [1, 2]
    queue.add(lambda: done.append(3))
    assert queue.work() == 1 and done == [1, 2, 3]
    assert queue.work() == 0


def test_a_job_that_adds_a_job_is_followed_by_it() -> None:
    queue, done = HeldQueue(), []
    queue.add(lambda: queue.add(lambda: done.append(2)))
    queue.add(lambda: done.append(1))
    assert queue.work() == 1 and done == [1, 2]


def test_a_job_that_raises_is_logged_and_the_next_begins(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("no gas")

    queue, done = HeldQueue(), []
    queue.add(fails)
    queue.add(lambda: done.append(1))
    queue.work()
    assert done == [1] and "chain_work_failed" in caplog.text and "no gas" in caplog.text


def test_real_threads_do_the_jobs_one_at_a_time() -> None:
    queue, done, at_work = ChainQueue(), threading.Event(), threading.Lock()
    seen: list[int] = []

    def job(number: int) -> Work:
        def work() -> None:
            assert at_work.acquire(blocking=False)
            seen.append(number)
            at_work.release()
            if number == 49:
                done.set()

        return work

    for number in range(50):
        queue.add(job(number))
    assert done.wait(240) and seen == list(range(50))
