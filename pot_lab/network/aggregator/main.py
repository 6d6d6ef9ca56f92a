"""One aggregator of a real network: the ledger behind the replica, the chain behind the duties, the keys from their
files.

`pot-lab aggregator` and the testnet start this. Everything it needs is in two folders: its keys (`keys_folder`), and
its data (log, history), which may be lost without losing money: the other aggregators have it too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pot_lab.consensus.membership import NO_SEAT
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.keys_folder import (
    ACCOUNT_FILE,
    CURVE_FILE,
    NEXT_FOLDER,
    SEALING_FILE,
    load_account,
    load_sealing_key,
)
from pot_lab.network.aggregator.process import Aggregator
from pot_lab.network.aggregator.run import run_aggregator
from pot_lab.network.chain_access import wallet_of, watcher_of
from pot_lab.network.config import AggregatorEntry, NetworkConfig, parse_listening
from pot_lab.network.duties.attest_chain import AttestChain
from pot_lab.network.duties.chain_queue import Errands
from pot_lab.network.duties.release_shares import ReleaseShares
from pot_lab.network.duties.rotate_signers import RotateSigners
from pot_lab.network.duties.settle_epochs import SettleEpochs
from pot_lab.network.duties.show_evidence import ShowEvidence
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.network.errors import BadConfig
from pot_lab.network.genesis import genesis_of
from pot_lab.network.keys import load_curve_key
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.ledger import Ledger


def run_node(
    network_file: Path,
    index: int | None,
    keys: Path,
    data: Path,
    *,
    listening: tuple[str, int, int] | None = None,
    watch_chain: bool = True,
    log_level: str = "info",
) -> int:
    """Run one aggregator until it is told to stop, or has left; returns the process's exit code.

    `index` is None for one that is none of the network's first: it says where it listens (host, port for aggregators,
    port for clients).
    """
    try:
        config = NetworkConfig.load(network_file)
        genesis = genesis_of(config)
        identity = load_account(keys)
        curve = load_curve_key(keys / CURVE_FILE)
        sealing = [load_sealing_key(keys / SEALING_FILE)]
        spare: list[tuple[Identity, str]] = []
        if (keys / NEXT_FOLDER / ACCOUNT_FILE).is_file():
            fresh = keys / NEXT_FOLDER
            spare.append((load_account(fresh), load_curve_key(fresh / CURVE_FILE).secret))
            sealing.append(load_sealing_key(fresh / SEALING_FILE))
        entry = None
        if index is None and listening is not None:
            host, peer_port, client_port = listening
            entry = AggregatorEntry(
                index=NO_SEAT,
                host=host,
                peer_port=peer_port,
                client_port=client_port,
                curve_public=curve.public,
                address=identity.address,
                sealing_public=sealing[0].public,
            )
    except PotLabError as error:
        print(
            f"aggregator {'newcomer' if index is None else index} stopped: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    application = LedgerApplication(genesis)

    def ledger() -> Ledger:
        return application.ledger

    signer = TransactionSigner(genesis.network_id, identity, [each for each, _ in spare], ledger)
    errands = Errands()
    settle = SettleEpochs(ledger, signer, lambda: wallet_of(config, signer.identity), errands)
    release = ReleaseShares(ledger, signer, sealing)
    rotate = RotateSigners(ledger, signer, lambda: wallet_of(config, signer.identity), errands)
    evidence = ShowEvidence(ledger, signer)

    aggregators: list[Aggregator] = []

    def wake() -> None:
        for aggregator in aggregators:
            aggregator.wake()

    attest = AttestChain(ledger, signer, lambda: watcher_of(config), wake)

    def created(aggregator: Aggregator) -> None:
        aggregators.append(aggregator)
        attest.start()

    try:
        return run_aggregator(
            config,
            index,
            data,
            application,
            [release, settle, rotate, attest, evidence],
            identity=identity,
            curve_secret=curve.secret,
            listening=entry,
            spare=spare,
            witness=evidence.take,
            log_level=log_level,
            on_created=created if watch_chain else None,
        )
    finally:
        attest.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m pot_lab.network.aggregator.main`: one aggregator process."""
    parser = argparse.ArgumentParser(prog="pot-lab aggregator", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--network", type=Path, required=True, help="network.toml")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--index", type=int, help="which of its first aggregators this is, from 0")
    place.add_argument(
        "--listen",
        nargs=3,
        metavar=("HOST", "PEER_PORT", "CLIENT_PORT"),
        help="where it listens, if it is none of the first",
    )
    parser.add_argument("--keys", type=Path, required=True, help="folder with account.json, curve.key and sealing.key")
    parser.add_argument("--data", type=Path, required=True, help="folder for log and history")
    parser.add_argument("--no-chain", action="store_true", help="do not watch the chain (for measuring)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    chosen = parser.parse_args(arguments)
    try:
        listening = None if chosen.listen is None else parse_listening(chosen.listen)
    except BadConfig as error:
        parser.error(f"--listen: {error}")
    return run_node(
        chosen.network,
        chosen.index,
        chosen.keys,
        chosen.data,
        listening=listening,
        watch_chain=not chosen.no_chain,
        log_level=chosen.log_level,
    )


if __name__ == "__main__":
    sys.exit(main())
