"""What a replica writes down so that it never contradicts itself, whenever its process ends.

`Accepted` and `Prepared` are on disk before the votes in them are sent, `Changing` before the view change is, `Entered`
before any vote of the new view. The others may follow later: whatever of them is lost is fetched again from the others,
whose logs hold the votes. Records are read back in the order they were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import Number
from pot_lab.consensus.messages import (
    CheckpointProof,
    Commit,
    DecidedBatch,
    Handover,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)
from pot_lab.crypto.canonical import Record
from pot_lab.errors import Malformed


class Accepted(Record, frozen=True, tag=1):
    """A proposal with all its bodies, and this replica's prepare for it (None where it is the primary's own)."""

    proposal: PrePrepare
    prepare: Prepare | None


class Prepared(Record, frozen=True, tag=2):
    """The prepares of a quorum for an accepted proposal, and this replica's commit."""

    prepares: tuple[Prepare, ...]
    commit: Commit


class Decided(Record, frozen=True, tag=3):
    """The last accepted proposal of this sequence was committed by these votes, and executed."""

    view: Number
    sequence: Number
    commits: tuple[Commit, ...]


class Fetched(Record, frozen=True, tag=4):
    """A batch that was decided without this replica, with its proof, and executed."""

    batch: DecidedBatch


class Found(Record, frozen=True, tag=5):
    """Evidence against another replica."""

    evidence: Equivocation


class Changing(Record, frozen=True, tag=6):
    """This replica left its view."""

    change: ViewChange


class Entered(Record, frozen=True, tag=7):
    """This replica takes part in a view now; the new view names what was proposed again, the changes prove it."""

    new_view: NewView
    changes: tuple[ViewChange, ...]


class Stabilised(Record, frozen=True, tag=8):
    """A checkpoint became stable. As the first record of a log it names the snapshot that the log goes on from."""

    proof: CheckpointProof


class Succeeded(Record, frozen=True, tag=9):
    """Another set of replicas is in force; kept for good, for replicas that join later."""

    handover: Handover


LogRecord = Accepted | Prepared | Decided | Fetched | Found | Changing | Entered | Stabilised | Succeeded

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[LogRecord] = msgspec.msgpack.Decoder(LogRecord)


def encode_record(record: LogRecord) -> bytes:
    """The record's bytes in the log."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> LogRecord:
    """Read a record back; raises Malformed, which means that another program wrote the log."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Malformed(f"bytes are not a log record: {error}", seen=data) from error


def decided_batch(accepted: Accepted, decided: Decided) -> DecidedBatch:
    """Join what a replica accepted with the votes that decided it, to show both to another."""
    proposal = accepted.proposal
    return DecidedBatch(decided.view, proposal.sequence, proposal.time_ms, proposal.bodies, decided.commits)


def compacted(proof: CheckpointProof, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """What of a log must stay once its state up to `proof.sequence` stands in a snapshot.

    Batches and votes above it stay, in order; of the views entered and left between two of them the last ones, of the
    evidence, the handovers and the checkpoints above it everything.
    """
    yield Stabilised(proof)
    entered: Entered | None = None
    changing: Changing | None = None
    for record in records:
        if isinstance(record, Entered):
            entered, changing = record, None
        elif isinstance(record, Changing):
            changing = record
        elif isinstance(record, Found | Succeeded) or sequence_of(record) > proof.sequence:
            yield from (each for each in (entered, changing) if each is not None)
            entered = changing = None
            yield record
    yield from (each for each in (entered, changing) if each is not None)


def sequence_of(record: LogRecord) -> int:
    """The sequence that a record is about; 0 where it is about none."""
    if isinstance(record, Accepted):
        return record.proposal.sequence
    if isinstance(record, Prepared):
        return record.commit.sequence
    if isinstance(record, Decided):
        return record.sequence
    if isinstance(record, Fetched):
        return record.batch.sequence
    if isinstance(record, Stabilised):
        return record.proof.sequence
    return 0
