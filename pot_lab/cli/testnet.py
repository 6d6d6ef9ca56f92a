"""`pot-lab testnet`: start, inspect and stop a network on this host."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pot_lab.cli.common import _interrupt_on_sigterm

if TYPE_CHECKING:
    from pot_lab.testnet.testnet import Testnet


def _testnet(chosen: argparse.Namespace) -> None:
    from pot_lab.testnet.testnet import Testnet

    def say(text: str) -> None:
        if not chosen.json:
            print(text, flush=True)

    if chosen.action == "up":
        _interrupt_on_sigterm()
        net = Testnet.up(
            chosen.name or "local",
            aggregators=chosen.aggregators,
            durability=chosen.durability,
            fresh=chosen.fresh,
            say=say,
        )
        _print_testnet(net, chosen.json)
    elif chosen.action == "down":
        found = [net for net in Testnet.all() if net.is_up() and chosen.name in (None, net.name)]
        if not found:
            raise Testnet.none_running(chosen.name)
        for net in found:
            net.down(say)
        if chosen.json:
            print(json.dumps({"down": [net.name for net in found]}))
    else:
        running = Testnet.running(chosen.name)
        if running is None:
            raise Testnet.none_running(chosen.name)
        _print_testnet(running, chosen.json)


def _print_testnet(net: Testnet, as_json: bool) -> None:
    from pot_lab.network.client.ledger import LedgerClient

    with LedgerClient.open(net.network_file) as client:
        statuses = client.status()
    facts = {
        "name": net.name,
        "network": str(net.network_file),
        "processes": net.processes(),
        "accounts": net.accounts(),
        "aggregators": [
            {
                "index": s.index,
                "reachable": s.reachable,
                "view": s.view,
                "primary": s.primary,
                "height": s.height,
                "lag": s.lag,
            }
            for s in statuses
        ],
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(f"testnet {net.name}: {net.network_file}")
    for status in statuses:
        role = "primary" if status.primary == status.index else "backup"
        text = (
            f"{role}, view {status.view}, height {status.height}, lag {status.lag}"
            if status.reachable
            else "not reachable"
        )
        print(f"  aggregator {status.index}: {text}")
    for name, alive in net.processes().items():
        if not name.startswith("aggregator"):
            print(f"  {name}: {'running' if alive else 'stopped'}")
    print(f"  accounts: {', '.join(name for name in net.accounts() if name not in ('deployer', 'treasury'))}")
