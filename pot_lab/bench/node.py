"""One aggregator process of a measuring network: `python -m pot_lab.bench.node NETWORK INDEX DATA`.

The seed of its keys is the first line of stdin. The end of stdin means that the measuring process has ended, for
whatever reason; then this one stops.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from pot_lab.bench.records import RecordPool
from pot_lab.consensus.batching import RequestPool
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.process import Aggregator
from pot_lab.network.aggregator.run import run_aggregator
from pot_lab.network.config import NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.z85 import encode_z85

_TIMEOUT_MS = 60_000


def keys_of(seed: bytes, index: int) -> tuple[Identity, CurveKeyPair]:
    """The account and the CURVE keys of an aggregator of a measuring network."""
    place = index.to_bytes(4, "big")
    secret = tagged_hash("pot-lab/bench/curve/1", seed, place)
    curve = CurveKeyPair.from_secret(encode_z85(secret))
    return Identity(tagged_hash("pot-lab/bench/account/1", seed, place)), curve


def parameters_of(n: int) -> ConsensusParameters:
    """The default limits, but no view change for a minute: hundreds of processes share few cores."""
    return ConsensusParameters(request_timeout_ms=_TIMEOUT_MS // max(1, n // 16), forward_delay_ms=_TIMEOUT_MS)


class HeldPool(RequestPool):
    """A queue that shows its requests to the primary only once it is open."""

    is_open = True

    @property
    def has_waiting(self) -> bool:
        """Whether a request waits, and may be proposed."""
        return self.is_open and super().has_waiting


class HeldRecords(RecordPool):
    """Records that can be admitted first and proposed later: how `--admitted` leaves the admission out of its time.

    Queries, besides the pool's: `hold` and `open` close and open this aggregator's queue, `admitted` returns how many
    requests wait in it.
    """

    aggregator: Aggregator
    pool: HeldPool

    def attach(self, aggregator: Aggregator) -> None:
        """Give the aggregator a queue that can be held."""
        limits = aggregator.replica.parameters
        self.aggregator = aggregator
        self.pool = HeldPool(limits.pending_requests, limits.pending_bytes, limits.pending_per_account)
        aggregator.replica.pool = self.pool

    def query(self, name: str, arguments: bytes) -> bytes:
        """Answer `hold`, `open`, `admitted` and the pool's own queries; raises UnknownQuestion."""
        if name == "admitted":
            return b"%d" % len(self.pool)
        if name in ("hold", "open"):
            self.pool.is_open = name == "open"
            self.aggregator.wake()
            return b""
        return super().query(name, arguments)


def main(arguments: list[str]) -> int:
    """Run one aggregator until SIGTERM or the end of stdin; returns the process's exit code.

    Args:
        arguments: NETWORK (path of network.toml), INDEX (from 0), DATA (folder).
    """
    network_file, index, data = arguments[0], int(arguments[1]), Path(arguments[2])
    seed = bytes.fromhex(sys.stdin.readline())
    try:
        config = NetworkConfig.load(network_file)
    except PotLabError as error:
        print(f"aggregator {index} stopped: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    identity, curve = keys_of(seed, index)
    records = HeldRecords(config.network_id)

    def created(aggregator: Aggregator) -> None:
        records.attach(aggregator)
        threading.Thread(target=_stop_with_parent, args=(aggregator,), daemon=True).start()

    return run_aggregator(
        config,
        index,
        data,
        records,
        (),
        identity=identity,
        curve_secret=curve.secret,
        parameters=parameters_of(config.n),
        log_level="warning",
        on_created=created,
    )


def _stop_with_parent(aggregator: Aggregator) -> None:
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    aggregator.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
