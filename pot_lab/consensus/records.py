"""What a replica writes down so that it never contradicts itself, whenever its process ends.

`Accepted` and `Prepared` are on disk before the votes in them are sent. `Decided` and `Fetched` may follow later:
whatever of them is lost is learned again from the others, whose logs hold the votes. Records are read back in the order
they were written.
"""

from __future__ import annotations

import msgspec

from pot_lab.consensus.evidence import Equivocation
from pot_lab.consensus.messages import Commit, DecidedBatch, Number, Prepare, PrePrepare
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


LogRecord = Accepted | Prepared | Decided | Fetched | Found

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
        raise Malformed(f"bytes are no log record: {error}", seen=data) from error


def decided_batch(accepted: Accepted, decided: Decided) -> DecidedBatch:
    """Join what a replica accepted with the votes that decided it, to show both to another."""
    proposal = accepted.proposal
    return DecidedBatch(decided.view, proposal.sequence, proposal.time_ms, proposal.bodies, decided.commits)
