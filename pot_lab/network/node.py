"""One aggregator of a real network: the ledger behind the replica, the chain behind the duties, the keys from their
files.

`pot-lab aggregator` and the testnet start this. Everything it needs lies in two folders: its keys, and its data (log,
history), which may be lost without losing money: the other aggregators have it too.

    keys/account.json   encrypted keystore of the aggregator's account
         password       opens it (or `$POT_LAB_PASSWORD`)
         curve.key      CURVE secret key (Z85)
         sealing.key    X25519 secret key (hex), to open key shares
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import load_keystore
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator import Aggregator, run_aggregator
from pot_lab.network.chain_access import wallet_of, watcher_of
from pot_lab.network.config import NetworkConfig
from pot_lab.network.duties import AttestChain, ReleaseShares, SettleEpochs, Speaker
from pot_lab.network.errors import BadKeyFile
from pot_lab.network.genesis import genesis_of
from pot_lab.network.keys import load_curve_key
from pot_lab.protocol.application import LedgerApplication

ACCOUNT_FILE, PASSWORD_FILE, CURVE_FILE, SEALING_FILE = "account.json", "password", "curve.key", "sealing.key"


def load_sealing_key(path: Path) -> SealingKey:
    """Read an X25519 secret key from a file of 64 hex digits; raises BadKeyFile."""
    try:
        return SealingKey.from_secret(bytes.fromhex(path.read_text().strip()))
    except OSError as error:
        raise BadKeyFile(f"cannot read the key file {path}: {error.strerror}") from error
    except (ValueError, PotLabError) as error:
        raise BadKeyFile(f"{path} holds no sealing key", wanted="64 hex digits") from error


def load_account(keys: Path) -> Identity:
    """Open the account in a keys folder with the password beside it, or `$POT_LAB_PASSWORD`; raises BadKeyFile."""
    password_file = keys / PASSWORD_FILE
    try:
        password = password_file.read_text().strip() if password_file.is_file() else os.environ.get("POT_LAB_PASSWORD")
        if password is None:
            raise BadKeyFile(f"no password for {keys / ACCOUNT_FILE}", wanted=f"{password_file} or $POT_LAB_PASSWORD")
        return load_keystore(keys / ACCOUNT_FILE, password)
    except OSError as error:
        raise BadKeyFile(f"cannot read the keystore {keys / ACCOUNT_FILE}: {error.strerror}") from error


def run_node(
    network_file: Path, index: int, keys: Path, data: Path, *, watch_chain: bool = True, log_level: str = "info"
) -> int:
    """Run one aggregator until it is told to stop; returns the process's exit code."""
    try:
        config = NetworkConfig.load(network_file)
        genesis = genesis_of(config)
        identity = load_account(keys)
        curve_secret = load_curve_key(keys / CURVE_FILE).secret
        sealing = load_sealing_key(keys / SEALING_FILE)
    except PotLabError as error:
        print(f"aggregator {index} stopped: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    application = LedgerApplication(genesis)
    speaker = Speaker(genesis.network_id, identity)
    settle = SettleEpochs(lambda: application.ledger, index, speaker, lambda: wallet_of(config, identity))
    release = ReleaseShares(lambda: application.ledger, index, speaker, sealing)

    aggregators: list[Aggregator] = []

    def wake() -> None:
        for aggregator in aggregators:
            aggregator.wake()

    attest = AttestChain(lambda: application.ledger, speaker, lambda: watcher_of(config), wake)

    def created(aggregator: Aggregator) -> None:
        aggregators.append(aggregator)
        attest.start()

    try:
        return run_aggregator(
            config,
            index,
            data,
            application,
            [release, settle, attest],
            identity=identity,
            curve_secret=curve_secret,
            log_level=log_level,
            on_created=created if watch_chain else None,
        )
    finally:
        attest.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m pot_lab.network.node`: one aggregator process."""
    parser = argparse.ArgumentParser(prog="pot-lab aggregator", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--network", type=Path, required=True, help="network.toml")
    parser.add_argument("--index", type=int, required=True, help="which of its aggregators this is, from 0")
    parser.add_argument("--keys", type=Path, required=True, help="folder with account.json, curve.key and sealing.key")
    parser.add_argument("--data", type=Path, required=True, help="folder for log and history")
    parser.add_argument("--no-chain", action="store_true", help="do not watch the chain (for measuring)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    chosen = parser.parse_args(arguments)
    return run_node(
        chosen.network,
        chosen.index,
        chosen.keys,
        chosen.data,
        watch_chain=not chosen.no_chain,
        log_level=chosen.log_level,
    )


if __name__ == "__main__":
    sys.exit(main())
