"""Practice miners: registered when `up` returns, gone with the network, and started again with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.lab import connect
from pot_lab.testnet.practice import main
from pot_lab.testnet.testnet import MINERS, Testnet


@pytest.mark.slow
def test_practice_miners_come_and_go_with_the_network(networks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Testnet.up("local", durability="flush", miners=True)
    try:
        assert all(net.processes()[name] for name in MINERS)
        with LedgerClient.open(net.network_file) as client:
            view = client.network()
            assert (view.providers, view.validators) == (1, 3)
        for name in ("practice-provider", "chain"):
            os.kill(net.pid(name), signal.SIGKILL)
            while net.processes()[name]:
                time.sleep(0.01)
        with connect("local") as lab:
            assert lab.client.network().validators == 3
            assert lab.balance() > 0
        assert "starting what is missing: chain, practice-provider" in capsys.readouterr().out and not net.missing()
        net._table.stop_all(only={"chain", "store", *(f"aggregator-{i}" for i in range(4))})
        assert not net.is_up() and any(net.processes().values())  # miners alone are no network
        before = {name: net.pid(name) for name in MINERS}
        again = Testnet.up("local", miners=True)
        assert all(again.processes().values())
        assert all(again.pid(name) != pid for name, pid in before.items())
    finally:
        net.down()
    assert not any(net.processes().values())


def test_practice_miners_need_accounts_and_a_known_role() -> None:
    for wrong in (["--network", "n", "--role", "provider"], ["--network", "n", "--role", "client", "a"]):
        with pytest.raises(SystemExit):
            main(wrong)
