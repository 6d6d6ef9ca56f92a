"""The interface of a duty."""

from __future__ import annotations

from typing import Protocol


class Duty(Protocol):
    """What an aggregator does besides ordering: publish key shares, attest the chain, sign epochs."""

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """A batch was executed. Called in order for every batch, again for those replayed after a restart."""
        ...

    def poll(self, now_ms: int) -> list[bytes]:
        """Signed requests to submit now; called often, from the aggregator's only thread, so it must not block."""
        ...
