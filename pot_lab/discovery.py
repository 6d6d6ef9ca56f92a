"""Find the network and the account: by a file, a testnet's name, the environment, or what runs on this host."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from pot_lab import home

if TYPE_CHECKING:
    from pot_lab.crypto.identity import Identity
    from pot_lab.network.config import NetworkConfig
    from pot_lab.testnet.testnet import Testnet

NETWORK_FILE = "network.toml"
PROBE_TIMEOUT_S = 0.5


def find_network(network: str | Path | None = None) -> tuple[Path, Testnet | None]:
    """The chosen `network.toml`, and the testnet that it belongs to, if it is one of this host's.

    Args:
        network: a file, the name of a testnet or of a network that this host joined, or None: `$POT_LAB_NETWORK`, else
            the testnet that runs here, else the only network that this host joined.
    Raises:
        NoTestnet: there is no such file, and no running testnet of this name.
    """
    from pot_lab.testnet.testnet import Testnet

    chosen = network or os.environ.get("POT_LAB_NETWORK")
    if chosen and Path(chosen).is_file():
        return Path(chosen), Testnet.at(Path(chosen).resolve().parent)
    testnet = Testnet.running(str(chosen) if chosen else None)
    joined = _joined(str(chosen) if chosen else None) if testnet is None else []
    if len(joined) == 1:
        return joined[0], None
    if testnet is None:
        raise Testnet.none_running(str(chosen) if chosen else None)
    return testnet.network_file, testnet


def _joined(name: str | None) -> list[Path]:
    """Files of networks that this host joined (`pot-lab network join`), of this name or all."""
    files = sorted(home.networks().glob(f"*/{NETWORK_FILE}"))
    return [path for path in files if name in (None, path.parent.name) and not _is_testnet(path.parent)]


def _is_testnet(folder: Path) -> bool:
    from pot_lab.testnet.testnet import Testnet

    return Testnet.at(folder) is not None


def network_files() -> list[Path]:
    """The `network.toml` that `$POT_LAB_NETWORK` names (by path, or by the network's name), else all of this host.

    The newest comes first.
    """
    if named := os.environ.get("POT_LAB_NETWORK"):
        path = home.expanded(named)
        return [path if path.is_file() else home.networks() / named / NETWORK_FILE]
    files = []
    for path in home.networks().glob(f"*/{NETWORK_FILE}"):
        try:
            files.append((path.stat().st_mtime_ns, path))
        except OSError:
            continue  # the network was just taken down
    return [path for _, path in sorted(files, reverse=True)]


def find_answering_network() -> NetworkConfig | None:
    """The configuration of the first network of `network_files()` that answers; None if none does.

    Unlike `find_network` it starts from what runs: a network answers if one of its aggregators accepts a connection.

    Raises:
        BadConfig: a file before it cannot be read.
    """
    from pot_lab.network.config import NetworkConfig

    for path in network_files():
        config = NetworkConfig.load(path)
        if _answers(config):
            return config
    return None


def _answers(config: NetworkConfig) -> bool:
    for one in config.aggregators:
        try:
            socket.create_connection((one.host, one.client_port), PROBE_TIMEOUT_S).close()
            return True
        except OSError:
            continue
    return False


def open_account(testnet: Testnet | None, account: str | Path) -> Identity:
    """An account by its name in the testnet, or by the path of its keystore or of the folder that holds it.

    Args:
        testnet: whose accounts have names; None if the network is no testnet of this host.
        account: a keystore is opened with `$POT_LAB_PASSWORD`, one in a folder with the password beside it.
    Raises:
        UnknownAccount: no account has this name, or the keystore's password is not known.
        WrongPassword, BadKeyFile: the keystore does not open.
    """
    from pot_lab.crypto.keystore import load_keystore
    from pot_lab.network.aggregator.keys_folder import ACCOUNT_FILE, load_account
    from pot_lab.testnet.errors import UnknownAccount

    path = Path(account)
    if path.is_dir() and (path / ACCOUNT_FILE).is_file():
        return load_account(path)
    if path.is_file():
        password = os.environ.get("POT_LAB_PASSWORD")
        if password is None:
            raise UnknownAccount("the keystore's password is not known", seen=str(path), wanted="$POT_LAB_PASSWORD")
        return load_keystore(path, password)
    if testnet is not None:
        return testnet.identity(str(account))
    raise UnknownAccount("no keystore has this name", seen=str(account), wanted="the path of a keystore")
