"""Practice miners of a testnet: one process for a role serves several accounts, each with a loop of its own.

They make a local network complete: an order finds a provider that trains and validators that score, with nothing else
to start. Their notebooks run with one thread each, so that a small machine stays usable.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pot_lab import home
from pot_lab.errors import PotLabError
from pot_lab.jobs.earnings import Claimer
from pot_lab.jobs.loop import LedgerFace, Loop
from pot_lab.jobs.provider import ProviderLoop
from pot_lab.jobs.recipe_jobs import Runner
from pot_lab.jobs.recipes import recipe, training_seed
from pot_lab.jobs.runner import JobRunner
from pot_lab.jobs.validator import ValidatorLoop
from pot_lab.network.aggregator.keys_folder import load_account
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.client.references import named_digests
from pot_lab.network.config import NetworkConfig
from pot_lab.network.logs import log_to_stderr
from pot_lab.store import Store
from pot_lab.store.garbage import collect

log = logging.getLogger(__name__)

LOOPS: dict[str, type[Loop[Any]]] = {"provider": ProviderLoop, "validator": ValidatorLoop}
RETRY_S = 2.0
TIDY_S = 3_600.0
"""So often a provider's process removes what the testnet's store holds and no order names."""
ORDERS_AT_ONCE = 3
"""So many orders are trained at once, each by a notebook of one thread: a user may order from several kernels."""


def practice_loop(
    role: str, client: LedgerFace, store: Store, runner: Runner, folder: Path, make_claimer: Callable[[], Claimer]
) -> Loop[Any]:
    """The loop of one account.

    Args:
        role: `provider` or `validator`.
        client: the ledger, with the account's identity.
        store, runner, make_claimer: as of `Loop`.
        folder: `$POT_LAB_HOME`.
    """
    settings: dict[str, Any] = {"threads": 1}
    options: dict[str, Any] = {}
    if role == "provider" and client.identity is not None:
        settings["seed"] = training_seed(client.identity.address)
        options["jobs_at_once"] = ORDERS_AT_ONCE
    return LOOPS[role](
        client, store, runner, recipe(role), folder, settings=settings, make_claimer=make_claimer, **options
    )


def serve(network: Path, role: str, keys: Path, stop: threading.Event) -> None:
    """Run one account's loop until `stop` is set; what ends it earlier is logged, and it is begun again.

    Args:
        network: the `network.toml`.
        role: `provider` or `validator`.
        keys: the account's folder.
        stop: ends the loop, which then cancels its notebooks.
    """
    config, identity, folder = NetworkConfig.load(network), load_account(keys), home.home()
    while not stop.is_set():
        try:
            with LedgerClient(config, identity) as client:
                store = Store(config.store_url, private_links=config.private_links, copies=client.copies)
                runner = JobRunner(folder)
                practice_loop(role, client, store, runner, folder, lambda: wallet_of(config, identity)).run(stop)
        except (PotLabError, OSError) as error:  # a full disk, too: it may have room again
            log.warning("event=practice_miner_begins_again account=%s reason=%r", keys.name, str(error))
            stop.wait(RETRY_S)


def tidy(network: Path) -> None:
    """Remove the blobs of a testnet's own store that no order names; what goes wrong is logged.

    Args:
        network: the `network.toml`, which lies beside them.
    """
    try:
        with LedgerClient.open(network) as client:
            named = named_digests(client)
        done = collect(network.parent / "blobs", named)
    except (PotLabError, OSError, TimeoutError) as error:
        log.info("event=store_not_tidied reason=%r", str(error))
        return
    if done.blobs:
        log.info("event=store_tidied blobs=%d bytes=%d", done.blobs, done.size_bytes)


def _keep_tidy(network: Path, stop: threading.Event) -> None:
    while not stop.wait(TIDY_S):
        tidy(network)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the accounts named on the command line until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Practice miners of a testnet.")
    parser.add_argument("--network", type=Path, required=True, help="the network.toml")
    parser.add_argument("--role", choices=sorted(LOOPS), required=True)
    parser.add_argument("accounts", type=Path, nargs="+", help="the accounts' folders")
    given = parser.parse_args(arguments)
    log_to_stderr("info")
    logging.getLogger("pot_lab").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threads = [
        threading.Thread(target=serve, args=(given.network, given.role, keys, stop), name=keys.name)
        for keys in given.accounts
    ]
    if given.role == "provider":
        threads.append(threading.Thread(target=_keep_tidy, args=(given.network, stop), name="tidy"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
