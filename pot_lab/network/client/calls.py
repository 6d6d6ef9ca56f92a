"""Calls in progress and their results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Generic, TypeVar

import msgspec

from pot_lab.errors import PotLabError
from pot_lab.network.errors import (
    CallTimeout,
)

T = TypeVar("T")


EventCallback = Callable[[int, int, tuple[bytes, ...]], None]


class Call(Generic[T]):
    """Something asked for: wait with `result`, or `await` it."""

    def __init__(self) -> None:
        self.future: Future[T] = Future()

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the result.

        Raises:
            CallTimeout: not there within `timeout_s`; the call goes on.
            PotLabError: whatever the call ended with.
        """
        try:
            return self.future.result(timeout_s)
        except FutureTimeout as error:
            raise CallTimeout("no result yet", wanted=f"within {timeout_s:g} s") from error

    def done(self) -> bool:
        """Whether `result` returns, or raises, at once."""
        return self.future.done()

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self.future).__await__()

    def _finish(self, value: T) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def _fail(self, error: PotLabError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class AggregatorStatus(msgspec.Struct, frozen=True):
    """How one aggregator is, as it says itself.

    Attributes:
        index: which one.
        reachable: whether it answered; if not, `reason` says what is known and the numbers are 0.
        view, primary: its view and that view's primary.
        height: the last batch it executed; `time_ms` is that batch's time.
        lag: how many batches it is behind the highest that answered.
        counters: everything it counted since it started.
    """

    index: int
    reachable: bool
    reason: str = ""
    view: int = 0
    primary: int = 0
    height: int = 0
    lag: int = 0
    time_ms: int = 0
    state: bytes = b""
    counters: dict[str, int] = {}


class _Pending:
    """A submission or a query on its way: who said what. A submission was first said at `said_s`, 0 before that.

    A query may not be answered from a state before batch `since`; `executed` has each aggregator's.
    """

    def __init__(self, call: Call[bytes], deadline_s: float) -> None:
        self.call = call
        self.deadline_s = deadline_s
        self.said: dict[int, object] = {}
        self.said_s = 0.0
        self.refusals: dict[int, PotLabError] = {}
        self.only: int | None = None
        self.since = 0
        self.executed: dict[int, int] = {}

    def forget(self) -> None:
        """Others sit at the indices now: count anew."""
        self.said.clear()
        self.refusals.clear()

    def count(self, index: int, said: object) -> int:
        """Note what one aggregator said; returns how many say the same now."""
        self.said[index] = said
        return sum(other == said for other in self.said.values())
