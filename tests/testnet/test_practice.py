"""Practice miners: registered when `up` returns, gone with the network, and started again with it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from pot_lab.cli.main import main as main_command
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.lab import connect
from pot_lab.protocol.parameters import Role
from pot_lab.store import Store
from pot_lab.testnet.practice import main, practice_loop, tidy
from pot_lab.testnet.testnet import MINERS, Testnet
from tests.jobs.in_process import HeldRunner, InProcessClient, Market, Wallet
from tests.protocol.scenes import PROVIDERS


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
        old = Store(net.folder / "blobs").put(b"of no order")
        os.utime(net.folder / "blobs" / old.digest.hex(), (0, 0))
        with connect("local") as lab:
            assert lab.client.network().validators == 3
            assert lab.balance() > 0
        assert "starting what is missing: chain, practice-provider" in capsys.readouterr().out and not net.missing()
        assert main_command(["store", "prune", "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"blobs": 1, "size_bytes": 11, "named": 0}
        late = Store(net.folder / "blobs").put(b"of no order either")
        os.utime(net.folder / "blobs" / late.digest.hex(), (0, 0))
        tidy(net.network_file)
        assert not (net.folder / "blobs" / late.digest.hex()).exists()
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


def test_orders_of_several_kernels_are_trained_at_once(tmp_path: Path) -> None:
    """One after the other, the second would come to its end without a model."""
    market, store, runner = Market(), Store(tmp_path / "blobs"), HeldRunner()
    market.stake(PROVIDERS[0], Role.PROVIDER)
    for number in range(2):
        files = {name: name.encode() + b"%d" % number for name in ("graph", "weights", "train", "test")}
        market.place(store, files=files)
    loop = practice_loop("provider", InProcessClient(market, PROVIDERS[0]), store, runner, tmp_path, Wallet)
    loop.clock_ms = lambda: market.now_ms
    deadline_s = time.monotonic() + 600
    while len(runner.jobs) < 2:
        loop.step()
        assert time.monotonic() < deadline_s
    assert {job.state for job in runner.jobs.values()} == {"running"}
    loop.files.close()


def test_a_store_is_left_alone_while_its_network_does_not_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Store(tmp_path / "blobs").put(b"of no order, as far as one knows")
    os.utime(tmp_path / "blobs" / old.digest.hex(), (0, 0))
    caplog.set_level("INFO", "pot_lab")
    tidy(tmp_path / "network.toml")
    assert (tmp_path / "blobs" / old.digest.hex()).exists() and "event=store_not_tidied" in caplog.text
