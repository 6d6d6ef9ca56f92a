"""`pot-lab why`: why an account was paid what it was for an order, or was not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import connect_lab, json_option, network_option

if TYPE_CHECKING:
    from pot_lab.protocol.views import WhyView


@click.command
@click.argument("order")
@click.option("--account", metavar="NAME|PATH|ADDRESS", help="Whose payment (default: $POT_LAB_ACCOUNT).")
@network_option
@json_option
def why(order: str, account: str | None, network: str | None, as_json: bool) -> None:
    """Say why an account was paid what it was, or was not.

    ORDER is an order's id, or enough of its first digits that they are no other order's. Each line names the rule's
    heading in the protocol's page, and the times of the transactions.
    """
    from pot_lab.crypto.identity import parse_address

    is_address = account is not None and account.startswith("0x")
    with connect_lab(network, None if is_address else account) as lab:
        found = lab.get(order)
        view = found.why(parse_address(account) if account and is_address else lab.identity.address)
    click.echo(json.dumps(why_facts(view)) if as_json else repr(view))


def why_facts(view: WhyView) -> dict[str, Any]:
    """What `--json` prints."""
    from pot_lab.crypto.identity import format_address

    return {
        "order": view.order_id.hex(),
        "account": format_address(view.account),
        "lines": [{"text": line.text, "grains": line.grains, "rule": line.rule} for line in view.lines],
    }
