"""What a loop says of orders that fail, once for each reason, and how long those rest that fail for a fault of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

REST_MS = 5_000
"""How long an order rests whose step failed for a fault of this program; its deadlines go on meanwhile."""


CLOCK_OFF_MS = 5_000
"""A clock that differs from the ledger's time by more is told of; deadlines are by the ledger's."""


class Troubles:
    """The troubles of one loop's orders.

    Args:
        role: for the log.
        clock_ms: the host's clock in milliseconds.
    """

    def __init__(self, role: str, clock_ms: Callable[[], int]) -> None:
        self._role, self._clock_ms = role, clock_ms
        self._warnings: dict[bytes, str] = {}
        self._failed_ms: dict[bytes, int] = {}
        self._clock_is_off = False

    def warn(self, order_id: bytes, error: Exception) -> None:
        """Log why an order waits, unless that was the last thing logged of it."""
        if self._warnings.get(order_id) == str(error):
            return
        self._warnings[order_id] = str(error)
        log.warning("event=waiting role=%s order=%s reason=%r", self._role, _short(order_id), str(error))

    @property
    def waiting(self) -> int:
        """How many orders wait for something outside this program."""
        return sum(bool(order_id) for order_id in self._warnings)

    @property
    def failing(self) -> int:
        """How many orders rest at the moment since a step of theirs failed for a fault of this program."""
        return sum(self.rests(order_id) for order_id in self._failed_ms)

    def check_clock(self, ahead_ms: int) -> None:
        """Log once that this host's clock is that far ahead of the ledger's time (behind: negative), if it is far."""
        is_off = abs(ahead_ms) > CLOCK_OFF_MS
        if is_off and not self._clock_is_off:
            log.warning(
                "event=clock_off role=%s reason='this host's clock is %.0f s %s the network's: deadlines are missed "
                "and orders passed over; set the clock'",
                self._role,
                abs(ahead_ms) / 1000,
                "ahead of" if ahead_ms > 0 else "behind",
            )
        self._clock_is_off = is_off

    def fail(self, order_id: bytes) -> None:
        """Log the exception that is handled now with its traceback, and let the order rest."""
        log.exception("event=order_failed role=%s order=%s", self._role, _short(order_id))
        self._failed_ms[order_id] = self._clock_ms()

    def rests(self, order_id: bytes) -> bool:
        """Whether an order failed a moment ago."""
        failed_ms = self._failed_ms.get(order_id)
        return failed_ms is not None and 0 <= self._clock_ms() - failed_ms < REST_MS

    def over(self, order_id: bytes) -> None:
        """An order goes well again: what it fails for next is logged anew."""
        self._warnings.pop(order_id, None)

    def forget(self, order_id: bytes) -> None:
        """Nothing more happens to this order."""
        self._warnings.pop(order_id, None)
        self._failed_ms.pop(order_id, None)


def _short(order_id: bytes) -> str:
    return order_id.hex()[:12] or "-"
