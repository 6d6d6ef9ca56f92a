"""`pot-lab orders`: orders of the network, or one of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import account_option, connect_lab, json_option, network_option
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.protocol.views import OrderSummary, OrderView

SEARCHED_ORDERS = 500
"""An id's first digits are looked for among so many orders, the newest first."""
_SHOWN_CANDIDATES = 8
_ID_DIGITS = 64


class NoSuchOrder(PotLabError):
    """No order's id begins with these digits.

    What to do: `pot-lab orders` lists what there is.
    """


class AmbiguousOrder(PotLabError):
    """The ids of several orders begin with these digits.

    What to do: give more digits of the id; the message lists the candidates.
    """


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
            found = lab.get(match_order_id(order, lambda: [each.id for each in lab.client.orders(SEARCHED_ORDERS)]))
            view = found.view()
            click.echo(json.dumps(order_facts(view)) if as_json else repr(found))
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


def match_order_id(text: str, list_ids: Callable[[], Collection[bytes]]) -> bytes:
    """An order's id from its first hexadecimal digits, with or without 0x.

    Args:
        text: what the user typed; 64 digits are an id as they stand.
        list_ids: fetches the ids among which fewer digits have to be unique; not called for a whole id.
    Raises:
        NoSuchOrder: no known id begins so, or it is no hexadecimal number.
        AmbiguousOrder: more than one begins so.

    >>> match_order_id("0xAB", lambda: [bytes.fromhex("ab12"), bytes.fromhex("cd34")]).hex()
    'ab12'
    """
    digits = text.removeprefix("0x").lower()
    if not digits or len(digits) > _ID_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise NoSuchOrder(
            "not an order's id, or the first digits of one", seen=text, wanted="up to 64 hexadecimal digits"
        )
    if len(digits) == _ID_DIGITS:
        return bytes.fromhex(digits)
    known = list_ids()
    found = [each for each in known if each.hex().startswith(digits)]
    if not found:
        raise NoSuchOrder("no order's id begins with these digits", seen=text, wanted=_candidates(known))
    if len(found) > 1:
        raise AmbiguousOrder("the ids of several orders begin with these digits", seen=text, wanted=_candidates(found))
    return found[0]


def _candidates(ids: Collection[bytes]) -> str:
    if not ids:
        return "an order of this network, which has none yet"
    shown = [each.hex()[:12] for each in list(ids)[:_SHOWN_CANDIDATES]]
    more = f" or {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
    return f"one of {', '.join(shown)}{more}"


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
