"""A loop's state over HTTP: what is at hand, what waits, and when it is not healthy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pot_lab.errors import PotLabError
from pot_lab.jobs.loop_metrics import publish_state
from pot_lab.jobs.troubles import CLOCK_OFF_MS, Troubles
from pot_lab.network.metrics_server import MetricsServer


def metrics_of(server: MetricsServer) -> dict[str, float]:
    text = urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=240).read().decode()
    return {each.name: each.samples[0].value for each in text_string_to_metric_families(text)}


def health_of(server: MetricsServer) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=240) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def loop(tmp_path: Any) -> Any:
    jobs = [SimpleNamespace(job_id="a", job_over=False), SimpleNamespace(job_id="b", job_over=True)]
    return SimpleNamespace(
        memories=SimpleNamespace(active=lambda: [*jobs, SimpleNamespace(job_id="", job_over=False)], folder=tmp_path),
        feed=SimpleNamespace(ahead_ms=7),
        jobs=SimpleNamespace(is_running=lambda memory: True),
        troubles=Troubles("provider", lambda: 1_000),
        finished=3,
    )


def test_a_loops_orders_and_troubles_are_counted(loop: Any) -> None:
    now_s = [0.0]
    with MetricsServer("127.0.0.1", 0, lambda: now_s[0], stalled_s=50) as server:
        publish_state(server, loop)  # not due yet: nothing is told
        assert "pot_lab_miner_orders_active" not in metrics_of(server) and health_of(server)[0] == 503
        now_s[0] = 2
        publish_state(server, loop)
        found = metrics_of(server)
        assert found["pot_lab_miner_orders_active"] == 3 and found["pot_lab_miner_jobs_running"] == 1
        assert found["pot_lab_miner_orders_finished"] == 3 and found["pot_lab_miner_clock_ahead_ms"] == 7
        assert found["pot_lab_miner_disk_free_bytes"] > 0 and found["pot_lab_miner_resident_bytes"] > 1 << 20
        assert health_of(server) == (200, "healthy\n")
        loop.troubles.warn(b"", PotLabError("the network is away"))  # of no order
        loop.troubles.warn(b"1", PotLabError("no room"))
        loop.troubles.fail(b"2")
        loop.feed.ahead_ms = -2 * CLOCK_OFF_MS
        now_s[0] = 4
        publish_state(server, loop)
        found = metrics_of(server)
        assert found["pot_lab_miner_orders_waiting"] == 1 and found["pot_lab_miner_orders_failing"] == 1
        status, told = health_of(server)
        assert status == 503 and "clock is off by 10 s" in told and "1 of its orders fail" in told
        now_s[0] = 60
        assert "its loop has stood still for 56 s" in health_of(server)[1]
