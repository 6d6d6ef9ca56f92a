"""A replica's records in its durable log, and where each decided batch stands in it.

Turns `Persist` effects into log records, reads them back for recovery, and joins accepted proposals with the votes
that decided them when another replica asks. Holds two integers in memory for each batch, never the batches.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

from pot_lab.consensus.messages import DecidedBatch
from pot_lab.consensus.records import (
    Accepted,
    Decided,
    Fetched,
    LogRecord,
    decided_batch,
    decode_record,
    encode_record,
)
from pot_lab.consensus.replica import BadLog
from pot_lab.network.durable_log import DurableLog

_CHUNK_RECORDS = 64


class ReplicaLog:
    """The log of one replica.

    Args:
        path: the log file.
        owner: 32 bytes that name network and replica.
        durability: see `DurableLog`.
    """

    def __init__(self, path: str | os.PathLike[str], owner: bytes, durability: str) -> None:
        self.file = DurableLog(path, owner, durability)
        self._accepted: dict[int, int] = {}
        self._proposals = array("q")
        self._decisions = array("q")
        self._urgent = False

    def append(self, record: LogRecord, *, urgent: bool) -> None:
        """Queue a record; an urgent one makes the next `flush` wait for the disk."""
        self._index(record, self.file.append(encode_record(record)))
        self._urgent = self._urgent or urgent

    def flush(self) -> None:
        """Write what is queued, and wait for the disk if any of it is urgent; raises DiskFull."""
        if self._urgent:
            self.file.sync()
            self._urgent = False
        else:
            self.file.write()

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        """All records in order, a few at a time; raises LogCorrupt or Malformed."""
        chunk: list[LogRecord] = []
        for offset, data in self.file.records():
            record = decode_record(data)
            self._index(record, offset)
            chunk.append(record)
            if len(chunk) == _CHUNK_RECORDS:
                yield tuple(chunk)
                chunk.clear()
        yield tuple(chunk)

    def decisions(self, first: int, last: int, limit_bytes: int) -> list[DecidedBatch]:
        """Decided batches from `first` to `last`, as many as fit into `limit_bytes` but at least one."""
        found: list[DecidedBatch] = []
        room_bytes = limit_bytes
        for sequence in range(max(first, 1), min(last, len(self._decisions)) + 1):
            batch = self._decided(sequence)
            room_bytes -= sum(map(len, batch.requests)) + 256 * len(batch.commits)
            if found and room_bytes < 0:
                break
            found.append(batch)
        return found

    def close(self) -> None:
        """Write what is queued and close."""
        self.file.close()

    def _decided(self, sequence: int) -> DecidedBatch:
        decision = decode_record(self.file.read(self._decisions[sequence - 1]))
        if isinstance(decision, Fetched):
            return decision.batch
        proposal = decode_record(self.file.read(self._proposals[sequence - 1]))
        if not isinstance(decision, Decided) or not isinstance(proposal, Accepted):
            raise BadLog("a log's decision stands beside no proposal", seen=sequence)
        return decided_batch(proposal, decision)

    def _index(self, record: LogRecord, offset: int) -> None:
        if isinstance(record, Accepted):
            self._accepted[record.proposal.sequence] = offset
            return
        if isinstance(record, Decided):
            sequence = record.sequence
        elif isinstance(record, Fetched):
            sequence = record.batch.sequence
        else:
            return
        if sequence != len(self._decisions) + 1:
            raise BadLog("a log has a decision out of order", seen=sequence, wanted=len(self._decisions) + 1)
        self._decisions.append(offset)
        self._proposals.append(self._accepted.pop(sequence, -1))
