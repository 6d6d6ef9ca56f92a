"""Hours of a network's life in minutes: load, random faults without end, and the whole run judged afterwards."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from report import main

from tests.chaos.soak import soak


def options(parser: argparse.ArgumentParser) -> None:
    """How long, and of what."""
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--aggregators", type=int, default=4)
    parser.add_argument("--application", default="ledger", choices=["ledger", "toy"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep logs and histories in this new folder")


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """One soak; a promise that was broken is an error."""
    with tempfile.TemporaryDirectory() as folder:
        directory = chosen.keep or Path(folder)
        directory.mkdir(parents=True, exist_ok=True)
        return soak(
            directory,
            seconds=60 * chosen.minutes,
            seed=chosen.seed,
            n=chosen.aggregators,
            ledger=chosen.application == "ledger",
        )


if __name__ == "__main__":
    main(__doc__, measure, options=options)
