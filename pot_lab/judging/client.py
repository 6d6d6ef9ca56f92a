"""One helper process, asked one thing at a time: answered, or killed and replaced by a fresh one.

Nothing that a helper does raises here: a judgement comes back, or "not judged" with the reason. A helper that died over
a request is replaced at once, since the request may have been hostile and the next one is honest; only a helper that
cannot even start is tried again later and later.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import PotLabError
from pot_lab.judging.frames import HelperChannel, framed, read_frame
from pot_lab.judging.limits import HelperLimits
from pot_lab.judging.records import (
    Finding,
    HelperReply,
    HelperRequest,
    JudgeBody,
    Judgement,
    contradiction,
    not_judged,
)

FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0

Starter = Callable[[HelperLimits], HelperChannel]
"""Starts a helper process; raises OSError where it cannot."""


class JudgeHelper:
    """A helper that is there when it is needed.

    Args:
        start: starts a helper process.
        limits: what each helper may use.
        clock_s: seconds that only grow.
    """

    def __init__(
        self, start: Starter, limits: HelperLimits | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._start, self._clock_s = start, clock_s
        self._limits = limits or HelperLimits()
        self._channel: HelperChannel | None = None
        self._number = 0
        self._failed_starts = 0
        self._not_before_s = 0.0
        self._closed = threading.Event()  # set on another thread

    def judge(self, body: JudgeBody, *, wall_s: float | None = None) -> Judgement:
        """Ask, and wait for the answer; never raises.

        Args:
            wall_s: the longest wait for the reply where the limits' own is not right, in seconds: a large model takes
                longer, and an order's windows are as long as its work.
        """
        self._number += 1
        wait_s = self._limits.wall_s if wall_s is None else wall_s
        try:
            record = encode(HelperRequest(number=self._number, wall_s=math.ceil(wait_s), body=body))
        except (OverflowError, TypeError, ValueError) as error:
            return not_judged("RequestNotEncodable", str(error))
        if len(record) > self._limits.request_bytes:
            return not_judged("Oversize", f"a request of {len(record)} bytes, at most {self._limits.request_bytes}")
        channel = self._running()
        if isinstance(channel, Judgement):
            return channel
        deadline_s = self._clock_s() + wait_s
        failure = self._exchange(channel, body, record, deadline_s)
        if isinstance(failure, Judgement):
            return failure
        self._drop(channel)
        return not_judged(*failure)

    def prepare(self) -> None:
        """Start the helper if none runs, so that the next request need not wait for it; never raises."""
        self._running()

    def rest(self) -> None:
        """End the helper until the next request, to free its memory. Not while a request waits."""
        if self._channel is not None:
            self._drop(self._channel)

    def close(self) -> None:
        """End the helper; a request that waits, on whatever thread, is not judged. No helper is started again."""
        self._closed.set()
        if self._channel is not None:
            self._channel.kill()

    def _running(self) -> HelperChannel | Judgement:
        """A helper that is ready, or why there is none."""
        if self._channel is not None and self._channel.exit_status() is not None:
            self._drop(self._channel)
        if self._channel is not None:
            return self._channel
        if self._closed.is_set():
            return not_judged("HelperClosed", "the aggregator is stopping")
        if self._clock_s() < self._not_before_s:
            return not_judged("HelperUnavailable", "the last helper could not start; the next try is due later")
        try:
            channel = self._start(self._limits)
        except OSError as error:
            return self._no_start(f"no process: {error}")
        self._channel = channel
        if self._closed.is_set():  # between our look and our start
            self._drop(channel)
            return not_judged("HelperClosed", "the aggregator is stopping")
        try:
            ready = self._reply(channel, self._clock_s() + self._limits.start_s)
        except (OSError, EOFError, PotLabError) as error:
            status = channel.exit_status()
            self._drop(channel)
            return self._no_start(f"{type(error).__name__}: {error}; exit status {status}")
        if ready.number != 0 or ready.judgement.finding is not Finding.RIGHT:
            self._drop(channel)
            return self._no_start(f"{ready.judgement.code} {ready.judgement.reason}")
        self._failed_starts = 0
        return channel

    def _no_start(self, reason: str) -> Judgement:
        wait_s = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** min(self._failed_starts, 16))
        self._failed_starts += 1
        self._not_before_s = self._clock_s() + wait_s
        return not_judged("HelperNotStarted", reason)

    def _exchange(
        self, channel: HelperChannel, body: JudgeBody, record: bytes, deadline_s: float
    ) -> Judgement | tuple[str, str]:
        """The judgement, or code and reason why the helper has to be replaced."""
        try:
            channel.send(framed(record), deadline_s - self._clock_s())
            reply = self._reply(channel, deadline_s)
        except TimeoutError:
            return "HelperTooSlow", "no reply within the time limit"
        except (OSError, EOFError) as error:
            return "HelperDied", f"{error}; exit status {channel.exit_status()}"
        except PotLabError as error:
            return "HelperLied", f"no reply record: {error}"
        if reply.number != self._number:
            return "HelperLied", f"an answer to request {reply.number}, not to {self._number}"
        contradicted = contradiction(body, reply.judgement)
        if contradicted is not None:
            return "HelperLied", contradicted
        if reply.ends:
            self._drop(channel)
        return reply.judgement

    def _reply(self, channel: HelperChannel, deadline_s: float) -> HelperReply:
        def receive(size: int) -> bytes:
            rest_s = deadline_s - self._clock_s()
            if rest_s <= 0:
                raise TimeoutError
            return channel.receive(size, rest_s)

        limit = self._limits.reply_bytes
        return decode(read_frame(receive, limit), HelperReply, limit_bytes=limit)

    def _drop(self, channel: HelperChannel) -> None:
        channel.kill()
        self._channel = None
