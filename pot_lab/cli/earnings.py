"""`pot-lab earnings`: what the miners of this host earned, by day and by order."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import json_option, print_aside

if TYPE_CHECKING:
    from pot_lab.jobs.earnings_book import Entry, Period

DAY_S = 86_400


@click.command
@click.option("--days", type=click.IntRange(min=1), default=30, show_default=True, help="How far back.")
@click.option("--orders", "by_order", is_flag=True, help="A line for each order instead of each day.")
@click.option("--watts", type=click.FloatRange(min=0), metavar="W", help="What this host draws while a notebook runs.")
@click.option(
    "--kwh-price", type=click.FloatRange(min=0), default=0.0, metavar="P", help="The price of a kWh, in your currency."
)
@json_option
def earnings(days: int, by_order: bool, watts: float | None, kwh_price: float, as_json: bool) -> None:
    """Tell what the miners of this host earned.

    For each role, account and network: orders, how many of them paid, POT, hours that notebooks ran, and POT for each
    such hour; with --watts also the energy, and what it cost. Why an order paid what it did: `pot-lab why ORDER`.
    """
    from pot_lab import home
    from pot_lab.jobs.earnings_book import books, by_day, period

    since_ms = int((time.time() - days * DAY_S) * 1000)
    told: list[dict[str, Any]] = []
    for book in books(home.home()):
        entries = book.entries(since_ms)
        if not entries:
            continue
        total = period("all", entries)
        facts: dict[str, Any] = {
            "miner": book.folder.name,
            "days": [_facts(day, watts, kwh_price) for day in by_day(entries)],
        }
        facts |= {"total": _facts(total, watts, kwh_price)}
        if by_order:
            facts |= {"orders": [_order_facts(entry) for entry in entries]}
        told.append(facts)
        if as_json:
            continue
        click.echo(book.folder.name)
        if by_order:
            for entry in entries:
                click.echo(_order_line(entry))
        else:
            click.echo(f"  {'day':<10} {'orders':>6} {'paid':>5} {'POT':>12} {'hours':>8} {'POT/hour':>9}")
            for day in by_day(entries):
                click.echo(_line(day))
        click.echo(_line(total))
        if watts is not None:
            energy = _facts(total, watts, kwh_price)
            click.echo(f"  {energy['kwh']:.2f} kWh at {watts:g} W, {energy['energy_cost']:.2f} at {kwh_price:g} a kWh")
    if as_json:
        click.echo(json.dumps(told))
    elif not told:
        print_aside(f"no order of a miner of this host has ended in {days} days")


def _facts(period: Period, watts: float | None, kwh_price: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": period.name,
        "orders": period.orders,
        "paid": period.paid,
        "grains": period.grains,
        "hours": period.hours,
        "grains_per_hour": period.grains_per_hour,
    }
    if watts is not None:
        kwh = period.hours * watts / 1000
        facts |= {"kwh": kwh, "energy_cost": kwh * kwh_price}
    return facts


def _order_facts(entry: Entry) -> dict[str, Any]:
    return {
        "ended_ms": entry.ended_ms,
        "order": entry.order_id,
        "outcome": entry.outcome,
        "grains": entry.grains,
        "reasons": list(entry.reasons),
        "worked_s": entry.worked_s,
    }


def _line(period: Period) -> str:
    from pot_lab.protocol.parameters import GRAINS_PER_POT

    rate = period.grains_per_hour
    each = "" if rate is None else f"{rate / GRAINS_PER_POT:.2f}"
    pot = period.grains / GRAINS_PER_POT
    return f"  {period.name:<10} {period.orders:>6} {period.paid:>5} {pot:>12.4f} {period.hours:>8.2f} {each:>9}"


def _order_line(entry: Entry) -> str:
    from pot_lab.protocol.parameters import GRAINS_PER_POT

    ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.ended_ms / 1000))
    reasons = f" ({', '.join(entry.reasons)})" if entry.reasons else ""
    pot = entry.grains / GRAINS_PER_POT
    outcome = "".join(letter if letter.isprintable() else "?" for letter in entry.outcome)  # it may quote a stranger
    return f"  {ended}  {entry.order_id[:12]} {pot:>12.4f} POT {entry.worked_s / 3600:>7.2f} h  {outcome}{reasons}"
