"""`pot-lab bench`: the figures of the paper's tables, measured on real processes and by the simulator."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from pot_lab.cli.common import durability_option, interrupt_on_sigterm, json_option, print_aside

_nodes_option = click.option("--nodes", type=int, default=4, show_default=True, help="How many aggregators.")


@click.group
def bench() -> None:
    """Measure, beside the paper's tables."""


@bench.command
@_nodes_option
@click.option("--orders", type=int, default=1, show_default=True, help="Orders in the bundle.")
@click.option("--validations", type=int, default=10, show_default=True, help="Validations in the bundle.")
@click.option("--runs", type=int, default=20, show_default=True, help="How often.")
@click.option(
    "--admitted",
    is_flag=True,
    help="Measure from the pre-prepare; the accounts' signatures were checked before.",
)
@durability_option
@json_option
def consensus(
    nodes: int, orders: int, validations: int, runs: int, admitted: bool, durability: str, as_json: bool
) -> None:
    """Table 4: real aggregators agree on a bundle of records."""
    from pot_lab.bench.consensus import measure_consensus

    interrupt_on_sigterm()
    found = measure_consensus(
        nodes, orders, validations, runs, admitted=admitted, durability=durability, report=print_aside
    )
    _print_figures(found, as_json)


@bench.command
@_nodes_option
@click.option("--seconds", type=int, default=10, show_default=True, help="How long each load is measured.")
@durability_option
@json_option
def throughput(nodes: int, seconds: int, durability: str, as_json: bool) -> None:
    """Transactions a second, and latency under load and alone."""
    from pot_lab.bench.throughput import measure_throughput

    interrupt_on_sigterm()
    _print_figures(measure_throughput(nodes, seconds, durability=durability, report=print_aside), as_json)


def table_rows(
    context: click.Context | None, parameter: click.Parameter | None, given: Sequence[str]
) -> list[tuple[int, int]]:
    """Rows of Table 5 as `(transactions, nodes)`.

    Raises: click.BadParameter.

    >>> table_rows(None, None, ["1000x30"])
    [(1000, 30)]
    """
    rows = []
    for item in given:
        transactions, _, nodes = item.partition("x")
        if not (transactions.isdecimal() and nodes.isdecimal()):
            raise click.BadParameter(f"{item!r} is not TRANSACTIONSxNODES, e.g. 1000x30", context, parameter)
        rows.append((int(transactions), int(nodes)))
    return rows


@bench.command
@click.option(
    "--row",
    "rows",
    multiple=True,
    metavar="TRANSACTIONSxNODES",
    callback=table_rows,
    help="e.g. 1000x30; may be repeated (default: all rows).",
)
@json_option
def wan(rows: list[tuple[int, int]], as_json: bool) -> None:
    """Table 5: narrow and far links, by the simulator."""
    from pot_lab.simulator.tables import table_5

    started_s = time.perf_counter()
    table = table_5(rows or None)
    table["elapsed_s"] = round(time.perf_counter() - started_s, 2)
    if as_json:
        click.echo(json.dumps(table))
        return
    click.echo(f"{'transactions':>12} {'nodes':>5} {'Mbps':>6} {'paper s':>9} {'connection s':>13} {'uplink s':>9}")
    for row in table["rows"]:
        paper = "-" if row["paper_s"] is None else f"{row['paper_s']:.3f}"
        click.echo(
            f"{row['transactions']:12d} {row['nodes']:5d} {row['mbps']:6.1f} {paper:>9} "
            f"{row['connection']['answered_s']:13.3f} {row['uplink']['answered_s']:9.3f}"
        )


@bench.command
@click.option("--signers", type=click.IntRange(1, 100), default=30, show_default=True, help="How many aggregators.")
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 10, 100, 1_000),
    show_default=True,
    help="How many accounts a cycle pays; may be repeated.",
)
@click.option("--gwei", type=float, default=4.562, show_default=True, help="Price of gas (default: the paper's).")
@click.option("--coin-usd", type=float, default=246.2, show_default=True, help="Price of the coin (the paper's).")
@json_option
def gas(signers: int, accounts: tuple[int, ...], gwei: float, coin_usd: float, as_json: bool) -> None:
    """Table 6: gas of an update cycle and of a paid account.

    On an embedded chain; gas is the same on any chain with these rules.
    """
    from pot_lab.bench.gas import in_coin, measure_gas

    found = measure_gas(signers, accounts)
    found["prices"] = {"gwei": gwei, "coin_usd": coin_usd}
    if as_json:
        click.echo(json.dumps(found))
        return

    def line(name: str, amount: float) -> str:
        coin = in_coin(amount, gwei)
        return f"{name:42} {amount:>12,.0f} {coin:>12.6f} {coin * coin_usd:>10.4f}"

    click.echo(f"{'':42} {'gas':>12} {'coin':>12} {'USD':>10}")
    for name, amount in (
        *found["cycle"].items(),
        ("placeOrderWithPermit", found["place_order"]),
        *found["deposits"].items(),
    ):
        click.echo(line(name, amount))
    for row in found["accounts"]:
        for kind in ("first", "repeat"):
            click.echo(line(f"an account of {row['accounts']}, {kind} payment", row[f"{kind}: all per account"]))
    click.echo(line("an account by the paper's scheme, measured", found["paper_scheme_measured"]["per account"]))
    click.echo(line("an account in the paper's Table 6", found["paper_gas_per_account"]))


def _print_figures(found: Mapping[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(found) if as_json else "\n".join(f"{name:22} {value}" for name, value in found.items()))
