"""The disk of one host: what was synced stays, what was only written may go, and a power cut tears.

Three places a record can be in: the process's memory, the operating system's, the platter. A killed process loses the
first; a power cut the second too, but for a beginning of it that may end in the middle of a record. Reading back checks
each record's CRC and does as the aggregator's log does (`network/aggregator/durable_log.py`): it cuts a torn tail, and
refuses a log that is damaged before records that are whole. Snapshots are files beside the log; replacing the log is
all or nothing. A full disk takes nothing more and keeps what it has. `SimulatedJournal` is the log's index: which
record decided which batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

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
from pot_lab.consensus.steps import Executed
from pot_lab.errors import InvariantBroken, PotLabError

_CHUNK_RECORDS = 64
_BITS = 8


class Full(PotLabError):
    """A disk has no room for what is written; it keeps what it had.

    What to do: nothing: the simulated replica stops, as a real one would.
    """


class Damaged(PotLabError):
    """A log has a broken record before whole ones: votes that were sent are gone from it.

    What to do: nothing: the simulated replica stops, as a real one would.
    """


class Disk:
    """One append-only file, and snapshots beside it.

    Attributes:
        snapshots: by sequence.
        sync_us: how long it takes to be sure that what was written is on the platter.
        torn: how many records power cuts have torn.
        is_full: whether it has no room left.
    """

    def __init__(self, sync_us: int = 100) -> None:
        self.sync_us = sync_us
        self.torn = 0
        self.is_full = False
        self.snapshots: dict[int, bytes] = {}
        self._synced_snapshots: set[int] = set()
        self._records: list[tuple[int, bytes]] = []
        self._synced = 0
        self._written = 0

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: bytes) -> int:
        """Queue a record in the process's memory; returns its place."""
        self._records.append((zlib.crc32(record), record))
        return len(self._records) - 1

    def write(self) -> None:
        """Hand what is queued to the operating system; raises Full, with none of it written."""
        if self.is_full and self._written < len(self._records):
            raise Full("no room for the log", seen=f"{len(self._records) - self._written} records")
        self._written = len(self._records)

    def keep(self, sequence: int, snapshot: bytes) -> None:
        """Write a snapshot to a file of its own; raises Full."""
        if self.is_full:
            raise Full("no room for a snapshot", seen=f"{len(snapshot)} bytes")
        self.snapshots[sequence] = snapshot

    def sync(self) -> None:
        """What was written before is on the platter now."""
        self._synced = self._written

    def lose_memory(self) -> None:
        """The process was killed."""
        del self._records[self._written :]

    def lose_power(self, random: Random) -> None:
        """The host went dark: of what was not synced, a beginning may be there, and its last record may be torn."""
        kept = random.randint(self._synced, self._written)
        lost = self._records[kept : self._written]
        del self._records[kept:]
        if lost and random.random() < 0.5:
            checksum, record = lost[0]
            self._records.append((checksum, record[: random.randrange(len(record))]))
            self.torn += 1
        self._written = self._synced = len(self._records)
        self.snapshots = {at: data for at, data in self.snapshots.items() if at in self._synced_snapshots}

    def wipe(self) -> None:
        """The disk was lost; an empty one takes its place."""
        self._records.clear()
        self.snapshots.clear()
        self._written = self._synced = 0

    def flip(self, random: Random) -> None:
        """One bit of a record or of a snapshot is not what was written."""
        if self.snapshots and random.random() < 0.3:
            sequence = random.choice(sorted(self.snapshots))
            self.snapshots[sequence] = _flipped(self.snapshots[sequence], random)
        elif self._records:
            place = random.randrange(len(self._records))
            checksum, record = self._records[place]
            self._records[place] = checksum, _flipped(record, random)

    def read(self, place: int) -> bytes:
        """The record at a place."""
        return self._records[place][1]

    def open(self) -> None:
        """Cut the torn tail of an earlier life; raises Damaged where whole records stand behind a broken one."""
        whole = [zlib.crc32(record) == checksum for checksum, record in self._records]
        if not all(whole):
            place = whole.index(False)
            if any(whole[place:]):
                raise Damaged("a log is damaged before whole records", seen=place, wanted=len(whole))
            del self._records[place:]
        self._written = self._synced = len(self._records)

    def replace(self, records: list[bytes], sequence: int) -> None:
        """Sync a snapshot, let the log be these records from now on, and remove older snapshots; raises Full."""
        if self.is_full:
            raise Full("no room for another log", seen=f"{len(records)} records")
        self._records = [(zlib.crc32(record), record) for record in records]
        self._written = self._synced = len(self._records)
        self.snapshots = {at: data for at, data in self.snapshots.items() if at >= sequence}
        self._synced_snapshots = {sequence}

    def records(self) -> Iterator[tuple[int, bytes]]:
        """All records with their places."""
        return ((place, record) for place, (_, record) in enumerate(self._records))


def _flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(_BITS)
    return bytes(changed)


class SimulatedJournal:
    """A replica's records on its disk, and where each decided batch stands among them (`driver.Journal`).

    A compaction is carried out at its place among the effects (`replace_log`): what is served before it is still there.

    Attributes:
        stabilised: the sequences of the stable checkpoints that `recover` has read.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.stabilised: list[int] = []
        self._accepted: dict[int, int] = {}
        self._decided: dict[int, tuple[int, int]] = {}

    def beginning(self) -> tuple[CheckpointProof, bytes] | None:
        """Open the disk of an earlier life; the checkpoint that its log begins with, and the snapshot.

        Raises:
            Damaged: whole records stand behind a broken one.
        """
        self.disk.open()
        first = next((decode_record(data) for _, data in self.disk.records()), None)
        return (first.proof, self.disk.snapshots[first.proof.sequence]) if isinstance(first, Stabilised) else None

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        """All whole records in order, a few at a time."""
        chunk: list[LogRecord] = []
        for place, data in self.disk.records():
            record = decode_record(data)
            self._index(record, place)
            if isinstance(record, Stabilised):
                self.stabilised.append(record.proof.sequence)
            chunk.append(record)
            if len(chunk) == _CHUNK_RECORDS:
                yield tuple(chunk)
                chunk.clear()
        yield tuple(chunk)

    def append(self, record: LogRecord, *, urgent: bool) -> None:
        """Queue a record."""
        self._index(record, self.disk.append(encode_record(record)))

    def executed(self, batch: Executed) -> None:
        """A simulated host keeps no history."""

    def keep_snapshot(self, sequence: int, snapshot: bytes) -> None:
        """Write a snapshot to a file of its own; raises Full."""
        self.disk.keep(sequence, snapshot)

    def compact(self, proof: CheckpointProof) -> None:
        """Nothing yet: see `replace_log`."""

    def write(self) -> None:
        """Hand what is queued to the operating system; raises Full."""
        self.disk.write()

    def commit(self, *, urgent: bool) -> None:
        """The disk is done, if it was waited for."""
        if urgent:
            self.disk.sync()

    def replace_log(self, proof: CheckpointProof) -> None:
        """Carry a compaction out: begin the log with this checkpoint; raises Full."""
        left = list(compacted(proof, [decode_record(data) for _, data in self.disk.records()]))
        self.disk.replace([encode_record(record) for record in left], proof.sequence)
        self._accepted.clear()
        self._decided.clear()
        for place, record in enumerate(left):
            self._index(record, place)

    def read_snapshot(self, sequence: int, start: int, size_bytes: int) -> bytes | None:
        """Bytes of a snapshot from `start` on; None when it is not here any more."""
        data = self.disk.snapshots.get(sequence)
        return None if data is None else data[start : start + size_bytes]

    def decisions(self, first: int, last: int, limit_bytes: int) -> list[DecidedBatch]:
        """Decided batches from `first` to `last`, as many as fit into `limit_bytes` but at least one."""
        found: list[DecidedBatch] = []
        room_bytes = limit_bytes
        for sequence in range(first, last + 1):
            places = self._decided.get(sequence)
            if places is None:
                break
            batch = self._batch(*places)
            room_bytes -= sum(map(len, batch.requests)) + 256 * len(batch.commits)
            if found and room_bytes < 0:
                break
            found.append(batch)
        return found

    def _batch(self, decision_place: int, proposal_place: int) -> DecidedBatch:
        decision = decode_record(self.disk.read(decision_place))
        if isinstance(decision, Fetched):
            return decision.batch
        proposal = decode_record(self.disk.read(proposal_place))
        if not isinstance(decision, Decided) or not isinstance(proposal, Accepted):
            raise InvariantBroken("a simulated log's decision stands beside no proposal", seen=decision_place)
        return decided_batch(proposal, decision)

    def _index(self, record: LogRecord, place: int) -> None:
        if isinstance(record, Accepted):
            self._accepted[record.proposal.sequence] = place
        elif isinstance(record, Decided):
            self._decided[record.sequence] = place, self._accepted.pop(record.sequence, -1)
        elif isinstance(record, Fetched):
            self._decided[record.batch.sequence] = place, -1
