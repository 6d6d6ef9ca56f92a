"""Calls in progress and their results, and the interfaces between the parts of a client."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from pot_lab.agreement.quorum import weak_quorum
from pot_lab.errors import PotLabError
from pot_lab.network.errors import CallTimeout, ClientClosed, Unreachable

T = TypeVar("T")

EventCallback = Callable[[int, int, tuple[bytes, ...]], None]
"""Called with a batch's sequence, its time in milliseconds and its encoded events."""


class Call(Generic[T]):
    """A result to come: wait for it with `result`, or `await` it."""

    def __init__(self) -> None:
        self.future: Future[T] = Future()

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the result.

        Raises:
            CallTimeout: no result within `timeout_s`; the call goes on.
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

    def finish(self, value: T) -> None:
        """Set the result; without effect when the call has ended."""
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: PotLabError) -> None:
        """Set the error that `result` raises; without effect when the call has ended."""
        if not self.future.done():
            self.future.set_exception(error)


class AggregatorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one aggregator is, by its own account.

    Attributes:
        index: its place in the set.
        reachable: whether it answered; if not, `reason` says what is known and the numbers are 0.
        view, primary: its view and that view's primary.
        height: the last batch it executed; `time_ms` is that batch's time.
        lag: how many batches it is behind the highest that answered.
        state: the replicas' state after batch `height`, 32 bytes.
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


class PendingCall:
    """A submission or a query in progress, and what each aggregator answered.

    Attributes:
        deadline_s: when it fails, on the thread's clock.
        answers: the answer of each aggregator, by index.
        first_sent_s: when it was first sent; 0 before that.
        refusals: the refusal of each aggregator that refused, by index.
        only: the one aggregator that is asked; None for all.
        since: a query may not be answered from a state before this batch.
        executed: the batch that each aggregator's answer is of, by index.
    """

    def __init__(self, call: Call[bytes], deadline_s: float) -> None:
        self.call = call
        self.deadline_s = deadline_s
        self.answers: dict[int, object] = {}
        self.first_sent_s = 0.0
        self.refusals: dict[int, PotLabError] = {}
        self.only: int | None = None
        self.since = 0
        self.executed: dict[int, int] = {}

    def forget(self) -> None:
        """Count anew: another set of aggregators is in force, so an index means another aggregator."""
        self.answers.clear()
        self.refusals.clear()

    def concerns(self, index: int) -> bool:
        """Whether this aggregator is asked."""
        return self.only is None or self.only == index

    def count(self, index: int, answer: object) -> int:
        """Store one aggregator's answer; returns how many aggregators gave an equal one."""
        self.answers[index] = answer
        return sum(other == answer for other in self.answers.values())


class Vouched:
    """What f+1 aggregators vouch for, shared by the parts of one client.

    Attributes:
        needed: how many equal answers count, f+1 of the set in force.
        known: the last batch that f+1 aggregators told of.
    """

    def __init__(self, n: int) -> None:
        self.needed = weak_quorum(n)
        self.known = 0

    def change_set(self, n: int) -> None:
        """A set of n aggregators is in force now."""
        self.needed = weak_quorum(n)

    def note(self, sequence: int) -> None:
        """f+1 aggregators told of this batch."""
        self.known = max(self.known, sequence)


class TimedLoop(Protocol):
    """What the parts of a client need of its thread (`IoThread`)."""

    def now_s(self) -> float:
        """The clock's time in seconds."""
        ...

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Run an action `delay_s` from now."""
        ...


class Target(Protocol):
    """What the parts of a client need of the connection to one aggregator (`AggregatorLink`)."""

    @property
    def index(self) -> int:
        """Its place in the set in force."""
        ...

    def send(self, frame: bytes) -> bool:
        """Send a frame; False when it was not taken."""
        ...


class Targets(Protocol):
    """What the parts of a client need of all its connections (`AggregatorLinks`)."""

    def __iter__(self) -> Iterator[Target]: ...

    def __len__(self) -> int: ...

    def reason(self, index: int) -> str:
        """What is known of an aggregator that did not answer."""
        ...

    def unanswered(self, pending: PendingCall, what: str, needed: int) -> Unreachable:
        """The error of a call that `needed` aggregators did not answer alike in time."""
        ...


def closed_error() -> ClientClosed:
    """The error of a call on a client that cannot be used any more."""
    return ClientClosed("this client is closed, or was made by another process")
