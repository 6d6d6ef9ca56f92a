"""`pot-lab bench`: the figures of the paper's tables on real processes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pot_lab.cli.common import _interrupt_on_sigterm, _say_aside

if TYPE_CHECKING:
    pass


def _bench_parsers(figures: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    def figure(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = figures.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--json", action="store_true", help="one JSON object on the last line")
        return made

    consensus = figure("consensus", _bench_consensus, "Table 4: real aggregators agree on a bundle of records")
    consensus.add_argument("--nodes", type=int, default=4, help="aggregators (default: 4)")
    consensus.add_argument("--orders", type=int, default=1, help="orders in the bundle (default: 1)")
    consensus.add_argument("--validations", type=int, default=10, help="validations in the bundle (default: 10)")
    consensus.add_argument("--runs", type=int, default=20, help="how often (default: 20)")
    consensus.add_argument(
        "--admitted", action="store_true", help="from the pre-prepare, the accounts' signatures checked before"
    )
    consensus.add_argument("--durability", choices=["fsync", "flush"], default="fsync")

    throughput = figure("throughput", _bench_throughput, "transactions a second, and latency under load and alone")
    throughput.add_argument("--nodes", type=int, default=4, help="aggregators (default: 4)")
    throughput.add_argument("--seconds", type=int, default=10, help="how long each load is measured (default: 10)")
    throughput.add_argument("--durability", choices=["fsync", "flush"], default="fsync")

    wan = figure("wan", _bench_wan, "Table 5: narrow and far links, by the simulator")
    wan.add_argument("--row", action="append", metavar="TRANSACTIONSxNODES", help="e.g. 1000x30 (default: all rows)")


def _bench_consensus(chosen: argparse.Namespace) -> None:
    from pot_lab.bench.consensus import measure_consensus

    _interrupt_on_sigterm()
    found = measure_consensus(
        chosen.nodes,
        chosen.orders,
        chosen.validations,
        chosen.runs,
        admitted=chosen.admitted,
        durability=chosen.durability,
        say=_say_aside,
    )
    _print_figures(found, chosen.json)


def _bench_throughput(chosen: argparse.Namespace) -> None:
    from pot_lab.bench.throughput import measure_throughput

    _interrupt_on_sigterm()
    found = measure_throughput(chosen.nodes, chosen.seconds, durability=chosen.durability, say=_say_aside)
    _print_figures(found, chosen.json)


def _print_figures(found: dict[str, Any], as_json: bool) -> None:
    print(
        json.dumps(found) if as_json else "\n".join(f"{name:22} {value}" for name, value in found.items()), flush=True
    )


def _bench_wan(chosen: argparse.Namespace) -> None:
    from pot_lab.cli.simulate import run_wan

    run_wan(chosen)
