"""How long a network answers nobody after its primary was killed: from the kill to the reply to a request sent then."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from report import main

from tests.chaos.network import PATIENCE_S, ChaosNetwork


def measure(kills: int, aggregators: int, durability: str) -> dict[str, Any]:
    """So many kills, one after the other; everybody is back and level before the next."""
    times_s = []
    with tempfile.TemporaryDirectory() as folder:
        network = ChaosNetwork(Path(folder), aggregators, durability)
        with network:
            book = network.bookkeeper("client")
            network.settle(book)
            for _ in range(kills):
                book.put_all(5)
                network.settle(book)
                victim = network.primary(book)
                network.kill(victim)
                start_s = time.perf_counter()
                book.put().result(PATIENCE_S)
                times_s.append(time.perf_counter() - start_s)
                network.start(victim)
                network.settle(book)
            network.verdict()
    times_s.sort()
    return {
        "median_s": round(statistics.median(times_s), 2),
        "p90_s": round(times_s[int(kills * 0.9)], 2),
        "worst_s": round(times_s[-1], 2),
    }


def options(parser: argparse.ArgumentParser) -> None:
    """How much to measure, and of what."""
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--aggregators", type=int, default=4)
    parser.add_argument("--durability", default="fsync", choices=["fsync", "flush"])


if __name__ == "__main__":
    main(__doc__, lambda chosen: measure(chosen.kills, chosen.aggregators, chosen.durability), options=options)
