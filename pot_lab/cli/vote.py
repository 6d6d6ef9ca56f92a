"""`pot-lab vote`: for a proposal to change the network's rules, or against it."""

from __future__ import annotations

import json

import click

from pot_lab.cli.common import account_option, connect_lab, json_option, network_option

_SIDES = {"yes": True, "no": False}


@click.command
@click.argument("proposal", type=int)
@click.argument("side", type=click.Choice(list(_SIDES)))
@network_option
@account_option
@json_option
def vote(proposal: int, side: str, network: str | None, account: str | None, as_json: bool) -> None:
    """Vote for a proposal (yes) or against it (no).

    The vote has the weight of the stake that the account had when the vote began.
    """
    with connect_lab(network, account) as lab:
        lab.governance.vote(proposal, _SIDES[side])
    click.echo(json.dumps({"proposal": proposal, "approve": _SIDES[side]}) if as_json else f"voted {side}")
