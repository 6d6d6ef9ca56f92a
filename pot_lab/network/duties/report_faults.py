"""Tell the operator of faults of the ledger: what failed in its rules and was taken back (protocol.md, "Faults")."""

from __future__ import annotations

from collections.abc import Callable

from pot_lab.network.duties.duty import log
from pot_lab.protocol.ledger import Ledger


class ReportFaults:
    """Logs each fault once, with its traceback, and counts it.

    Args:
        ledger: this replica's ledger.
        count: called for each fault.
    """

    def __init__(self, ledger: Callable[[], Ledger], count: Callable[[], None]) -> None:
        self._ledger, self._count = ledger, count

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Log what failed in the batches until now."""
        faults = self._ledger().faults
        while faults:
            fault = faults.popleft()
            self._count()
            order = f" order={fault.order_id.hex()}" if fault.order_id else ""
            log.error("ledger_fault where=%r%s batch=%d\n%s", fault.where, order, sequence, fault.traceback)

    def poll(self, now_ms: int) -> list[bytes]:
        """It submits nothing."""
        return []
