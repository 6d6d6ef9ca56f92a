"""Every link of an order dies once the aggregators have what it named: validators score all the same, and the client
gets its model.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.demo import digits
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.notebook.lab import connect
from pot_lab.protocol.cycle import Window
from pot_lab.testnet.testnet import Testnet
from tests.running import is_running
from tests.scenarios.processes import await_nothing_left, start
from tests.testnets import register_miners

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(2_400)]

PATIENCE_S = 800.0


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    net = Testnet.up("dead-links", providers=1, validators=3, verifiers=0, durability="flush")
    try:
        register_miners(net)
        yield net
    finally:
        net.down()
    assert await_nothing_left(tmp_path) == []


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.05)


def has(entry: AggregatorEntry, link: Link) -> bool:
    """Whether an aggregator serves a blob."""
    with contextlib.closing(http.client.HTTPConnection(entry.host, entry.custody_port, timeout=30)) as connection:
        try:
            connection.request("HEAD", f"/{link.digest.hex()}")
            return connection.getresponse().status == 200
        except OSError:
            return False


@contextlib.contextmanager
def mining(folder: Path, home: Path, *miners: tuple[str, str]) -> Iterator[None]:
    """Miners, by role and account."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for role, account in miners:
            (folder / account).mkdir()
            given = ["mine", role, "--account", account, "--orders", "1", "--set", "threads=1"]
            running.append(start(given, folder / account, home=home))
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def test_models_are_scored_and_fetched_from_custody_when_no_link_answers(
    testnet: Testnet, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("output")
    aggregators = NetworkConfig.load(testnet.network_file).aggregators
    model, train, test = digits()
    with connect("dead-links") as lab, mining(folder, tmp_path, ("provider", "provider-0")):
        order = lab.order(model, train, test, reward=5, train_for="60s")
        scored = Window.SCORE, Window.VOID
        view = lab.client.wait_for_order(order.id, lambda it: it.window in scored, timeout_s=PATIENCE_S)
        assert view.window is Window.SCORE, view.void_reason
        spec = view.order
        links = [
            spec.model,
            spec.weights,
            spec.train,
            spec.test.link,
            *(c.ciphertext for c in view.claims if c.ciphertext),
        ]
        assert len(links) > 4
        until(lambda: all(has(entry, link) for entry in aggregators for link in links), "all aggregators have all")
        store = testnet.pid("store")
        os.kill(store, signal.SIGKILL)
        until(lambda: not is_running(store), "the store is dead")
        with mining(folder, tmp_path, *(("validator", f"validator-{i}") for i in range(3))):
            sealed = Window.FINALIZATION, Window.SETTLED, Window.VOID
            ended = lab.client.wait_for_order(order.id, lambda it: it.window in sealed, timeout_s=PATIENCE_S)
        assert ended.winner, ended.void_reason
        assert all(claim.agreed is not None for claim in ended.claims if claim.mid)
        assert order.model()(train[0][:1]).shape == (1, 10)
