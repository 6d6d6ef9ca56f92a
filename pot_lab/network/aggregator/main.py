"""One aggregator of a real network: the ledger behind the replica, the chain behind the duties, the keys from their
files.

`pot-lab aggregator` and the testnet start this. Everything it needs lies in two folders: its keys, and its data (log,
history), which may be lost without losing money: the other aggregators have it too.

    keys/account.json   encrypted keystore of the aggregator's account
         password       opens it (or `$POT_LAB_PASSWORD`)
         curve.key      CURVE secret key (Z85)
         sealing.key    X25519 secret key (hex), to open key shares
         next/          the same four for a change of keys, laid there before it is ordered; the first ones stay, since
                        shares may still be sealed to them
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pot_lab.agreement.application import Application
from pot_lab.agreement.evidence import Equivocation
from pot_lab.consensus.membership import NO_SEAT
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import load_keystore
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.process import Aggregator
from pot_lab.network.chain_access import wallet_of, watcher_of
from pot_lab.network.config import AggregatorEntry, NetworkConfig, parse_listening
from pot_lab.network.duties.attest_chain import AttestChain
from pot_lab.network.duties.chain_queue import Errands
from pot_lab.network.duties.duty import Duty
from pot_lab.network.duties.release_shares import ReleaseShares
from pot_lab.network.duties.rotate_signers import RotateSigners
from pot_lab.network.duties.settle_epochs import SettleEpochs
from pot_lab.network.duties.show_evidence import ShowEvidence
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.network.errors import BadConfig, BadKeyFile
from pot_lab.network.genesis import genesis_of
from pot_lab.network.keys import load_curve_key
from pot_lab.network.logs import log_to_stderr
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.ledger import Ledger

ACCOUNT_FILE, PASSWORD_FILE, CURVE_FILE, SEALING_FILE = "account.json", "password", "curve.key", "sealing.key"
NEXT_FOLDER = "next"


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


def run_aggregator(
    config: NetworkConfig | str | os.PathLike[str],
    index: int | None,
    data_dir: str | os.PathLike[str],
    application: Application,
    duties: Sequence[Duty],
    *,
    identity: Identity,
    curve_secret: str,
    parameters: ConsensusParameters | None = None,
    listening: AggregatorEntry | None = None,
    spare: Sequence[tuple[Identity, str]] = (),
    witness: Callable[[Equivocation], None] | None = None,
    log_level: str = "info",
    on_created: Callable[[Aggregator], None] | None = None,
) -> int:
    """The main of an aggregator process: logs to stderr, stops cleanly on SIGTERM and SIGINT, and returns an exit code.

    Args:
        config: the network, or the path of its `network.toml`.
        on_created: gets the aggregator before it runs, e.g. to hand `wake` to a watcher's thread.
        (others): see `Aggregator`.
    Returns: 0 after a clean stop; 1 after an error, which stands in one line on stderr.
    """
    log_to_stderr(log_level)
    _share_processor()
    try:
        network = config if isinstance(config, NetworkConfig) else NetworkConfig.load(config)
        aggregator = Aggregator(
            network,
            index,
            identity,
            curve_secret,
            application,
            duties,
            data_dir,
            parameters=parameters,
            listening=listening,
            spare=spare,
            witness=witness,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: aggregator.stop())
        if on_created is not None:
            on_created(aggregator)
        aggregator.run()
    except (PotLabError, OSError) as error:
        name = "newcomer" if index is None else index
        print(f"aggregator {name} stopped: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _share_processor() -> None:
    """Let no thread of this process interrupt another because it was woken (Linux's SCHED_BATCH, for threads to come).

    Each frame that is sent wakes libzmq's thread. On a busy machine that one takes the processor for one frame, goes
    back to sleep, and so on for every peer; not interrupting, it finds them all at once (benchmarks.md).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # forbidden in some containers
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    sys.exit(main())
