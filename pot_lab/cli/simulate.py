"""`pot-lab simulate` and `pot-lab bench wan`: the simulator from a terminal."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pot_lab.errors import PotLabError
from pot_lab.simulator.run import minimise, seeds_of, simulate
from pot_lab.simulator.simulation import Outcome
from pot_lab.simulator.tables import table_5

if TYPE_CHECKING:
    pass

_SHOWN_FAILURES = 3
"""Of these the trace is printed, of the smallest run that still fails; of others the command."""


def run_simulate(chosen: argparse.Namespace) -> int:
    """Run seeds; returns 1 if one of them failed."""
    shown = 0

    def show(outcome: Outcome) -> None:
        nonlocal shown
        if outcome.is_good:
            return
        shown += 1
        _say(f"seed {outcome.seed}: {_why(outcome)}\n  again: {outcome.replay}")
        if shown > _SHOWN_FAILURES:
            return
        smallest = minimise(outcome)
        if smallest.without != outcome.without:
            _say(f"  fails with fewer faults too: {smallest.replay}\n  {_why(smallest)}")
        _say(smallest.trace)

    report = simulate(
        seeds_of(chosen.seeds),
        chosen.nodes,
        chosen.profile,
        without=chosen.without,
        processes=chosen.processes,
        on_outcome=show,
    )
    facts = report.facts()
    if chosen.json:
        print(json.dumps(facts), flush=True)
    else:
        for name in ("seeds", "events", "violations", "stuck", "view_changes", "catch_ups", "elapsed_s"):
            print(f"{name:12} {facts[name]}")
        for kind, count in facts["faults"].items():
            print(f"  {kind:28} {count}")
    return 1 if report.failures else 0


def _why(outcome: Outcome) -> str:
    return f"VIOLATION {outcome.violation}" if outcome.violation else f"STUCK {outcome.stuck}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_wan(chosen: argparse.Namespace) -> None:
    """Print Table 5 by the simulator, beside the paper's."""
    rows = None
    if chosen.row:
        try:
            rows = [(int(transactions), int(nodes)) for transactions, nodes in (each.split("x") for each in chosen.row)]
        except ValueError:
            raise PotLabError("a row is TRANSACTIONSxNODES", seen=" ".join(chosen.row), wanted="1000x30") from None
    table = table_5(rows)
    if chosen.json:
        print(json.dumps(table), flush=True)
        return
    print(f"{'transactions':>12} {'nodes':>5} {'Mbps':>6} {'paper s':>9} {'connection s':>13} {'uplink s':>9}")
    for row in table["rows"]:
        paper = "-" if row["paper_s"] is None else f"{row['paper_s']:.3f}"
        print(
            f"{row['transactions']:12d} {row['nodes']:5d} {row['mbps']:6.1f} {paper:>9} "
            f"{row['connection']['answered_s']:13.3f} {row['uplink']['answered_s']:9.3f}"
        )


def _simulate_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = """\
Run the real replicas and ledgers in virtual time, one run a seed, under faults that the seed draws, and check every
promise at every step. Returns 1 if a seed breaks one (a violation) or does not recover (stuck), and prints for it the
command that runs it again, the faults that it needs, and its last moments. See simulator.md."""
    parser.epilog = """\
profiles:
  everything   any of the faults below, 1 to 8 kinds a run
  network      loss, duplication, reordering, jitter, partitions of both kinds
  partitions   partitions in two groups, and in one direction only
  crashes      kills, power cuts with torn writes, blackouts, slow and full disks, slow and frozen processes
  disks        disks lost, bits turned in logs and snapshots, full and slow disks, power cuts
  amnesia      a disk lost, with kills and loss
  clocks       skew, drift, clocks set wrong by seconds and minutes
  wan          hosts in five regions, narrow links and uplinks, jitter, loss
  byzantine    up to f lying aggregators (14 ways), a lying client
  members      aggregators join, leave and rotate their keys, amid partitions, loss, crashes and lost disks
  calm         no faults

examples:
  pot-lab simulate --seeds 1..2000 --json
  pot-lab simulate --seeds 1..300 --nodes 10 --profile byzantine
  pot-lab simulate --seeds 42..42 --nodes 4 --profile everything --without loss --without crash#1"""
    parser.add_argument("--seeds", default="1..100", metavar="A..B", help="which runs, both included (default: 1..100)")
    parser.add_argument("--nodes", type=int, metavar="N", help="how many aggregators (default: 4..7, by seed)")
    parser.add_argument("--profile", default="everything", metavar="NAME", help="which faults may come (see below)")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FAULT",
        help="leave a fault out: a kind, or one episode as kind#number",
    )
    parser.add_argument("--processes", type=int, metavar="P", help="how many runs at once (default: one a core)")


def _simulate(chosen: argparse.Namespace) -> int:
    from pot_lab.cli.simulate import run_simulate

    return run_simulate(chosen)
