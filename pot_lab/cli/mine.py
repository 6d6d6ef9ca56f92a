"""`pot-lab mine`: run a provider, validator or verifier."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

from pot_lab.cli.common import _network_and_account
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    pass


def _mine(chosen: argparse.Namespace) -> None:
    from pot_lab import home
    from pot_lab.jobs.provider import ProviderLoop
    from pot_lab.jobs.recipes import recipe
    from pot_lab.jobs.runner import JobRunner
    from pot_lab.jobs.validator import ValidatorLoop
    from pot_lab.jobs.verifier import VerifierLoop
    from pot_lab.network.chain_access import wallet_of
    from pot_lab.network.client.ledger import LedgerClient
    from pot_lab.network.logs import log_to_stderr
    from pot_lab.store import Store

    loops = {"provider": ProviderLoop, "validator": ValidatorLoop, "verifier": VerifierLoop}
    settings = _settings(chosen.set)
    log_to_stderr("info")
    logging.getLogger("pot_lab").setLevel(logging.INFO)
    config, identity = _network_and_account(chosen, f"{chosen.role}-0")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with LedgerClient(config, identity) as client:
        loop = loops[chosen.role](
            client,
            Store(config.store_url),
            JobRunner(home.home()),
            chosen.notebook or recipe(chosen.role),
            home.home(),
            settings=settings,
            limit=chosen.orders,
            make_claimer=lambda: wallet_of(config, identity),
        )
        loop.run(stop)
        if chosen.json:
            print(json.dumps({"role": chosen.role, "orders": loop.finished}))


def _settings(given: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign or not name.isidentifier():
            raise PotLabError("a notebook parameter cannot be read", seen=item, wanted="NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
