"""Have judged what the ledger wants judged, and vote (protocol.md, "Judging").

The work is done by helper processes that are started by the name of their module: nothing here, nor in the aggregator's
process, imports torch or opens a stranger's file. A helper that dies costs one answer, which is asked for again for as
long as the ledger wants it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pot_lab.judging import Finding, HelperLimits, JudgeBody, JudgeHelper, Judgement, JudgePool, start_helper
from pot_lab.judging.client import Starter
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log

HELPERS = 2 if (os.cpu_count() or 1) > 4 else 1
"""Helpers that an aggregator runs side by side. Each imports torch: a second one on few cores makes both late, and a
testnet has four aggregators.
"""
FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 60_000


class WantedJudgement(NamedTuple):
    """A question, and how long its answer may take, in seconds; None for what is usual. An order's windows are as long
    as its work, and so must this be, or a large model could not be judged.
    """

    body: JudgeBody
    wall_s: float | None = None


OpenQuestions = Callable[[], Mapping[bytes, WantedJudgement]]
"""What this aggregator is to judge now, by a name that means one question for ever; empty of what it voted on."""
Vote = Callable[[bytes, Judgement], bytes]
"""The signed request that submits a judgement under the question's name."""


class JudgeDuty:
    """Asks helpers whatever the ledger wants judged, and submits the answers.

    Args:
        wanted: the open questions.
        vote: signs an answer.
        pool: the helpers.
    """

    def __init__(self, wanted: OpenQuestions, vote: Vote, pool: JudgePool) -> None:
        self._wanted, self._vote, self._pool = wanted, vote, pool
        self._asked: set[bytes] = set()
        self._answers: dict[bytes, Judgement] = {}
        self._submitted_at_ms: dict[bytes, int] = {}
        self._failures: dict[bytes, int] = {}
        self._retry_at_ms: dict[bytes, int] = {}

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Votes that are not in the ledger yet, unless submitted lately; asks what was not asked. Does not wait."""
        wanted = self._wanted()
        self._forget(wanted)
        self._collect(now_ms)
        for name, (body, wall_s) in wanted.items():
            if name not in self._asked and name not in self._answers and now_ms >= self._retry_at_ms.get(name, now_ms):
                self._asked.add(name)
                self._pool.submit(name, body, wall_s=wall_s)
        due = [
            name
            for name in self._answers
            if name in wanted and now_ms - self._submitted_at_ms.get(name, now_ms - REPEAT_AFTER_MS) >= REPEAT_AFTER_MS
        ]
        self._submitted_at_ms |= dict.fromkeys(due, now_ms)
        return [self._vote(name, self._answers[name]) for name in due]

    def close(self) -> None:
        """End the helpers. Called when the aggregator stops."""
        self._pool.close()

    def _forget(self, wanted: Mapping[bytes, WantedJudgement]) -> None:
        """What the ledger does not want any more."""
        self._answers = {name: each for name, each in self._answers.items() if name in wanted}
        self._submitted_at_ms = {name: at for name, at in self._submitted_at_ms.items() if name in wanted}
        self._failures = {name: count for name, count in self._failures.items() if name in wanted}
        self._retry_at_ms = {name: at for name, at in self._retry_at_ms.items() if name in wanted}

    def _collect(self, now_ms: int) -> None:
        for name, judgement in self._pool.collect():
            if not isinstance(name, bytes):
                continue
            self._asked.discard(name)
            if judgement.finding is not Finding.NOT_JUDGED:
                self._answers[name] = judgement
                continue
            failures = self._failures.get(name, 0)
            self._failures[name] = failures + 1
            self._retry_at_ms[name] = now_ms + min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(failures, 16))
            log.warning(
                "event=not_judged question=%s code=%s reason=%r", name.hex()[:16], judgement.code, judgement.reason
            )


def judge_pool(
    *,
    helpers: int = HELPERS,
    limits: HelperLimits | None = None,
    wake: Callable[[], None] = lambda: None,
    start: Starter = start_helper,
) -> JudgePool:
    """A pool of real helper processes; none is started before the first question.

    Args:
        helpers: how many run side by side.
        limits: what each may use.
        wake: called when an answer is there, on another thread, such as `Aggregator.wake`.
        start: starts a helper process, such as `HelperForks`.
    """
    return JudgePool([JudgeHelper(start, limits) for _ in range(helpers)], on_done=wake)
