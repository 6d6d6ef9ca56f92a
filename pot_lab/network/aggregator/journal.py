"""The durable state of an aggregator, as consensus' driver uses it: the replica's log, its snapshots, the history."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from pot_lab.consensus.messages import CheckpointProof, DecidedBatch
from pot_lab.consensus.records import LogRecord
from pot_lab.consensus.steps import Executed
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.aggregator.replica_log import ReplicaLog
from pot_lab.network.logs import EventLog


class AggregatorJournal:
    """Log and history of one aggregator (`consensus.driver.Journal`).

    The log is written first: the history is a copy of what follows from it. Where the process has no file descriptor
    left, because connections of strangers hold them, snapshots and compaction wait for better times.

    Args:
        log, history: the opened files.
        counters: counts `descriptors_lacking`.
        events: where snapshots and compactions are reported.
        waiting: entered while the disk is waited for.
    Raises (each method that writes):
        DiskFull: no room; nothing of this turn may leave the process.
    """

    def __init__(
        self,
        log: ReplicaLog,
        history: History,
        counters: Counter[str],
        events: EventLog,
        waiting: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._log, self._history, self._counters, self._events = log, history, counters, events
        self._waiting = waiting
        self._executed: list[HistoryRow] = []

    @property
    def size_bytes(self) -> int:
        """Size of the log."""
        return self._log.file.size_bytes

    def beginning(self) -> tuple[CheckpointProof, bytes] | None:
        """The checkpoint that the log begins with, and its snapshot; raises LogCorrupt."""
        return self._log.beginning()

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        """All records in order, a few at a time; raises LogCorrupt or Malformed."""
        yield from self._log.recover()
        if self._log.file.cut_bytes:
            self._events.warning("log_tail_cut", bytes=self._log.file.cut_bytes)

    def append(self, record: LogRecord, *, urgent: bool) -> None:
        """Queue a record."""
        self._log.append(record)

    def executed(self, batch: Executed) -> None:
        """Queue an executed batch for the history."""
        self._executed.append(HistoryRow(batch.sequence, batch.time_ms, batch.execution.events))

    def keep_snapshot(self, sequence: int, snapshot: bytes) -> None:
        """Write a snapshot to its file."""
        kept = self._log.keep_snapshot(sequence, snapshot)
        self._report(kept, "snapshot_taken", sequence=sequence, bytes=len(snapshot))

    def compact(self, proof: CheckpointProof) -> None:
        """Begin the log with a checkpoint, once the history has for certain what leaves the log."""
        self._log.write()
        self._write_history()
        with self._waiting():
            self._history.sync()
            compacted = self._log.compact(proof)
        self._report(compacted, "log_compacted", sequence=proof.sequence, bytes=self.size_bytes)

    def write(self) -> None:
        """Hand queued records to the operating system."""
        self._log.write()

    def commit(self, *, urgent: bool) -> None:
        """Wait for the disk if urgent; then write the history."""
        if urgent:
            with self._waiting():
                self._log.sync()
        self._write_history()

    def decisions(self, first: int, last: int, limit_bytes: int) -> Sequence[DecidedBatch]:
        """Decided batches, as many as fit but at least one; raises LogCorrupt."""
        return self._log.decisions(first, last, limit_bytes)

    def read_snapshot(self, sequence: int, start: int, size_bytes: int) -> bytes | None:
        """Bytes of a snapshot from byte `start` on; None when it is not there any more."""
        return self._log.read_snapshot(sequence, start, size_bytes)

    def _write_history(self) -> None:
        self._history.append(self._executed)
        self._executed.clear()

    def _report(self, done: bool, event: str, **facts: int) -> None:
        if done:
            self._events.info(event, **facts)
        else:
            self._counters["descriptors_lacking"] += 1
            self._events.warning("descriptors_lacking", instead_of=event, **facts)
