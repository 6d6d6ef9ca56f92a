"""`pot-lab testnet`: start, inspect and stop a network on this host."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pot_lab.cli.common import durability_option, interrupt_on_sigterm, json_option

if TYPE_CHECKING:
    from pot_lab.network.client.calls import AggregatorStatus
    from pot_lab.testnet.testnet import Testnet

_SYSTEM_ACCOUNTS = ("deployer", "treasury")


@click.group
def testnet() -> None:
    """Start, find and stop a local network of real processes.

    It stays up when the terminal closes. Stopped, it continues from its logs at the next `up`.
    """


@testnet.command
@click.option("--name", default="local", show_default=True, help="The testnet's name.")
@click.option("--aggregators", type=int, default=4, show_default=True, help="How many aggregators.")
@durability_option
@click.option("--miners", is_flag=True, help="Start practice miners too: a provider and three validators.")
@click.option("--fresh", is_flag=True, help="Delete what a stopped testnet of this name left.")
@json_option
def up(name: str, aggregators: int, durability: str, miners: bool, fresh: bool, as_json: bool) -> None:
    """Start a testnet, or what is missing of it.

    A stopped one goes on from its logs.
    """
    from pot_lab.testnet.testnet import Testnet

    interrupt_on_sigterm()
    net = Testnet.up(
        name, aggregators=aggregators, durability=durability, fresh=fresh, miners=miners, report=_progress(as_json)
    )
    _print_testnet(net, as_json)


@testnet.command
@click.option("--name", help="The testnet's name (default: the one started last).")
@json_option
def status(name: str | None, as_json: bool) -> None:
    """Show a testnet's processes, accounts and aggregators."""
    from pot_lab.testnet.testnet import Testnet

    running = Testnet.running(name)
    if running is None:
        raise Testnet.none_running(name)
    _print_testnet(running, as_json)


@testnet.command
@click.option("--name", help="The testnet's name (default: every testnet of this host).")
@json_option
def down(name: str | None, as_json: bool) -> None:
    """Stop a testnet's processes; its folder stays."""
    from pot_lab.testnet.testnet import Testnet

    found = Testnet.all_running(name)
    if not found:
        raise Testnet.none_running(name)
    for net in found:
        net.down(_progress(as_json))
    if as_json:
        click.echo(json.dumps({"down": [net.name for net in found]}))


def _progress(as_json: bool) -> Callable[[str], None]:
    return (lambda _: None) if as_json else click.echo


def _print_testnet(net: Testnet, as_json: bool) -> None:
    from pot_lab.network.client.ledger import LedgerClient

    with LedgerClient.open(net.network_file) as client:
        statuses = client.status()
    processes, accounts = net.processes(), net.accounts()
    if as_json:
        facts = {
            "name": net.name,
            "network": str(net.network_file),
            "processes": processes,
            "accounts": accounts,
            "aggregators": [
                {name: getattr(each, name) for name in ("index", "reachable", "view", "primary", "height", "lag")}
                for each in statuses
            ],
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"testnet {net.name}: {net.network_file}")
    for each in statuses:
        click.echo(f"  aggregator {each.index}: {aggregator_state(each)}")
    for name, alive in processes.items():
        if not name.startswith("aggregator"):
            click.echo(f"  {name}: {'running' if alive else 'stopped'}")
    click.echo(f"  accounts: {', '.join(name for name in accounts if name not in _SYSTEM_ACCOUNTS)}")


def aggregator_state(status: AggregatorStatus) -> str:
    """One aggregator's role, view, height and lag, or that it is not reachable."""
    if not status.reachable:
        return "not reachable"
    role = "primary" if status.primary == status.index else "backup"
    return f"{role}, view {status.view}, height {status.height}, lag {status.lag}"
