"""Table 4 and throughput of real aggregators, and Table 5 by the simulator, into `results/` for the paper's notebook.

Each figure replaces the one of the same setting in `results/*.json`; the others stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from report import RESULTS, main

from pot_lab.bench.consensus import measure_bundle
from pot_lab.bench.network import MeasuringNetwork
from pot_lab.bench.tables import SCENARIOS
from pot_lab.bench.throughput import measure_throughput
from pot_lab.simulator.tables import table_5

SETTING = ("nodes", "orders", "validations", "durability", "admitted")


def log(text: str) -> None:
    """Progress, beside the report."""
    print(text, file=sys.stderr, flush=True)


def keep(name: str, found: dict[str, Any]) -> None:
    """Put a figure in the place of the one of the same setting."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    old = json.loads(path.read_text()) if path.is_file() else []

    def setting(figure: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(figure.get(field, -1) for field in SETTING)

    kept = [figure for figure in old if setting(figure) != setting(found)]
    path.write_text(json.dumps(sorted([*kept, found], key=setting), indent=1) + "\n")


def table_4(nodes: int, runs: int) -> list[dict[str, Any]]:
    """Every scenario: like for like on both kinds of log, and with the accounts' signatures inside the time."""
    found = []
    for durability in ("flush", "fsync"):
        log(f"{nodes} aggregators, {durability}")
        with MeasuringNetwork(nodes, durability) as network:
            for orders, validations in SCENARIOS:
                for admitted in (True, False) if durability == "flush" else (True,):
                    figure = measure_bundle(network, orders, validations, runs, admitted=admitted, report=log)
                    log(f"{orders} + {validations}, admitted {admitted}: {figure['median_s']} s")
                    keep("consensus", figure)
                    found.append(figure)
    return found


def measure(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Every part that was chosen; each figure is kept in `results/` too."""
    found: list[dict[str, Any]] = []
    for nodes in chosen.nodes:
        if "table4" in chosen.part:
            found += table_4(nodes, chosen.runs)
        if "throughput" in chosen.part:
            found.append(measure_throughput(nodes, chosen.seconds, report=log))
            keep("throughput", found[-1])
    if "wan" in chosen.part:
        found.append(table_5())
        (RESULTS / "wan.json").write_text(json.dumps(found[-1], indent=1) + "\n")
    return found


def options(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--part", nargs="+", choices=["table4", "throughput", "wan"], default=["table4", "throughput"])


if __name__ == "__main__":
    main(__doc__, measure, options=options)
