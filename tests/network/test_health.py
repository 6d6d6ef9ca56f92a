"""`/metrics` and `/healthz` of a real aggregator process, while its network loses its quorum and has it again."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from pot_lab.network.loopback import free_ports
from tests.network.toy import ToyNetwork

PATIENCE_S = 240


def test_an_aggregator_that_hears_too_few_says_so(tmp_path: Path) -> None:
    [port] = free_ports(1)

    def get(path: str) -> str:
        try:
            return urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S).read().decode()
        except HTTPError as error:
            return error.read().decode()

    def wait_for(told: str) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while told not in (health := get("/healthz")):
            assert time.monotonic() < until_s, health
            time.sleep(0.1)

    with ToyNetwork(tmp_path, durability="flush") as network:
        network.stop(0)
        network.start(0, TOY_METRICS_PORT=str(port))
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                wait_for("healthy")
                break
            except OSError:
                assert time.monotonic() < until_s
                time.sleep(0.1)
        while "pot_lab_peers_heard 3.0" not in (metrics := get("/metrics")):  # two are enough to be healthy
            assert time.monotonic() < until_s, metrics
            time.sleep(0.1)
        network.kill(2)
        network.kill(3)
        wait_for("it hears 1 other aggregators of the 2 that it needs")
        network.start(2)
        wait_for("healthy")
