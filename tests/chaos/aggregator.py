"""One real aggregator process of a chaos test: `python -m tests.chaos.aggregator CONFIG INDEX DATA_DIR`.

The toy or the real ledger, seen through a `Witness`, in a `Weather` that the test makes. Secrets and the rest come by
environment (`CHAOS_...`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pot_lab.agreement.application import Application, Batch, Execution
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.network.aggregator.run import run_aggregator
from pot_lab.network.duties.duty import Duty
from tests.chaos.weather import Weather, install
from tests.network.toy import Toy


class Witness:
    """An application whose events are the requests that it ran: so an aggregator's history tells its whole order.

    Two more queries: `height`, the last batch in the state that answers, and `snapshot`, the inner application's.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        self.height = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def execute(self, batch: Batch) -> Execution:
        execution = self.inner.execute(batch)
        self.height = batch.sequence
        return Execution(execution.replies, batch.requests, execution.digest)

    def query(self, name: str, arguments: bytes) -> bytes:
        if name == "height":
            return b"%d" % self.height
        if name == "snapshot":
            return self.inner.snapshot()
        return self.inner.query(name, arguments)

    def snapshot(self) -> bytes:
        return encode((self.height, self.inner.snapshot()))

    def restore(self, snapshot: bytes) -> None:
        self.height, inner = decode(snapshot, tuple[int, bytes], limit_bytes=1 << 30)
        self.inner.restore(inner)


class LedgerDuty:
    """The duties of one aggregator of a made-up chain: attestations, key shares, signatures of epochs."""

    def __init__(self, poll: Callable[[object], list[bytes]], application: Application) -> None:
        self._poll, self.application = poll, application

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing: it looks at the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        return self._poll(self)


def main() -> int:
    """Run until the process is stopped; returns its exit code."""
    config_path, index, data_dir = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    environment = os.environ
    curve_secret, secret = json.loads(environment["CHAOS_SECRETS"])
    data_dir.mkdir(parents=True, exist_ok=True)
    install(Weather(Path(environment["CHAOS_WEATHER"])), data_dir)
    application: Application = Toy()
    duties: list[Duty] = []
    is_funded: Callable[[bytes], bool] = bool  # every account
    seal_by_s = int(environment.get("CHAOS_LEDGER", "0"))
    if seal_by_s:
        from pot_lab.protocol.application import LedgerApplication
        from pot_lab.simulator.people import AggregatorDuty
        from tests.chaos.ledger_life import ChainFile, HostClock, cast_until

        cast = cast_until(int(environment["CHAOS_N"]), seal_by_s)
        application = ledger = LedgerApplication(cast.genesis)
        is_funded = ledger.is_funded
        chain = ChainFile(Path(environment["CHAOS_CHAIN"]))
        duty = AggregatorDuty(cast, index, chain, HostClock(), lambda request: None)  # type: ignore[arg-type]
        duties = [LedgerDuty(duty.poll, application)]
    return run_aggregator(
        config_path,
        index,
        data_dir,
        Witness(application),
        duties,
        identity=Identity(bytes.fromhex(secret)),
        curve_secret=curve_secret,
        is_funded=is_funded,
        parameters=ConsensusParameters(snapshot_batches=int(environment.get("CHAOS_SNAPSHOT_BATCHES", "512"))),
    )


if __name__ == "__main__":
    sys.exit(main())
