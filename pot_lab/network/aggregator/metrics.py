"""What an aggregator counts, for `status` and, in Prometheus' text form, for `metrics`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping

from pot_lab.agreement.quorum import quorum
from pot_lab.consensus.replica import Replica

_HEARD_LATELY_MS = 10_000
_PEERS_A_PACE = 16


class PeerActivity:
    """When each peer was last heard from; heartbeats are rarer in large sets, so the time that counts is longer."""

    def __init__(self) -> None:
        self._heard_ms: dict[int, int] = {}

    def note(self, peer: int, now_ms: int) -> None:
        """A frame came from this peer."""
        self._heard_ms[peer] = now_ms

    def clear(self) -> None:
        """Numbers mean other peers from now on."""
        self._heard_ms.clear()

    def count(self, now_ms: int, n: int) -> int:
        """How many were heard from lately, in a network of n aggregators."""
        since_ms = now_ms - _HEARD_LATELY_MS * max(1, n // _PEERS_A_PACE)
        return sum(at_ms >= since_ms for at_ms in self._heard_ms.values())


class Metrics:
    """Totals of everything that was counted since the process started.

    Args:
        replica: whose state is shown.
        clock_ms: milliseconds since the Unix epoch.
    """

    def __init__(self, replica: Replica, clock_ms: Callable[[], int]) -> None:
        self._replica, self._clock_ms = replica, clock_ms
        self._parts: list[Callable[[], Mapping[str, int]]] = []
        self._started_ms = clock_ms()

    def add(self, part: Callable[[], Mapping[str, int]]) -> None:
        """Add a part's counters to the totals, summed by name with those of others."""
        self._parts.append(part)

    def totals(self) -> dict[str, int]:
        """Everything that was counted, by name."""
        totals: Counter[str] = Counter()
        totals.update(self._replica.counters)
        for part in self._parts:
            totals.update(part())
        totals["requests_pending"] = len(self._replica.pool)
        totals["batches_open"] = self._replica.open_batches
        totals["resident_bytes"] = _resident_bytes()
        totals["uptime_ms"] = self._clock_ms() - self._started_ms
        return dict(totals)

    def gauges(self) -> dict[str, int]:
        """The replica's position."""
        replica = self._replica
        return {
            "view": replica.view,
            "view_changing": int(replica.changing),
            "executed_sequence": replica.executed,
            "executed_time_ms": replica.time_ms,
            "stable_sequence": replica.low,
        }

    def ailments(self) -> list[str]:
        """Why this aggregator is not healthy; empty if it is."""
        heard, needed = self.totals().get("peers_heard", 0), quorum(self._replica.n) - 1
        found = []
        if heard < needed:
            found.append(f"it hears {heard} other aggregators of the {needed} that it needs")
        if self._replica.changing:
            found.append("it waits for another primary")
        return found

    def text(self) -> str:
        """The totals and the replica's position in Prometheus' text form."""
        lines = [f"pot_lab_{name} {value}" for name, value in self.gauges().items()]
        lines += [f"pot_lab_{name} {value}" for name, value in sorted(self.totals().items())]
        return "\n".join(lines) + "\n"


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
