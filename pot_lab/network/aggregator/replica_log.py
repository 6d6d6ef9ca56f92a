"""A replica's records in its durable log, where each decided batch stands in it, and the snapshot that it goes on from.

Turns `Persist` effects into log records, reads them back for recovery, and joins accepted proposals with the votes
that decided them when another replica asks. Holds two integers in memory for each batch, never the batches.

A snapshot is a file of its own beside the log. It counts once the log begins with its checkpoint: the file is synced
first, then the log is replaced all or nothing, then older snapshots go. Whenever the power fails, the log that is there
names a snapshot that is there.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from pot_lab.consensus.messages import CheckpointProof, DecidedBatch
from pot_lab.consensus.records import (
    Accepted,
    Decided,
    Fetched,
    LogRecord,
    Stabilised,
    compacted,
    decided_batch,
    decode_record,
    encode_record,
)
from pot_lab.consensus.replica_state import BadLog
from pot_lab.files import sync_directory
from pot_lab.network.aggregator.durable_log import DurableLog, full_or
from pot_lab.network.errors import LogCorrupt

_CHUNK_RECORDS = 64
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class ReplicaLog:
    """The log of one replica.

    Args:
        path: the log file.
        owner: 32 bytes that name network and replica.
        durability: see `DurableLog`.
    """

    def __init__(self, path: str | os.PathLike[str], owner: bytes, durability: str) -> None:
        self.file = DurableLog(path, owner, durability)
        self._directory = Path(path).parent
        self._floor = 0
        self._accepted: dict[int, int] = {}
        self._proposals = array("q")
        self._decisions = array("q")

    def append(self, record: LogRecord) -> None:
        """Queue a record."""
        self._index(record, self.file.append(encode_record(record)))

    def write(self) -> None:
        """Hand what is queued to the operating system; raises DiskFull."""
        self.file.write()

    def sync(self) -> None:
        """Write what is queued, and wait until the disk has it; raises DiskFull."""
        self.file.sync()

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        """All records in order, a few at a time; raises LogCorrupt or Malformed."""
        chunk: list[LogRecord] = []
        for number, (offset, data) in enumerate(self.file.records()):
            record = decode_record(data)
            if number == 0 and isinstance(record, Stabilised):
                self._floor = record.proof.sequence
            self._index(record, offset)
            chunk.append(record)
            if len(chunk) == _CHUNK_RECORDS:
                yield tuple(chunk)
                chunk.clear()
        yield tuple(chunk)

    def beginning(self) -> tuple[CheckpointProof, bytes] | None:
        """The checkpoint that the log begins with, and its snapshot; other snapshots' files are removed.

        Raises:
            LogCorrupt: the snapshot's file is not there.
        """
        data = next((data for _, data in self.file.records()), None)
        first = None if data is None else decode_record(data)
        proof = first.proof if isinstance(first, Stabilised) else None
        self._remove_snapshots(except_for=None if proof is None else proof.sequence)
        if proof is None:
            return None
        path = self._snapshot_path(proof.sequence)
        try:
            return proof, path.read_bytes()
        except OSError as error:
            raise LogCorrupt(f"cannot read the snapshot {path} that the log goes on from: {error.strerror}") from error

    def keep_snapshot(self, sequence: int, snapshot: bytes) -> bool:
        """Write a snapshot to its file; False when strangers' connections hold every descriptor. Raises DiskFull."""
        path = self._snapshot_path(sequence)
        try:
            path.write_bytes(snapshot)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno in _NO_DESCRIPTORS:
                return False
            raise full_or(error, path) from error
        return True

    def read_snapshot(self, sequence: int, start: int, size_bytes: int) -> bytes | None:
        """Up to `size_bytes` bytes from byte `start` of a snapshot; None when it is not here any more."""
        try:
            with open(self._snapshot_path(sequence), "rb") as file:
                return os.pread(file.fileno(), size_bytes, start)
        except OSError:
            return None

    def compact(self, proof: CheckpointProof) -> bool:
        """Begin the log with this checkpoint, whose snapshot was kept, and drop what it covers.

        Returns: False when descriptors are lacking, or were when the snapshot was to be kept; then the log stays as it
            is, only longer.
        Raises:
            DiskFull: no room.
            OSError: descriptors are lacking and the log cannot stay, since this snapshot stepped over batches.
        """
        path = self._snapshot_path(proof.sequence)
        try:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            sync_directory(self._directory)
            kept = [
                (record, encode_record(record))
                for record in compacted(proof, (decode_record(data) for _, data in self.file.records()))
            ]
            places = self.file.replace(data for _, data in kept)
        except OSError as error:
            reaches = self._floor + len(self._decisions)
            if error.errno in (*_NO_DESCRIPTORS, errno.ENOENT) and proof.sequence <= reaches:
                return False
            raise
        self._floor = proof.sequence
        self._accepted.clear()
        self._proposals, self._decisions = array("q"), array("q")
        for (record, _), place in zip(kept, places, strict=True):
            self._index(record, place)
        self._remove_snapshots(except_for=proof.sequence)
        return True

    def _snapshot_path(self, sequence: int) -> Path:
        return self._directory / f"snapshot-{sequence}"

    def _remove_snapshots(self, *, except_for: int | None) -> None:
        """Remove other snapshots, but those that may still become stable."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return  # descriptors are lacking; the next time will do
        for name in names:
            sequence = name.removeprefix("snapshot-")
            if sequence != name and sequence.isdecimal() and (except_for is None or int(sequence) < except_for):
                (self._directory / name).unlink(missing_ok=True)

    def decisions(self, first: int, last: int, limit_bytes: int) -> list[DecidedBatch]:
        """Decided batches from `first` to `last`, as many as fit into `limit_bytes` but at least one."""
        found: list[DecidedBatch] = []
        room_bytes = limit_bytes
        for sequence in range(max(first, self._floor + 1), min(last, self._floor + len(self._decisions)) + 1):
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
        decision = decode_record(self.file.read(self._decisions[sequence - self._floor - 1]))
        if isinstance(decision, Fetched):
            return decision.batch
        proposal = decode_record(self.file.read(self._proposals[sequence - self._floor - 1]))
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
        wanted = self._floor + len(self._decisions) + 1
        if sequence != wanted:
            raise BadLog("a log has a decision out of order", seen=sequence, wanted=wanted)
        self._decisions.append(offset)
        self._proposals.append(self._accepted.pop(sequence, -1))
