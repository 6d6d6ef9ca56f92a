"""`pot-lab demo`: one whole order on a local testnet."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from pot_lab.cli.common import FILE, interrupt_on_sigterm, json_option


@click.command
@click.option("--run-dir", type=FILE, metavar="FOLDER", help="Where to leave everything (default: runs/demo-<time>).")
@click.option("--train-for", metavar="TIME", help="How long providers train (default: 20s, longer on a slow machine).")
@click.option("--kill-backup", is_flag=True, help="Kill one aggregator with -9 on the way and start it again.")
@json_option
def demo(run_dir: Path | None, train_for: str | None, kill_backup: bool, as_json: bool) -> None:
    """Run one whole order on a local testnet.

    Starts the testnet and the miners, executes the notebook that places the order, and checks every payout.
    """
    from pot_lab.demo import run_demo

    interrupt_on_sigterm()
    folder = run_dir or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    summary = run_demo(folder, train_for=train_for, kill_backup=kill_backup, report=click.echo)
    if as_json:
        click.echo(json.dumps(summary))
