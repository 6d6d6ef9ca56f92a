"""The interface of a duty: what an aggregator does besides ordering.

A duty reads its own replica's ledger after every batch and submits, as signed transactions, what is still missing
there; so a restarted aggregator goes on where it was, and submitting a thing twice is harmless (the ledger refuses it).
Slow work (the chain) runs on another thread (`ChainQueue`, `ChainWatch`); nothing in a duty blocks the aggregator's
loop.
"""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

log = logging.getLogger("pot_lab.network.duties")

REPEAT_AFTER_MS = 3_000
"""A transaction that has no effect in the ledger after this long is submitted again."""


class Duty(Protocol):
    """What an aggregator does besides ordering: publish key shares, attest the chain, sign epochs."""

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """A batch was executed. Called in order for every batch, again for those replayed after a restart."""
        ...

    def poll(self, now_ms: int) -> list[bytes]:
        """Signed requests to submit now; called often, from the aggregator's only thread, so it must not block."""
        ...


@runtime_checkable
class ClosingDuty(Duty, Protocol):
    """A duty that holds processes or threads, which end with the aggregator."""

    def close(self) -> None:
        """End them. Called once, after the last poll, when the aggregator stops for whatever reason."""
        ...
