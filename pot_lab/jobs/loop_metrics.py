"""What a mining loop says of itself to Prometheus: its orders, its notebooks, and what waits for something."""

from __future__ import annotations

from typing import Any

import psutil

from pot_lab.jobs.loop import Loop
from pot_lab.jobs.troubles import CLOCK_OFF_MS
from pot_lab.network.metrics_server import MetricsServer

STALLED_S = 120.0
"""A miner whose loop has made no step for so long is not healthy: a step may wait for the network, but no longer."""


def publish_state(server: MetricsServer, loop: Loop[Any]) -> None:
    """Publish a loop's state, if it is time to; called after each of its steps.

    Args:
        server: answers `/metrics` and `/healthz` with it.
        loop: between two steps.
    """
    if not server.due:
        return
    active = loop.memories.active()
    ahead_ms = loop.feed.ahead_ms
    gauges = {
        "miner_orders_active": len(active),
        "miner_jobs_running": sum(loop.jobs.is_running(each) for each in active if each.job_id and not each.job_over),
        "miner_orders_waiting": loop.troubles.waiting,
        "miner_orders_failing": loop.troubles.failing,
        "miner_clock_ahead_ms": ahead_ms,
        "miner_resident_bytes": psutil.Process().memory_info().rss,
        "miner_disk_free_bytes": psutil.disk_usage(str(loop.memories.folder)).free,
    }
    ailments = []
    if abs(ahead_ms) > CLOCK_OFF_MS:
        ailments.append(f"its clock is off by {abs(ahead_ms) / 1000:.0f} s")
    if loop.troubles.failing:
        ailments.append(f"{loop.troubles.failing} of its orders fail for a fault of the program; see the log")
    server.publish(gauges, {"miner_orders_finished": loop.finished}, ailments)
