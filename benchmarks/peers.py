"""Table 4 beside other programs that are installed here: turns taken one after the other, and ratios of one run.

    make bench-peers PEERS="--peer 'paper=/path/to/program {nodes} {bytes}'" NODES="10 30"

A peer is a command that makes a network of {nodes} nodes on this host, has it agree on one bundle of {bytes} bytes, and
prints the seconds that this took as the last line of its output. None comes with PoT Lab. Machines are noisy, so only
ratios of one turn are compared: a turn measures ours, then each peer as often, and the median over turns is shown.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from report import main

from pot_lab.bench.consensus import measure_consensus
from pot_lab.bench.network import BadSetting
from pot_lab.bench.records import ORDER_BYTES, VALIDATION_BYTES

PATIENCE_S = 300
"""A peer that takes longer for one bundle hangs."""


def run_peer(command: str, nodes: int, size_bytes: int, patience_s: float = PATIENCE_S) -> float | None:
    """Seconds that a peer took for one bundle; None if it hung or failed.

    Args:
        command: the command line, with `{nodes}` and `{bytes}` where these belong.
        nodes: of its network.
        size_bytes: of the bundle.
        patience_s: when it is ended.
    Raises:
        BadSetting: the command cannot be run, or its last line is no number of seconds.
    """
    line = [part.format(nodes=nodes, bytes=size_bytes) for part in shlex.split(command)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=patience_s)
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        raise BadSetting("a peer cannot be run", seen=f"{line[0]}: {error.strerror}", wanted="a command") from None
    if done.returncode != 0:
        return None
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        return float(last)
    except ValueError:
        raise BadSetting("a peer's last line is not a time", seen=repr(last[:80]), wanted="seconds") from None


def peer(text: str) -> tuple[str, str]:
    """A peer of the command line, `NAME=COMMAND`."""
    name, equals, command = text.partition("=")
    if not (name and equals and command.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND")
    return name, command


def turns(
    chosen: argparse.Namespace,
    nodes: int,
    records: int,
    ours: Callable[..., dict[str, Any]] = measure_consensus,
) -> dict[str, Any]:
    """One row: medians of ours and of each peer in seconds, and how far ours is ahead, all of it over turns.

    Args:
        chosen: the options.
        nodes: aggregators, and nodes of a peer.
        records: of a bundle; one of eleven is an order.
        ours: measures ours.
    """
    orders = records // 11
    size = orders * ORDER_BYTES + (records - orders) * VALIDATION_BYTES
    medians: dict[str, list[float]] = {"ours": [], **{name: [] for name, _ in chosen.peer}}
    hangs = dict.fromkeys(medians, 0)
    for _ in range(chosen.turns):
        found = ours(
            nodes,
            orders,
            records - orders,
            chosen.runs,
            admitted=not chosen.signatures,
            durability=chosen.durability,
        )
        medians["ours"].append(found["median_s"])
        hangs["ours"] += found["hangs"]
        for name, command in chosen.peer:
            each = [run_peer(command, nodes, size) for _ in range(chosen.runs)]
            hangs[name] += each.count(None)
            if times := [one for one in each if one is not None]:
                medians[name].append(statistics.median(times))
    row: dict[str, Any] = {"nodes": nodes, "records": records, "bytes": size}
    for name, of_turns in medians.items():
        row[f"{name}_s"] = round(statistics.median(of_turns), 4) if of_turns else None
        row[f"{name}_hangs"] = hangs[name]
    for name, _ in chosen.peer:
        if len(medians[name]) == chosen.turns:
            ratios = [theirs / ours for theirs, ours in zip(medians[name], medians["ours"], strict=True)]
            row[f"ahead_of_{name}"] = round(statistics.median(ratios), 2)
            row[f"ahead_of_{name}_turns"] = [round(each, 2) for each in ratios]
    return row


def measure(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each size of network and of bundle."""
    return [turns(chosen, nodes, records) for nodes in chosen.nodes for records in chosen.records]


def show(rows: Sequence[dict[str, Any]]) -> str:
    """The rows, a line each."""
    return "\n".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows)


def options(parser: argparse.ArgumentParser) -> None:
    """Which peers, and how much to measure."""
    parser.add_argument("--peer", type=peer, action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10])
    parser.add_argument("--records", type=int, nargs="+", default=[11], help="eleven or a multiple of it")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5, help="of each in a turn")
    parser.add_argument("--signatures", action="store_true", help="check the accounts' signatures within the time")
    parser.add_argument("--durability", default="flush", choices=["fsync", "flush"])


if __name__ == "__main__":
    main(__doc__, measure, options=options, show=show)
