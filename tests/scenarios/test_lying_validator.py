"""One validator of three lies about one example: the aggregators run it again, and the liar alone pays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.demo import digits
from pot_lab.notebook.lab import connect
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.testnet.testnet import Testnet
from tests.scenarios.processes import await_nothing_left
from tests.testnets import register_miners

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PATIENCE_S = 600.0
MINERS = [
    ("pot_lab.cli", "mine", "provider", "--account", "provider-0"),
    ("pot_lab.cli", "mine", "validator", "--account", "validator-0"),
    ("pot_lab.cli", "mine", "validator", "--account", "validator-1"),
    ("tests.scenarios.lying_validator", "--account", "validator-2"),
]


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    # Time to judge on a machine that does much else; the judge window closes with the last verdict.
    windows = {"usual_windows_ms": [60_000, 120_000, 120_000, 60_000, 20_000, 5_000, 240_000]}
    net = Testnet.up("liar", providers=1, validators=3, verifiers=0, durability="flush", parameters=windows)
    register_miners(net)
    yield net
    net.down()
    assert await_nothing_left(tmp_path) == []


@pytest.fixture
def miners(testnet: Testnet, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("output")
    running = []
    for number, (module, *arguments) in enumerate(MINERS):
        with (folder / f"{number}.txt").open("wb") as output:
            command = [sys.executable, "-m", module, *arguments, "--orders", "1", "--set", "threads=1"]
            environment = {**os.environ, "POT_LAB_HOME": str(tmp_path)}
            running.append(subprocess.Popen(command, stdout=output, stderr=output, env=environment))
    yield folder
    for process in running:
        process.terminate()
    for process in running:
        process.wait()


def test_a_lie_about_one_example_is_found_by_the_aggregators_and_costs_the_liar_alone(
    testnet: Testnet, miners: Path
) -> None:
    with connect("liar") as lab:
        model, train, test = digits()
        order = lab.order(model, train, test, reward=5, train_for="60s")
        ends = Window.FINALIZATION, Window.SETTLED, Window.VOID
        view = lab.client.wait_for_order(order.id, lambda it: it.window in ends, timeout_s=PATIENCE_S)
        assert view.winner, view.void_reason
        addresses = [testnet.identity(f"validator-{it}").address for it in range(3)]
        slashed = [
            next(each.slashed_grains for each in lab.client.account(it).stakes if each.role == Role.VALIDATOR)
            for it in addresses
        ]
        assert slashed[:2] == [0, 0] and slashed[2] > 0
        paid = {each.account for each in view.payouts if each.reason == "validator"}
        assert paid == set(addresses[:2])
        scoring = sum(each.grains for each in view.payouts if each.account in addresses[:2])
        wanted = scoring + slashed[2] // 2 - len(addresses)  # half of the liar's lock, but for what rounding leaves
        end = time.monotonic() + PATIENCE_S
        while sum(lab.client.account(it).claimable_cumulative_grains for it in addresses[:2]) < wanted:
            assert time.monotonic() < end, "the chain took the stake from the liar and gave it to nobody"
            time.sleep(0.5)
        assert order.rescore().total == next(it for it in view.claims if it.agreed).agreed.total
