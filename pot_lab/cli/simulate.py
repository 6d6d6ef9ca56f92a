"""`pot-lab simulate`: the simulator from a terminal."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from pot_lab.cli.common import json_option, print_aside

if TYPE_CHECKING:
    from pot_lab.simulator.outcome import Outcome

_SHOWN_FAILURES = 3
"""Of these the trace is printed, of the smallest run that still fails; of others the command."""


@click.command(
    epilog="""\b
profiles:
  everything   any of the faults below, 1 to 8 kinds a run
  network      loss, duplication, reordering, jitter, partitions of both kinds
  partitions   partitions in two groups, and in one direction only
  crashes      kills, power cuts with torn writes, blackouts, slow and full disks, slow and frozen processes
  disks        disks lost, bits turned in logs and snapshots, full and slow disks, power cuts
  amnesia      a disk lost, with kills and loss
  clocks       skew, drift, clocks set wrong by seconds and minutes
  wan          hosts in five regions, narrow links and uplinks, jitter, loss
  byzantine    up to f Byzantine aggregators (14 kinds of behaviour), a Byzantine client
  members      aggregators join, leave and rotate their keys, amid partitions, loss, crashes and lost disks
  calm         no faults

\b
examples:
  pot-lab simulate --seeds 1..2000 --json
  pot-lab simulate --seeds 1..300 --nodes 10 --profile byzantine
  pot-lab simulate --seeds 42..42 --nodes 4 --profile everything --without loss --without crash#1"""
)
@click.argument("what", required=False, type=click.Choice(["economics"]))
@click.option("--seeds", default="1..100", show_default=True, metavar="A..B", help="Which runs, both included.")
@click.option("--nodes", type=int, metavar="N", help="How many aggregators (default: 4..7, by seed).")
@click.option(
    "--profile",
    default="everything",
    show_default=True,
    metavar="NAME",
    help="Which faults may come (see below).",
)
@click.option(
    "--without",
    multiple=True,
    metavar="FAULT",
    help="Leave a fault out: a kind, or one episode as kind#number; may be repeated.",
)
@click.option("--processes", type=int, metavar="P", help="How many runs at once (default: one a core).")
@json_option
@click.pass_context
def simulate(
    context: click.Context,
    what: str | None,
    seeds: str,
    nodes: int | None,
    profile: str,
    without: tuple[str, ...],
    processes: int | None,
    as_json: bool,
) -> None:
    """Test replicas and ledgers in virtual time, under faults.

    The real code runs once a seed; the seed draws the faults, and every promise is checked at every step. The exit
    code is 1 if a seed breaks a promise (a violation) or does not recover (stuck). For such a seed it prints the
    command that runs it again, the faults that it needs, and its last moments. See simulator.md in the documentation.

    With `economics` it plays honest work and dishonest strategies on the ledger instead, an order a seed, and prints
    what they bring; see economics.md.
    """
    from pot_lab.simulator import run

    if what is not None:
        _economics(list(run.seeds_of(seeds)), as_json)
        return

    shown = 0

    def show(outcome: Outcome) -> None:
        nonlocal shown
        if outcome.is_good:
            return
        shown += 1
        print_aside(f"seed {outcome.seed}: {_reason(outcome)}\n  again: {outcome.replay}")
        if shown > _SHOWN_FAILURES:
            return
        smallest = run.minimise(outcome)
        if smallest.without != outcome.without:
            print_aside(f"  fails with fewer faults too: {smallest.replay}\n  {_reason(smallest)}")
        print_aside(smallest.trace)

    started_s = time.perf_counter()
    report = run.simulate(
        run.seeds_of(seeds), nodes, profile, without=list(without), processes=processes, on_outcome=show
    )
    facts = {**report.facts(), "elapsed_s": round(time.perf_counter() - started_s, 2)}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name in ("seeds", "events", "violations", "stuck", "view_changes", "catch_ups", "elapsed_s"):
            click.echo(f"{name:12} {facts[name]}")
        for kind, count in facts["faults"].items():
            click.echo(f"  {kind:28} {count}")
    if report.failures:
        context.exit(1)


def _economics(seeds: list[int], as_json: bool) -> None:
    from pot_lab.simulator.economics.estimate import estimates, facts

    found = estimates(seeds)
    if as_json:
        click.echo(json.dumps({"seeds": len(seeds), "estimates": facts(found)}))
        return
    click.echo("POT an order; gain: beside honest work of the same accounts, 95 % confidence")
    for each in found:
        interval = f"{each.gain_low_pot:7.2f} .. {each.gain_high_pot:7.2f}"
        pays = f"  pays: {each.open}" if each.pays else ""
        value = f"{each.dishonest_pot:8.2f}  gain {each.gain_pot:7.2f} ({interval})"
        click.echo(f"{each.strategy:<30} {each.stakes:<10} {value}{pays}")


def _reason(outcome: Outcome) -> str:
    return f"VIOLATION {outcome.violation}" if outcome.violation else f"STUCK {outcome.stuck}"
