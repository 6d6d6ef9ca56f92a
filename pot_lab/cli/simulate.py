"""`pot-lab simulate` and `pot-lab bench wan`: the simulator from a terminal."""

from __future__ import annotations

import argparse
import json
import sys

from pot_lab.errors import PotLabError
from pot_lab.simulator.run import minimise, seeds_of, simulate
from pot_lab.simulator.simulation import Outcome
from pot_lab.simulator.tables import table_5

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
