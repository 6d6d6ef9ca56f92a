"""Four operators, each with a home of its own, found a network by `pot-lab network` alone, and money moves in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.crypto.identity import format_address
from pot_lab.network.aggregator.keys_folder import make_account
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.loopback import free_ports
from tests.scenarios.processes import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2_400)]
HOSTS = 4
QUICK = ["update_ms=2000", "pool_ms=120000", "settlement_timeout_ms=30000", "seal_margin_ms=10000"]
UP_WITHIN_S = 400.0


class Hosts:
    """A chain and a store that are there already, and four hosts that know nothing of each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.homes = [folder / f"host-{index}" for index in range(HOSTS)]
        self.founder = make_account(folder / "founder", work_factor=1 << 10)
        self.client = make_account(folder / "client", work_factor=1 << 10)
        self._opened = contextlib.ExitStack()
        self.aggregators: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, home: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
        """A process of a host, which is ended with the test."""
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "POT_LAB_HOME": str(home)},
            )
        self._opened.callback(process.wait)
        self._opened.callback(process.kill)
        return process

    def serve(self, name: str, arguments: list[str]) -> str:
        """A server of the loopback; its URL."""
        file = self.folder / f"{name}.port"
        self.start(name, self.folder / name, [*arguments, "--port-file", str(file)])
        deadline_s = time.monotonic() + UP_WITHIN_S
        while not (file.is_file() and file.read_text().strip()):
            assert time.monotonic() < deadline_s, (self.folder / f"{name}.log").read_text()
            time.sleep(0.05)
        return f"http://127.0.0.1:{file.read_text().strip()}"

    def facts(self, home: Path, *arguments: str) -> Any:
        """What a command prints as JSON."""
        done = run([*arguments, "--json"], home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def close(self) -> None:
        """End all processes."""
        self._opened.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_four_operators_found_a_network_from_nothing_and_money_moves_in_it(hosts: Hosts) -> None:
    founder = format_address(hosts.founder.address)
    chain = hosts.serve("chain", ["pot_lab.chain.embedded", "--accounts", founder])
    store = hosts.serve("store", ["pot_lab.store.server", "--root", str(hosts.folder / "blobs")])

    # each operator makes keys on its own host, and sends the founder its card
    cards = []
    for home in hosts.homes:
        listen = ["--listen", "127.0.0.1", *map(str, free_ports(3))]
        made = hosts.facts(home, "network", "keys", str(home / "keys"), *listen, "--operator", home.name)
        cards.append(made["card"])

    # one founds it; nothing is overwritten if it is tried again
    file = hosts.folder / "network.toml"
    found = ["network", "found", *cards, "--name", "four", "--chain", chain, "--store", store, "--confirmations", "0"]
    found += ["--account", str(hosts.folder / "founder"), "--out", str(file), "--yes"]
    found += ["--grant", f"{format_address(hosts.client.address)}=500"]
    founded = hosts.facts(hosts.folder, *found, *(word for each in QUICK for word in ("--set", each)))
    assert founded["aggregators"] == HOSTS and founded["signed"] == []
    again = run(found, hosts.folder)
    assert again.returncode == 1 and "never overwritten" in again.stderr

    # each signs its own copy; the founder collects the signatures, and publishes the file
    copies = []
    for home in hosts.homes:
        copy = home / "network.toml"
        copy.write_bytes(file.read_bytes())
        signed = hosts.facts(home, "network", "sign", str(copy), "--keys", str(home / "keys"), "--yes")
        assert signed["digest"] == founded["digest"] and len(signed["signed"]) == 1
        copies += ["--with", str(copy)]
    complete = hosts.facts(hosts.folder, "network", "sign", str(file), *copies)
    assert complete["signed"] == [0, 1, 2, 3] and complete["digest"] == founded["digest"]

    # all check at the same time that they are ready
    waiting = []
    for home in hosts.homes:
        (home / "network.toml").write_bytes(file.read_bytes())
        arguments = ["check", "--network", str(home / "network.toml"), "--keys", str(home / "keys"), "--meet", "300"]
        waiting.append(hosts.start(f"check-{home.name}", home, ["pot_lab.cli", "network", *arguments]))
    logs = [(hosts.folder / f"check-{home.name}.log") for home in hosts.homes]
    assert [process.wait(UP_WITHIN_S + 30) for process in waiting] == [0] * HOSTS, [log.read_text() for log in logs]
    assert all("all 4 aggregators signed the file" in log.read_text() for log in logs)

    # each starts its aggregator with the complete file
    config = NetworkConfig.load(file)
    by_address = {entry.address: entry.index for entry in config.aggregators}
    for home in hosts.homes:
        joined = hosts.facts(home, "network", "join", str(file), "--digest", founded["digest"])
        account = json.loads((home / "keys" / "account.json").read_text())["address"]
        index = by_address[bytes.fromhex(account.removeprefix("0x"))]
        arguments = ["--network", joined["network"], "--index", str(index), "--keys", str(home / "keys")]
        hosts.aggregators.append(
            hosts.start(home.name, home, ["pot_lab.cli", "aggregator", *arguments, "--data", str(home / "data")])
        )

    # a client on a fifth host joins it, and what it stakes on the chain is in the ledger
    home = hosts.folder / "fifth"
    hosts.facts(home, "network", "join", str(file), "--digest", founded["digest"])
    await_all(config)
    ready = hosts.facts(home, "network", "check", "--network", "four")
    assert ready["ready"] and sum("and runs" in each["text"] for each in ready["findings"]) == HOSTS
    account_ = ["--network", "four", "--account", str(hosts.folder / "client")]
    hosts.facts(home, "wallet", "stake", "provider", *account_, "--yes")
    deadline_s = time.monotonic() + UP_WITHIN_S
    while not (shown := hosts.facts(home, "wallet", "show", *account_))["stakes_grains"]:
        assert time.monotonic() < deadline_s, shown
    assert shown["stakes_grains"] == {"provider": 10 * 10**9}
    assert shown["balance_grains"] == 490 * 10**9
    assert all(process.poll() is None for process in hosts.aggregators)


def await_all(config: NetworkConfig) -> None:
    """Wait until every aggregator answers and the ledger knows the founders' stakes."""
    deadline_s = time.monotonic() + UP_WITHIN_S
    with LedgerClient(config) as client:
        while True:
            statuses = client.status()
            if all(each.reachable for each in statuses) and client.network().next_chain_event >= config.n:
                return
            assert time.monotonic() < deadline_s, statuses
            time.sleep(0.1)
