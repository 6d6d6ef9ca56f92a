"""A settlement while its sender and the chain's node are killed: it is carried out once, by whoever is next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from pot_lab.notebook.lab import Lab, connect
from pot_lab.testnet.testnet import Testnet
from tests.chain.world import start_chain, stop
from tests.running import is_running
from tests.scenarios.processes import await_nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2_400)]


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    net = Testnet.up("settling", providers=0, validators=0, verifiers=0, durability="flush")
    yield net
    net.down()
    assert await_nothing_left(tmp_path) == []


def kill(testnet: Testnet, process: str) -> None:
    pid = testnet.pid(process)
    os.kill(pid, signal.SIGKILL)
    while is_running(pid):
        time.sleep(0.01)


def await_epoch(lab: Lab, epoch: int) -> None:
    deadline = time.monotonic() + 800
    while lab.client.epoch().confirmed_epoch < epoch:
        assert time.monotonic() < deadline, "the epoch is never settled"
        time.sleep(0.2)


@pytest.mark.filterwarnings("ignore:no provider")
def test_an_epoch_whose_sender_and_node_are_killed_is_settled_once_by_the_next(
    testnet: Testnet, tmp_path: Path
) -> None:
    with connect("settling") as lab:
        before = lab.balance()
        x, y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3
        order = lab.order(nn.Linear(4, 3), (x, y), (x, y), reward=5, train_for="60s", without_miners=True)
        cost = before - lab.balance()
        first_in_turn = (1 + 1) % 4  # of epoch 1, round 1
        kill(testnet, f"aggregator-{first_in_turn}")
        order.withdraw()
        kill(testnet, "chain")
        time.sleep(3)  # the epoch opens and is signed while nobody can send it
        port = lab.config.chain.rpc_url.rsplit(":", 1)[1] if lab.config.chain else ""
        chain, _ = start_chain(tmp_path, "--journal", str(testnet.folder / "chain" / "journal"), "--port", port)
        try:
            await_epoch(lab, 1)
            assert lab.chain_wallet.epoch() == 1
            assert lab.balance() == before and cost > 5
            assert lab.collect() == 0 and lab.balance() == before
            assert lab.chain_wallet.balance_grains(lab.chain_wallet.contracts.escrow) == 0
        finally:
            stop(chain)
