"""What honest people notice while strangers and one seat do in turn all that they can."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from report import main

from tests.chaos.hostile_soak import ALL, hostile_soak


def options(parser: argparse.ArgumentParser) -> None:
    """How long."""
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=1, help="how often each attack's turn comes")
    parser.add_argument("--seed", type=int, default=1)


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """One hostile soak; a history that is not right is an error."""
    with tempfile.TemporaryDirectory() as folder:
        return hostile_soak(Path(folder), seconds=60 * chosen.minutes, seed=chosen.seed, attacks=ALL * chosen.rounds)


if __name__ == "__main__":
    main(__doc__, measure, options=options)
