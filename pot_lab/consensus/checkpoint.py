"""Checkpoints: points at which q replicas signed that their states are equal (Castro and Liskov 1999, section 4.3).

Every few batches each replica signs the state that its chain of digests has reached. Once q signatures agree the
checkpoint is stable: nothing below it needs to be voted on, proved or proposed again, and the watermarks move. At some
of them the whole state is taken as a snapshot, whose digest is signed too; once such a checkpoint is stable, the log
below it may go, and a replica that is that far behind fetches the snapshot instead.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from pot_lab.agreement.application import Seat
from pot_lab.agreement.votes import Hash, Number
from pot_lab.consensus.membership import Verifier, members_digest, snapshot_digest
from pot_lab.consensus.messages import MAX_CHUNKS, MAX_REPLICAS, Attestation, Checkpoint, CheckpointProof, signed_vote
from pot_lab.crypto.canonical import Record, decode, encode, sha256, tagged_hash
from pot_lab.errors import Malformed


class Snapshot(Record, frozen=True, kw_only=True):
    """A replica's whole state after a batch.

    `before`, `era` and `seats` are the set's in force after it (`Membership`); `ends` is the checkpoint after which
    another one will be, 0 while none is planned.
    """

    sequence: Number
    time_ms: Number
    state: Hash
    before: Hash
    era: Number
    seats: Annotated[tuple[Seat, ...], msgspec.Meta(max_length=MAX_REPLICAS)]
    ends: Number
    application: bytes
    replies: bytes


def manifest_of(data: bytes, chunk_bytes: int) -> tuple[bytes, ...]:
    """The digest of each chunk of `chunk_bytes` (the last one shorter) of a snapshot's bytes."""
    return tuple(sha256(data[start : start + chunk_bytes]) for start in range(0, len(data), chunk_bytes))


def body_digest(size_bytes: int, manifest: tuple[bytes, ...]) -> bytes:
    """The digest of a snapshot's bytes, from those of its chunks."""
    return tagged_hash("pot-lab/consensus/snapshot-body/1", size_bytes.to_bytes(8, "big"), b"".join(manifest))


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """A snapshot's bytes."""
    return encode(snapshot)


def decode_snapshot(data: bytes, proof: CheckpointProof, chunk_bytes: int) -> Snapshot:
    """Read the snapshot of a checkpoint, signed in chunks of `chunk_bytes`.

    Raises:
        Malformed: the bytes are not those that were signed.
    """
    snapshot = decode(data, Snapshot, limit_bytes=chunk_bytes * MAX_CHUNKS)
    body = body_digest(len(data), manifest_of(data, chunk_bytes))
    members = members_digest(snapshot.before, snapshot.era, snapshot.seats)
    if snapshot_digest(body, members) != proof.snapshot:
        raise Malformed("a snapshot's bytes are not those that its checkpoint signs", wanted=proof.snapshot)
    if (snapshot.sequence, snapshot.state) != (proof.sequence, proof.state):
        raise Malformed("a snapshot is another checkpoint's", seen=snapshot.sequence, wanted=proof.sequence)
    return snapshot


class Checkpoints:
    """Signed checkpoints above the stable one, each replica's for each sequence.

    Args:
        every: the distance between checkpoints.
        window: how far above the stable one they are kept.
    """

    def __init__(self, verifier: Verifier, every: int, window: int) -> None:
        self._verifier = verifier
        self._every, self._window = every, window
        self._kept: dict[int, dict[int, Checkpoint]] = {}
        self.stable: CheckpointProof | None = None

    @property
    def low(self) -> int:
        """The low watermark: the last stable checkpoint's sequence."""
        return 0 if self.stable is None else self.stable.sequence

    def in_window(self, sequence: int) -> bool:
        """Whether a checkpoint at this sequence is one to keep."""
        return sequence % self._every == 0 and self.low < sequence <= self.low + 2 * self._window

    def kept(self, sequence: int, replica: int) -> Checkpoint | None:
        """A replica's checkpoint at a sequence."""
        return self._kept.get(sequence, {}).get(replica)

    def add(self, checkpoint: Checkpoint) -> bool:
        """Keep a checkpoint in the window; False when its signature is bad."""
        if not self._verifier.vote(checkpoint.replica, signed_vote(checkpoint)):
            return False
        self._kept.setdefault(checkpoint.sequence, {})[checkpoint.replica] = checkpoint
        return True

    def agreed(self, sequence: int) -> CheckpointProof | None:
        """The proof for a sequence at which q checkpoints agree."""
        alike: dict[tuple[bytes, bytes], list[Checkpoint]] = {}
        for each in self._kept.get(sequence, {}).values():
            group = alike.setdefault((each.state, each.snapshot), [])
            group.append(each)
            if len(group) == self._verifier.q:
                attestations = tuple(Attestation(each.replica, each.signature) for each in group)
                return CheckpointProof(sequence, each.state, each.snapshot, attestations)
        return None

    def settle(self, proof: CheckpointProof) -> None:
        """Take a checked proof as the stable checkpoint."""
        self.stable = proof
        self._kept = {sequence: kept for sequence, kept in self._kept.items() if sequence > proof.sequence}


def takes_snapshot(sequence: int, last: int, size_bytes: int, every: int, limit_bytes: int) -> bool:
    """Whether the checkpoint at `sequence` comes with a snapshot; follows from the executed batches alone.

    `last` is the sequence of the snapshot before, `size_bytes` what the batches since then hold.
    """
    return sequence - last >= every or size_bytes >= limit_bytes
