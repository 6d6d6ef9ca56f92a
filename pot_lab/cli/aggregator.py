"""`pot-lab aggregator`: run one aggregator of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pot_lab.cli.common import FILE, HostAndPort, listening_option, log_format_option

if TYPE_CHECKING:
    from pot_lab.network.config import Listening


@click.command
@click.option("--network", type=FILE, required=True, metavar="FILE", help="The network's network.toml.")
@click.option("--index", type=int, help="Which of the network's first aggregators this is, from 0.")
@listening_option("Where it listens, if it is not one of the first: it joins with `pot-lab seat join`.")
@click.option(
    "--keys", type=FILE, required=True, metavar="FOLDER", help="Holds account.json, password, curve.key, sealing.key."
)
@click.option("--data", type=FILE, required=True, metavar="FOLDER", help="For its log and history.")
@click.option(
    "--history-batches",
    type=click.IntRange(min=0),
    default=1_000_000,
    show_default=True,
    help="How many executed batches it keeps for subscribers; 0 keeps all.",
)
@click.option("--metrics", type=HostAndPort(), help="Serve /metrics and /healthz there; on this host by default.")
@click.option(
    "--custody-gib",
    type=click.FloatRange(min=0),
    default=64,
    show_default=True,
    help="How much it holds of orders' files and models, in GiB.",
)
@click.option(
    "--custody-account-gib",
    type=click.FloatRange(min=0),
    default=16,
    show_default=True,
    help="How much of that one account may name, in GiB.",
)
@click.option("--no-chain", is_flag=True, help="Do not watch the chain (for measuring).")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least severe messages that are logged.",
)
@log_format_option
@click.pass_context
def aggregator(
    context: click.Context,
    network: Path,
    index: int | None,
    listen: Listening | None,
    keys: Path,
    data: Path,
    history_batches: int,
    metrics: tuple[str, int] | None,
    custody_gib: float,
    custody_account_gib: float,
    no_chain: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run one aggregator of a network.

    It runs until SIGTERM, or until it has left its seat, and logs to stderr. What it needs lies in two folders: see
    operations.md in the documentation.
    """
    if (index is None) == (listen is None):
        raise click.UsageError("exactly one of --index and --listen is needed")
    from pot_lab.network.aggregator.main import run_node
    from pot_lab.store.custody import CustodyLimits

    total_bytes, payer_bytes = round(custody_gib * 2**30), round(custody_account_gib * 2**30)
    blob_bytes = min(CustodyLimits().blob_bytes, total_bytes, payer_bytes)
    limits = CustodyLimits(total_bytes=total_bytes, payer_bytes=payer_bytes, blob_bytes=blob_bytes)

    context.exit(
        run_node(
            network,
            index,
            keys,
            data,
            listening=listen,
            watch_chain=not no_chain,
            history_batches=history_batches,
            metrics_at=metrics,
            log_level=log_level,
            log_format=log_format,
            custody_limits=limits,
        )
    )
