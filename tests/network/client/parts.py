"""A loop whose time the test turns, and connections that keep what is sent: what the parts of a client need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pot_lab.network.client.calls import PendingCall
from pot_lab.network.client.io_thread import Timers
from pot_lab.network.errors import NoAgreement, Unreachable
from pot_lab.network.wire import Question, decode_question


class TurnedLoop:
    """A loop in virtual time."""

    def __init__(self) -> None:
        self.time_s = 100.0
        self._timers = Timers(self.now_s)

    def now_s(self) -> float:
        return self.time_s

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timers.after(delay_s, action)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and do what is due on the way."""
        end_s = self.time_s + seconds
        while True:
            while (due := self._timers.pop_due()) is not None:
                due()
            wait_s = self._timers.wait_s(end_s - self.time_s)
            if self.time_s + wait_s >= end_s:
                self.time_s = end_s
                break
            self.time_s += max(wait_s, 1e-9)
        while (due := self._timers.pop_due()) is not None:
            due()


class KeptLink:
    """A connection whose frames are kept; `takes` says how many more it takes."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.takes = 1_000_000
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> bool:
        if not self.takes:
            return False
        self.takes -= 1
        self.frames.append(frame)
        return True

    def sent(self) -> list[Question]:
        """What was sent since the last call."""
        frames, self.frames = self.frames, []
        return [decode_question(frame) for frame in frames]


class KeptLinks:
    """Connections to n aggregators."""

    def __init__(self, n: int) -> None:
        self.links = [KeptLink(index) for index in range(n)]

    def __iter__(self) -> Iterator[KeptLink]:
        return iter(self.links)

    def __len__(self) -> int:
        return len(self.links)

    def __getitem__(self, index: int) -> KeptLink:
        return self.links[index]

    def reason(self, index: int) -> str:
        return f"aggregator {index} is away"

    def unanswered(self, pending: PendingCall, what: str, needed: int) -> Unreachable:
        kind = NoAgreement if len(pending.answers) >= needed else Unreachable
        return kind(f"{what} by {needed}", dict.fromkeys(range(len(self)), "away"))

    def sent(self) -> list[list[Question]]:
        """What was sent since the last call, by aggregator."""
        return [link.sent() for link in self.links]
