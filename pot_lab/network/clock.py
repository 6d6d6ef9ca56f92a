"""This host's clock: the default of every argument that is a clock."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch, as the host counts them; may be wrong, and may go back when it is set."""
    return time.time_ns() // 1_000_000


def wall_clock_us() -> int:
    """Microseconds since the Unix epoch; otherwise as `wall_clock_ms`."""
    return time.time_ns() // 1_000
