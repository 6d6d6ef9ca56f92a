"""Which network and account are meant."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab import home
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR, save_keystore
from pot_lab.discovery import find_answering_network, find_network, network_files, open_account
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from pot_lab.testnet.errors import NoTestnet, UnknownAccount


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    for name in ("POT_LAB_NETWORK", "POT_LAB_ACCOUNT", "POT_LAB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def write_network(name: str, client_port: int, age_s: int) -> Path:
    ports = iter(free_ports(8))
    entries = tuple(
        AggregatorEntry(
            index=index,
            host="127.0.0.1",
            peer_port=next(ports),
            client_port=client_port if index == 3 else next(ports),
            curve_public=CurveKeyPair.generate().public,
            address=Identity.generate().address,
            sealing_public=bytes([index + 1] * 32),
        )
        for index in range(4)
    )
    path = home.networks() / name / "network.toml"
    path.parent.mkdir(parents=True)
    NetworkConfig(network_id=bytes(32), name=name, aggregators=entries, chain=None).save(path)
    os.utime(path, (1_700_000_000 - age_s, 1_700_000_000 - age_s))
    return path


def test_the_newest_network_of_this_host_comes_first() -> None:
    port = free_ports(1)[0]
    old, new = write_network("old", port, 60), write_network("new", port, 0)
    assert network_files() == [new, old]


def test_the_environment_names_one_by_path_or_name(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    old, new = write_network("old", port, 60), write_network("new", port, 0)
    for named in ("old", str(old)):
        monkeypatch.setenv("POT_LAB_NETWORK", named)
        assert network_files() == [old]
    assert new.is_file()


def test_a_network_that_answers_is_preferred_to_a_newer_one_that_does_not(listener: int) -> None:
    write_network("silent", free_ports(1)[0], 0)
    assert find_answering_network() is None
    write_network("answering", listener, 60)
    found = find_answering_network()
    assert found is not None and found.name == "answering"


def test_a_file_needs_no_testnet(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_network("plain", free_ports(1)[0], 0)
    assert find_network(path) == (path, None)
    monkeypatch.setenv("POT_LAB_NETWORK", str(path))
    assert find_network() == (path, None)
    with pytest.raises(NoTestnet, match="'plainer'"):
        find_network("plainer")


def test_an_account_is_a_keystore_or_a_folder_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity.generate()
    save_keystore(tmp_path / "account.json", identity, "correct horse", work_factor=TESTNET_WORK_FACTOR)
    with pytest.raises(UnknownAccount, match=r"\$POT_LAB_PASSWORD"):
        open_account(None, tmp_path / "account.json")
    monkeypatch.setenv("POT_LAB_PASSWORD", "correct horse")
    assert open_account(None, tmp_path / "account.json").address == identity.address
    monkeypatch.delenv("POT_LAB_PASSWORD")
    (tmp_path / "password").write_text("correct horse\n")
    assert open_account(None, tmp_path).address == identity.address
    with pytest.raises(UnknownAccount, match="the path of a keystore"):
        open_account(None, "nobody")
