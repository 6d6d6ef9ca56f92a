"""The aggregator process: one replica, its log, its sockets and its duties, in one thread.

Each turn of the loop drains the sockets and passes everything that came to consensus' driver, which steps the replica,
writes the log once (one wait for the disk, however many votes), and only then sends. So nothing leaves that a power cut
could take back, and the busier it gets, the more each wait for the disk carries. Nothing from outside raises: what is
malformed, stale, oversize or wrongly signed is counted and dropped. What stops the process is a fault of its own: a
full disk, a damaged log, a state that diverged.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pot_lab.agreement.application import Application
from pot_lab.agreement.evidence import Equivocation
from pot_lab.consensus.driver import Driver
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.replica import Replica
from pot_lab.crypto.canonical import tagged_hash
from pot_lab.crypto.identity import Identity
from pot_lab.network.aggregator.clients import ClientService, QuestionAnswerer
from pot_lab.network.aggregator.data_dir import DataDir
from pot_lab.network.aggregator.journal import AggregatorJournal
from pot_lab.network.aggregator.metrics import Metrics
from pot_lab.network.aggregator.outputs import AggregatorOutputs
from pot_lab.network.aggregator.own_seat import OwnSeat
from pot_lab.network.aggregator.peer_budget import ForwardFilter, PeerBudgets
from pot_lab.network.aggregator.serving_clock import ServingClock
from pot_lab.network.aggregator.turns import Turns
from pot_lab.network.clock import wall_clock_ms
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.duties.duty import Duty
from pot_lab.network.duties.schedule import DutySchedule
from pot_lab.network.logs import EventLog
from pot_lab.network.presence import digest_or_nothing, encode_presence
from pot_lab.network.seats import first_set, succession_of
from pot_lab.network.wake_up import WakeUp

if TYPE_CHECKING:
    from pot_lab.network.metrics_server import MetricsServer


class _Options(NamedTuple):
    """Whom an aggregator serves first, whom it tells of double signing, and where it tells everybody how it is."""

    is_funded: Callable[[bytes], bool]
    witness: Callable[[Equivocation], None] | None
    metrics_at: tuple[str, int] | None


class Aggregator:
    """One aggregator of a network.

    Args:
        config: the network.
        index: which of its first aggregators this is; None for one that joined later, or is to.
        identity: the key that signs its votes.
        curve_secret: its CURVE secret key, Z85.
        application: the state to keep, in its initial state.
        duties: what it does besides ordering.
        data_dir: where log and history live; one process at a time.
        parameters: limits and times of the replica.
        listening: where it listens, if it is not one of the first aggregators.
        spare: further voting and CURVE keys, which it uses once a set in force names them.
        is_funded: whether an account has stake or money in the state; requests of these are served first.
        witness: called with the evidence when another aggregator's double signing is proved; again after a restart.
        history_batches: how many executed batches it keeps for subscribers; 0 keeps all.
        metrics_at: host and port of `/metrics` and `/healthz`; None for none.
        clock_ms: milliseconds since the Unix epoch.

    Raises:
        BadConfig: no such index.
        BadKeyFile: a key is not the one that the network names for this aggregator.
    """

    def __init__(
        self,
        config: NetworkConfig,
        index: int | None,
        identity: Identity,
        curve_secret: str,
        application: Application,
        duties: Sequence[Duty],
        data_dir: str | os.PathLike[str],
        *,
        parameters: ConsensusParameters | None = None,
        listening: AggregatorEntry | None = None,
        spare: Sequence[tuple[Identity, str]] = (),
        is_funded: Callable[[bytes], bool] = lambda account: True,
        witness: Callable[[Equivocation], None] | None = None,
        history_batches: int = 0,
        metrics_at: tuple[str, int] | None = None,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        secrets = [secret for _, secret in spare]
        self.config = config
        self._seat = OwnSeat(config, index, identity, curve_secret, listening=listening, spare_secrets=secrets)
        spare_keys = [each for each, _ in spare]
        first = first_set(config, self._seat.index)
        self.replica = Replica(first, identity, application, parameters, spare=spare_keys)
        if index is None:
            for handover in succession_of(config).handovers:
                self.replica.succession.follow(handover)
        self.counters: Counter[str] = Counter()
        place = identity.address if index is None else index.to_bytes(4, "big")
        owner = tagged_hash("pot-lab/network/log-owner/1", config.network_id, place)
        self._data = DataDir(Path(data_dir), owner, config.durability, history_batches)
        self._log = EventLog("pot_lab.aggregator", index=index)
        self._duties = DutySchedule(duties, self.counters, self._log)
        self._application, self._clock_ms = application, clock_ms
        self._options = _Options(is_funded, witness, metrics_at)
        self._wake_up = WakeUp()
        self._stopping = False

    @property
    def entry(self) -> AggregatorEntry:
        """Where it listens now."""
        return self._seat.entry

    def wake(self) -> None:
        """Make the loop take a turn now and poll the duties; may be called from any thread or signal handler."""
        self._wake_up.wake()

    def stop(self) -> None:
        """End `run` after the turn it is in; may be called from any thread or signal handler."""
        self._stopping = True
        self.wake()

    def run(self) -> None:
        """Work until `stop`, or until this aggregator has left its seat. Duties are closed at the end.

        Raises:
            DataDirLocked, PortTaken, LogCorrupt, BadLog: it cannot start.
            DiskFull, StateDiverged: it cannot go on; what it acknowledged stays true.
        """
        with self._data.opened() as (replica_log, history):
            metrics = Metrics(self.replica, self._clock_ms)
            digest = digest_or_nothing(self.config)
            answerer = QuestionAnswerer(
                self.replica,
                self._application,
                metrics,
                presence=lambda: encode_presence(digest, self._clock_ms(), running=True),
            )
            serving = ServingClock()
            clients = ClientService(
                answerer, self._application.validate, self._options.is_funded, self.counters, serving
            )
            budgets = PeerBudgets(serving)
            outputs = AggregatorOutputs(
                self.replica,
                self._seat,
                clients,
                witness=self._options.witness,
                events=self._log,
                wake_up=self._wake_up,
                budgets=budgets,
            )
            metrics.add(lambda: self.counters)
            metrics.add(lambda: clients.counters)
            metrics.add(lambda: outputs.sockets.counters)
            metrics.add(
                lambda: {
                    "client_connections": outputs.sockets.client_connections,
                    "log_bytes": journal.size_bytes,
                    "peers_heard": outputs.peers_heard.count(self._clock_ms(), self.config.n),
                }
            )
            journal = AggregatorJournal(replica_log, history, self.counters, self._log, serving.waiting)
            driver = Driver(self.replica, journal, outputs)
            turns = Turns(
                driver,
                outputs,
                clients,
                self._duties,
                history=history,
                budgets=budgets,
                forwards=ForwardFilter(self._application, budgets, self.counters),
                counters=self.counters,
                serving=serving,
                clock_ms=self._clock_ms,
            )
            with (
                contextlib.closing(outputs),
                contextlib.closing(self._duties),
                self._metrics_server() as server,
            ):
                turns.recover()
                entry = self._seat.entry
                self._log.info(
                    "ready",
                    peer_port=entry.peer_port,
                    client_port=entry.client_port,
                    executed=self.replica.executed,
                )
                while not self._stopping and not outputs.left:
                    turns.take()
                    if server is not None and server.due:
                        server.publish(metrics.gauges(), metrics.totals(), metrics.ailments())
                self._log.info("stopped", executed=self.replica.executed)

    def _metrics_server(self) -> contextlib.AbstractContextManager[MetricsServer | None]:
        if self._options.metrics_at is None:
            return contextlib.nullcontext()
        from pot_lab.network.metrics_server import MetricsServer  # costs memory, and most do without

        return MetricsServer(*self._options.metrics_at)
