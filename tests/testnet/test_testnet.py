"""A testnet is found by its folder, is started by one process at a time, and recovers from a damaged record."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from pot_lab.agreement.quorum import BadReplicaCount
from pot_lab.files import locked
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.testnet.errors import NoTestnet, TestnetError, TestnetFailed, TestnetRunning, UnknownAccount
from pot_lab.testnet.processes import ProcessTable
from pot_lab.testnet.testnet import Testnet


def test_where_nothing_is_no_testnet_is_found(networks: Path) -> None:
    assert Testnet.all() == [] and Testnet.running() is None and Testnet.at(networks / "local") is None
    assert isinstance(Testnet.none_running(), NoTestnet)
    assert "'mine' runs here (seen: no testnet" in str(Testnet.none_running("mine"))
    assert "no such file (seen: a/network.toml" in str(Testnet.none_running("a/network.toml"))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "-", "a.b"])
def test_a_name_that_is_no_folders_is_refused(name: str, networks: Path) -> None:
    with pytest.raises(TestnetError, match="letters, digits, - and _"):
        Testnet.up(name)
    assert not networks.exists()


@pytest.mark.parametrize("aggregators", [0, 3, 101])
def test_a_number_of_aggregators_that_cannot_be_is_refused_before_anything_is_made(
    aggregators: int, networks: Path
) -> None:
    with pytest.raises(BadReplicaCount, match="wanted: 4 to 100"):
        Testnet.up("local", aggregators=aggregators)
    assert not networks.exists()


def test_two_processes_do_not_start_one_testnet_at_once(networks: Path) -> None:
    (networks / "local").mkdir(parents=True)
    with locked(networks / "local" / "lock"), pytest.raises(TestnetRunning, match="starting or stopping"):
        Testnet.up("local")
    assert [path.name for path in (networks / "local").iterdir()] == ["lock"]


@pytest.mark.slow
def test_a_testnet_is_started_over_what_is_damaged_and_over_what_was_not_finished(networks: Path) -> None:
    folder = networks / "local"
    folder.mkdir(parents=True)
    (folder / "testnet.json").write_text("{")
    with pytest.raises(TestnetFailed, match="`pot-lab testnet up --fresh`"):
        Testnet.up("local")
    few = {"providers": 0, "validators": 0, "verifiers": 0, "durability": "flush"}
    lines: list[str] = []
    net = Testnet.up("local", fresh=True, report=lines.append, **few)  # type: ignore[arg-type]
    try:
        assert lines[0] == "making keys" and lines[-1].startswith("testnet 'local' is up after ")
        assert net.processes() == dict.fromkeys(("chain", "store", *(f"aggregator-{i}" for i in range(4))), True)
        assert Testnet.running() is not None and Testnet.running("other") is None
        assert net.accounts() == ["client", "deployer", "treasury"]
        with pytest.raises(UnknownAccount, match="wanted: client, deployer, treasury"):
            net.identity("provider-0")
        with pytest.raises(TestnetRunning, match="is up already"):
            Testnet.up("local", fresh=True)
        with pytest.raises(TestnetRunning, match="aggregator 1 runs already"):
            net.start_aggregator(1)

        os.kill(net.pid("aggregator-1"), signal.SIGKILL)
        while net.processes()["aggregator-1"]:
            time.sleep(0.01)
        net.start_aggregator(1)
        with LedgerClient.open(net.network_file) as client:
            while not client.status()[1].reachable:
                time.sleep(0.05)
        whole = {name: net.pid(name) for name in net.processes()}
        for name in ("store", "aggregator-2"):
            os.kill(net.pid(name), signal.SIGKILL)
            while net.processes()[name]:
                time.sleep(0.01)
        assert net.missing() == ["store", "aggregator-2"]
        with pytest.raises(TestnetRunning, match="is up already"):
            Testnet.up("local", fresh=True)
        back = Testnet.up("local", report=lines.append)
        assert "starting what is missing: store, aggregator-2" in lines and back.missing() == []
        assert {name for name in whole if back.pid(name) != whole[name]} == {"store", "aggregator-2"}
        assert back.bring_back() == []

        net.down(lines.append)
        assert lines[-1] == "testnet 'local' is down" and not net.is_up()
        client_address = net.identity("client").address

        again = Testnet.up("local")
        assert again.is_up() and again.identity("client").address == client_address
        again.down()

        net.network_file.unlink()  # as if it had been stopped before its contracts were deployed
        third = Testnet.up("local", **few)  # type: ignore[arg-type]
        assert third.is_up() and third.identity("client").address != client_address
    finally:
        net.down()


def test_what_a_testnet_keeps_is_private_but_for_what_is_public(networks: Path) -> None:
    """Under a usual umask; the network's file and the blobs are for everybody."""
    before = os.umask(0o022)
    try:
        testnet = Testnet.up("private", aggregators=4, providers=1, validators=1, verifiers=0, durability="flush")
    finally:
        os.umask(before)
    try:
        shown = for_others(testnet.folder)
    finally:
        testnet.down()
    shown |= for_others(testnet.folder)
    assert {path.parts[0] for path in shown} <= {"network.toml", "testnet.json", "blobs", "store.port"}


def for_others(folder: Path) -> set[Path]:
    """What others may read in a folder whose files come and go meanwhile."""
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mode & 0o077:
                found.add(path.relative_to(folder))
    return found


def test_a_damaged_testnet_takes_no_other_away(networks: Path) -> None:
    for name in ("old", "older"):
        (networks / name).mkdir(parents=True)
        (networks / name / "testnet.json").write_text("{" if name == "old" else "")
    table = ProcessTable(networks / "good")
    (networks / "good").mkdir()
    table.begin()
    table.start("aggregator-0", "http.server", ["0", "--bind", "127.0.0.1"])
    try:
        found = Testnet.running()
        assert found is not None and found.name == "good"
        assert [net.name for net in Testnet.all_running()] == ["good"] and Testnet.all_running("good")
        with pytest.raises(TestnetFailed, match="folder is damaged"):
            Testnet.running("old")  # asked for by name, its damage is told
    finally:
        os.kill(table.pid("aggregator-0"), signal.SIGKILL)
