"""An aggregator's process around any application: logs, signals, one line for the error that ends it.

Light by itself, since a large testnet runs a hundred of these on one machine: no keystore, no ledger, no chain.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence

from pot_lab.agreement.application import Application
from pot_lab.agreement.evidence import Equivocation
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.process import Aggregator
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.duties.duty import Duty
from pot_lab.network.logs import log_to_stderr


def run_aggregator(
    config: NetworkConfig | str | os.PathLike[str],
    index: int | None,
    data_dir: str | os.PathLike[str],
    application: Application,
    duties: Sequence[Duty],
    *,
    identity: Identity,
    curve_secret: str,
    parameters: ConsensusParameters | None = None,
    listening: AggregatorEntry | None = None,
    spare: Sequence[tuple[Identity, str]] = (),
    is_funded: Callable[[bytes], bool] = lambda account: True,
    witness: Callable[[Equivocation], None] | None = None,
    history_batches: int = 0,
    metrics_at: tuple[str, int] | None = None,
    log_level: str = "info",
    log_format: str = "text",
    on_created: Callable[[Aggregator], None] | None = None,
) -> int:
    """The main of an aggregator process: logs to stderr, stops cleanly on SIGTERM and SIGINT, and returns an exit code.

    Args:
        config: the network, or the path of its `network.toml`.
        on_created: gets the aggregator before it runs, e.g. to hand `wake` to a watcher's thread.
        (others): see `Aggregator`.
    Returns: 0 after a clean stop; 1 after an error, which stands in one line on stderr.
    """
    log_to_stderr(log_level, log_format)
    _share_processor()
    try:
        network = config if isinstance(config, NetworkConfig) else NetworkConfig.load(config)
        aggregator = Aggregator(
            network,
            index,
            identity,
            curve_secret,
            application,
            duties,
            data_dir,
            parameters=parameters,
            listening=listening,
            spare=spare,
            is_funded=is_funded,
            witness=witness,
            history_batches=history_batches,
            metrics_at=metrics_at,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: aggregator.stop())
        if on_created is not None:
            on_created(aggregator)
        aggregator.run()
    except (PotLabError, OSError) as error:
        return stopped_by(index, error, log_format)
    return 0


def stopped_by(index: int | None, error: Exception, log_format: str = "text") -> int:
    """Print the error that ends an aggregator's process as one line to stderr; returns the exit code, 1."""
    name, rule = "newcomer" if index is None else index, type(error).__name__
    line = f"aggregator {name} stopped: {rule}: {error}"
    if log_format == "json":
        line = json.dumps({"level": "error", "event": "stopped", "index": index, "rule": rule, "message": str(error)})
    print(line, file=sys.stderr, flush=True)
    return 1


def _share_processor() -> None:
    """Let this process preempt no other because a frame woke it (Linux's SCHED_BATCH).

    On a busy machine it would take the processor for one frame, go back to sleep, and so on for every peer; not
    interrupting, it finds them all at once (benchmarks.md).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # forbidden in some containers
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
