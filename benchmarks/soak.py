"""Hours of a network's life in minutes: load, random faults without end, and the whole run judged afterwards.

python benchmarks/soak.py [--minutes 2] [--aggregators 4] [--application ledger|toy] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.chaos.soak import soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--aggregators", type=int, default=4)
    parser.add_argument("--application", default="ledger", choices=["ledger", "toy"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep logs and histories in this new folder")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = chosen.keep or Path(folder)
        directory.mkdir(parents=True, exist_ok=True)
        found = soak(
            directory,
            seconds=60 * chosen.minutes,
            seed=chosen.seed,
            n=chosen.aggregators,
            ledger=chosen.application == "ledger",
        )
    print(json.dumps(found) if chosen.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
