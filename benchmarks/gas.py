"""What the chain charges: gas of one update cycle and of one paid account, beside the paper's Table 6.

As `pot-lab bench gas`; see `pot_lab/bench/gas.py` for what is measured.
"""

from __future__ import annotations

import argparse
from typing import Any

from report import main

from pot_lab.bench.gas import PAPER_GAS, measure_gas


def options(parser: argparse.ArgumentParser) -> None:
    """How many signers and paid accounts."""
    parser.add_argument("--signers", type=int, default=30)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 10, 100, 1_000])


def show(found: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"{found['signers']} signers; the paper: {PAPER_GAS:,} gas an account"]
    single = (*found["cycle"].items(), ("placeOrderWithPermit", found["place_order"]), *found["deposits"].items())
    lines += [f"{name:45s} {gas:>12,}" for name, gas in single]
    for row in found["accounts"]:
        costs = [(name, gas) for name, gas in row.items() if name != "accounts"]
        lines += [f"{row['accounts']:>5} accounts, {name:30s} {gas:>12,}" for name, gas in costs]
    lines += ["the paper's scheme under today's rules:"]
    return "\n".join([*lines, *(f"{name:45s} {gas:>12,}" for name, gas in found["paper_scheme_measured"].items())])


if __name__ == "__main__":
    main(__doc__, lambda chosen: measure_gas(chosen.signers, chosen.accounts), options=options, show=show)
