"""How long `make demo` takes after the install: one whole order with a 20 s training window."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import main


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Seconds of whole demos, one after the other."""
    times_s, gas = [], []
    for _ in range(chosen.runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            demo = ["demo", "--train-for", "20s", "--run-dir", str(Path(folder) / "run"), "--json"]
            command = [sys.executable, "-m", "pot_lab.cli", *demo]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            times_s.append(time.monotonic() - start)
            gas.append(json.loads(output.strip().splitlines()[-1])["settlement"]["gas"])
    return {
        "median_s": round(statistics.median(times_s), 1),
        "worst_s": round(max(times_s), 1),
        "settlement_gas": gas[-1],
    }


def options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--runs", type=int, default=3)


if __name__ == "__main__":
    main(__doc__, measure, options=options)
