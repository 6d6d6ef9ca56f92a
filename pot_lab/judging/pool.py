"""Some helpers side by side, so that the disputes of an order are judged in parallel and none blocks its asker."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Hashable

from pot_lab.judging.client import JudgeHelper
from pot_lab.judging.records import JudgeBody, Judgement, not_judged


class JudgePool:
    """Judges on threads of its own, each with a helper process; a helper is started when the first request needs it, or
    before (`prepare`).

    Args:
        helpers: how each thread's helper is made; their number is the bound of what runs at once.
        waiting_limit: the most requests that wait for a helper.
        rest_after_s: a helper without a request for so long is ended, since it holds some hundred MB; the next request
            starts one again.
        on_done: called, on one of the threads, when an answer is there to be collected.
    """

    def __init__(
        self,
        helpers: list[JudgeHelper],
        *,
        waiting_limit: int = 1_024,
        rest_after_s: float = 300.0,
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        self._helpers, self._waiting_limit, self._on_done = helpers, waiting_limit, on_done
        self._rest_after_s = rest_after_s
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, Hashable, JudgeBody, float | None]] = []  # a heap by turn, then arrival
        self._arrivals = itertools.count()
        self._done: list[tuple[Hashable, Judgement]] = []
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._preparing = False
        self._closed = False

    def submit(self, key: Hashable, body: JudgeBody, *, wall_s: float | None = None, turn: int = 0) -> None:
        """Have a request judged; its answer comes from `collect` under `key`. Returns at once and never raises.

        Args:
            wall_s: as of `JudgeHelper.judge`.
            turn: requests of a lower turn come first, whenever they came. Where too many wait, one of the highest turn
                is not judged.
        """
        with self._changed:
            if self._closed:
                self._done.append((key, not_judged("JudgesBusy", "the aggregator is stopping")))
                return
            heapq.heappush(self._waiting, (turn, next(self._arrivals), key, body, wall_s))
            if len(self._waiting) > self._waiting_limit:
                last = max(self._waiting, key=lambda each: each[:2])
                self._waiting.remove(last)
                heapq.heapify(self._waiting)
                self._done.append((last[2], not_judged("JudgesBusy", f"{self._waiting_limit} requests wait")))
                if last[2] == key:
                    return
            if len(self._waiting) > self._idle:
                self._begin_thread()
            self._changed.notify()

    def prepare(self) -> None:
        """A request will come soon: see that a helper runs. Returns at once and never raises."""
        with self._changed:
            if self._closed or self._waiting or self._preparing:
                return
            self._preparing = True
            if not self._threads:
                self._begin_thread()
            self._changed.notify()

    def _begin_thread(self) -> None:
        """One more thread, if there is a helper for it."""
        if len(self._threads) < len(self._helpers):
            helper = self._helpers[len(self._threads)]
            thread = threading.Thread(target=self._work, args=(helper,), name="judge", daemon=True)
            self._threads.append(thread)
            self._idle += 1
            thread.start()

    def collect(self) -> list[tuple[Hashable, Judgement]]:
        """Answers that came since the last call, each under its key; does not wait."""
        with self._changed:
            done, self._done = self._done, []
        return done

    def close(self) -> None:
        """End all helpers and threads; what waits is not judged."""
        with self._changed:
            self._closed = True
            self._done += [
                (key, not_judged("JudgesBusy", "the aggregator is stopping")) for _, _, key, *_ in self._waiting
            ]
            self._waiting.clear()
            self._changed.notify_all()
        for helper in self._helpers:
            helper.close()
        for thread in self._threads:
            thread.join()

    def _work(self, helper: JudgeHelper) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed and not self._preparing:
                    if not self._changed.wait(self._rest_after_s):
                        helper.rest()
                if self._closed:
                    return
                self._preparing = False
                request = heapq.heappop(self._waiting) if self._waiting else None
                self._idle -= request is not None
            if request is None:
                helper.prepare()  # as good as idle: what comes meanwhile waits for this helper, not for another's start
                continue
            _, _, key, body, wall_s = request
            judgement = helper.judge(body, wall_s=wall_s)
            with self._changed:
                self._idle += 1
                self._done.append((key, judgement))
            self._on_done()
