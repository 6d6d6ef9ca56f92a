"""`pot-lab orders`: orders of the network, or one of them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import account_option, connect_lab, json_option, network_option

if TYPE_CHECKING:
    from pot_lab.protocol.views import OrderSummary, OrderView


@click.command
@click.argument("order", required=False)
@click.option("--mine", is_flag=True, help="Only the account's own orders.")
@network_option
@account_option
@json_option
def orders(order: str | None, mine: bool, network: str | None, account: str | None, as_json: bool) -> None:
    """List the network's orders, or show one.

    ORDER is an order's id, or enough of its first digits that they are no other order's.
    """
    with connect_lab(network, account) as lab:
        if order:
            found = lab.get(order)
            view = found.view()
            click.echo(json.dumps(order_facts(view)) if as_json else f"{found!r}\nid {found.id.hex()}")
            if lost := bonds_lost(view):
                click.echo(lost, err=as_json)
            return
        listed = lab.client.orders(client=lab.identity.address if mine else b"")
    if as_json:
        facts = [{"order": s.id.hex(), "title": s.title, "window": s.window, "claims": s.claims} for s in listed]
        click.echo(json.dumps(facts))
        return
    now_ms = time.time_ns() // 1_000_000
    for summary in listed:
        click.echo(order_line(summary, now_ms))
    if not listed:
        click.echo("no orders")


def bonds_lost(view: OrderView) -> str:
    """A line about claims whose bonds an order's end cost; empty if there are none."""
    from pot_lab.notebook.quantities import pot
    from pot_lab.protocol.cycle import VoidReason

    if view.void_reason != VoidReason.NOTHING_REVEALED:
        return ""
    bond = pot(view.order.claim_bond_grains)
    return f"No provider revealed its model in time; each that had claimed lost its bond of {bond} POT."


def order_line(summary: OrderSummary, now_ms: int) -> str:
    """One order in a list: id, window, time left in it, reward, claims, winner or why it is void, title."""
    from pot_lab.crypto.identity import format_address
    from pot_lab.notebook.quantities import pot, seconds_text

    left = seconds_text(summary.closes_ms - now_ms) if summary.closes_ms else ""
    leader = f"winner {format_address(summary.leader)[:10]}" if summary.leader else summary.void_reason
    facts = f"{pot(summary.reward_grains):>8} POT  {summary.claims} claims  {leader}"
    return f"{summary.id.hex()[:12]}  {summary.window:<14} {left:>10}  {facts}  {summary.title}"


def order_facts(view: OrderView) -> dict[str, Any]:
    """What `--json` prints of one order: ids and accounts in hexadecimal, times in ms, money in grains."""
    from pot_lab.crypto.identity import format_address

    return {
        "order": view.id.hex(),
        "title": view.order.title,
        "window": view.window,
        "closes_ms": view.closes_ms,
        "claims": [
            {
                "provider": format_address(claim.provider),
                "model": claim.mid.hex(),
                "total": claim.agreed.total if claim.agreed else None,
            }
            for claim in view.claims
        ],
        "winner": format_address(view.winner) if view.winner else None,
        "void_reason": view.void_reason,
        "payouts": [
            {"account": format_address(payout.account), "grains": payout.grains, "reason": payout.reason}
            for payout in view.payouts
        ],
    }
