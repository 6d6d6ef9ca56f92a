"""`pot-lab status`: how any network is, seen from outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pot_lab.cli.common import json_option, network_option

if TYPE_CHECKING:
    from pot_lab.network.founding.checks import CheckResult


def print_results(found: Sequence[CheckResult], as_json: bool, word: str) -> bool:
    """Print results, each with what to do about it; returns whether none of them is wrong.

    Args:
        word: the name in JSON of whether none is wrong.
    """
    is_right = all(each.level != "wrong" for each in found)
    if as_json:
        rows = [{"level": each.level, "text": each.text, "remedy": each.remedy} for each in found]
        click.echo(json.dumps({word: is_right, "findings": rows}))
        return is_right
    for each in found:
        click.echo(f"{each.level:<8} {each.text}" + (f"\n{'':<8} -> {each.remedy}" if each.remedy else ""))
    return is_right


@click.command
@network_option
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds.")
@click.pass_context
@json_option
def status(context: click.Context, network: str | None, timeout_s: float, as_json: bool) -> None:
    """Show how a network is, and what to do about it.

    Its aggregators, its settlements, its chain and its store. Exit code 1 if something is wrong.
    """
    from pot_lab.discovery import find_network
    from pot_lab.network.client.ledger import LedgerClient
    from pot_lab.network.config import NetworkConfig
    from pot_lab.network.health import network_health

    config = NetworkConfig.load(find_network(network)[0])
    with LedgerClient(config) as client:
        found = network_health(config, client, timeout_s)
    context.exit(0 if print_results(found, as_json, "healthy") else 1)
