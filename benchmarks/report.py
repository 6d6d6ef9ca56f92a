"""The command line that all programs of this folder have, and the one JSON object that each leaves.

    python benchmarks/NAME.py [--json] [--output FILE] [options of its own]

The object has `benchmark` (the program's name), `settings` (its options), `figures`, and `calibration`: how fast the
machine was then. Compare only what was measured beside the same calibration.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for programs that measure by parts of the tests

from pot_lab.bench.calibration import calibrate

RESULTS = Path(__file__).resolve().parent / "results"


def main(
    description: str | None,
    measure: Callable[[argparse.Namespace], Any],
    *,
    options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
    show: Callable[[Any], str] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Read the options, measure, and print or write the report.

    Args:
        description: the program's docstring; `--help` shows its first line.
        measure: takes the options, returns the figures (whatever JSON can hold).
        options: adds the program's own options.
        show: turns figures into text for people; by default one name and value a line.
        arguments: as in `sys.argv[1:]`, which is the default.
    """
    parser = argparse.ArgumentParser(description=(description or "").strip().partition("\n")[0])
    options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON object to this file")
    chosen = parser.parse_args(arguments)
    figures = measure(chosen)
    settings = {name: value for name, value in vars(chosen).items() if name not in ("json", "output")}
    report = {
        "benchmark": Path(parser.prog).stem,
        "settings": settings,
        "figures": figures,
        "calibration": calibrate(),
    }
    if chosen.output:
        chosen.output.write_text(json.dumps(report, indent=1, default=str) + "\n")
    if chosen.json:
        print(json.dumps(report, default=str))
    else:
        print((show or _lines)(figures))
        print("beside: " + ", ".join(f"{name} {value}" for name, value in report["calibration"].items()))


def _lines(figures: Any) -> str:
    if isinstance(figures, dict):
        return "\n".join(f"{name}: {value}" for name, value in figures.items())
    return "\n".join(map(str, figures)) if isinstance(figures, list) else str(figures)
