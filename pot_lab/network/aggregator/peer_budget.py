"""What one peer may cost: a seat is trusted with its vote, not with everybody's time.

Whatever a peer sends is paid from a budget of its own, and while that is spent its frames wait in the kernel. Requests
that it forwards are validated here, before the replica takes them: an aggregator validates what it forwards, so one
that forwards what no aggregator would admit is at fault, and its forwards are dropped for a while. What a peer asks
for is paid from the same budget: a few bytes may ask for a megabyte of the log.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from pot_lab.agreement.application import Application
from pot_lab.consensus.messages import (
    FetchBatches,
    FetchBodies,
    FetchChunk,
    FetchDecisions,
    FetchViewChanges,
    Forward,
    Message,
    NewView,
    Offer,
    Stable,
    Status,
    ViewChange,
)
from pot_lab.errors import PotLabError

SHARE = 0.3
"""A peer may use so much of the thread's time in the long run: none of it counts that other processes took."""
BURST_S = 0.5
"""It may run ahead by so much."""
MUTE_S = 30.0
"""So long nothing is taken that a peer forwards, after one request that does not validate."""
_FRAME_S, _BYTE_S = 60e-6, 2e-9
"""What a frame costs besides its decoding: a vote's signature, decryption."""

_MEASURED = (
    Status,
    FetchBodies,
    FetchBatches,
    FetchDecisions,
    FetchChunk,
    FetchViewChanges,
    ViewChange,
    NewView,
    Offer,
    Stable,
)


def is_measured(message: Message) -> bool:
    """Whether a message may cost far more than its bytes say, in answers or signatures, so that the replica's time for
    it is measured. Votes and proposals, by far the most, cost about the same each.
    """
    return isinstance(message, _MEASURED)


class PeerBudgets:
    """How much time each peer has used of late.

    Args:
        clock: the time that the thread had, in seconds (`ServingClock`).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._used: dict[int, tuple[float, float]] = {}
        self._serving_since_s: float | None = None

    def wants(self, peer: int) -> bool:
        """Whether frames of this peer are taken now."""
        return self._debt_s(peer) < BURST_S

    def charge(self, peer: int, seconds: float) -> None:
        """Something that this peer sent took so long."""
        self._used[peer] = self._debt_s(peer) + seconds, self.clock()

    def charge_frame(self, peer: int, size_bytes: int, seconds: float) -> None:
        """A frame of this peer was decoded, which took so long; its signature is yet to be checked."""
        self.charge(peer, _FRAME_S + size_bytes * _BYTE_S + seconds)

    def may_serve(self, peer: int) -> bool:
        """Whether something may be read for this peer now, at its cost until `answer_began_s` is asked."""
        may_serve = self.wants(peer)
        self._serving_since_s = self.clock() if may_serve else None
        return may_serve

    def answer_began_s(self) -> float:
        """When the answer that is about to be sent began to cost: now, or when something was read for it."""
        since_s, self._serving_since_s = self._serving_since_s, None
        return self.clock() if since_s is None else since_s

    @property
    def is_anyone_waiting(self) -> bool:
        """Whether some peer's budget is spent."""
        return any(not self.wants(peer) for peer in self._used)

    def clear(self) -> None:
        """Numbers mean other peers from now on."""
        self._used.clear()

    def _debt_s(self, peer: int) -> float:
        debt_s, at_s = self._used.get(peer, (0.0, 0.0))
        return max(0.0, debt_s - SHARE * (self.clock() - at_s))


class ForwardFilter:
    """Validates what peers forward, within their budgets.

    Args:
        application: validates a request, and remembers that it did.
        budgets: pay for it.
        counters: counts what is dropped.
        now_s: seconds, never going back; a peer is muted by this.
    """

    def __init__(
        self,
        application: Application,
        budgets: PeerBudgets,
        counters: Counter[str],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._application, self._budgets, self._counters = application, budgets, counters
        self._now_s = now_s
        self._muted_until_s: dict[int, float] = {}

    def admit(self, peer: int, message: Forward) -> Forward | None:
        """The requests of a forward that validate in the time that its sender has; None without any."""
        budgets, requests = self._budgets, message.requests
        if self._now_s() < self._muted_until_s.get(peer, 0.0):
            self._counters["forwards_muted"] += len(requests)
            return None
        for at, request in enumerate(requests):
            if not budgets.wants(peer):
                self._counters["forwards_over_budget"] += len(requests) - at
                return Forward(requests[:at]) if at else None
            started_s = budgets.clock()
            try:
                self._application.validate(request)
            except PotLabError:
                self._counters["peers_muted"] += 1
                self._counters["forwards_muted"] += len(requests) - at
                self._muted_until_s[peer] = self._now_s() + MUTE_S
                return Forward(requests[:at]) if at else None
            finally:
                budgets.charge(peer, budgets.clock() - started_s)
        return message

    def clear(self) -> None:
        """Numbers mean other peers from now on."""
        self._muted_until_s.clear()
