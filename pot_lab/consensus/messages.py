"""The messages between replicas, and the bytes that they sign.

One tagged union of array-like structs, so a message costs about a microsecond to encode or decode. Every signed byte
string names network, phase, view, sequence and digest: a vote cannot be replayed in another network, phase or view. A
vote also names the last batch its sender executed and the state after it, so replicas whose states differ see it before
they commit more.

A message holds only claims of its sender. Who the sender is comes from the channel, never from the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from pot_lab.agreement.application import Seat
from pot_lab.agreement.votes import (
    CHECKPOINT,
    COMMIT,
    NEW_VIEW,
    PRE_PREPARE,
    PREPARE,
    VIEW_CHANGE,
    Hash,
    Number,
    Signature,
    SignedVote,
)
from pot_lab.crypto.canonical import Record, tagged_hash
from pot_lab.errors import Malformed, Oversize

MAX_BATCH_REQUESTS = 4_096
MAX_REPLICAS = 100
MAX_DECISIONS = 256
MAX_OPEN = 1_024
MAX_CHUNKS = 65_536
MAX_HANDOVERS = 64

_BATCH_TAG = "pot-lab/consensus/batch/1"
_REQUEST_TAG = "pot-lab/consensus/request/1"
_CONTENT_TAG = "pot-lab/consensus/content/1"
NO_SIGNATURE, NO_HASH = bytes(65), bytes(32)

Hashes = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_BATCH_REQUESTS)]
Bodies = Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_BATCH_REQUESTS)]


class PrePrepare(Record, frozen=True, tag=1):
    """The primary's proposal: these requests, at this sequence and time.

    `digests` name the requests; `bodies` stands beside it, empty where the body was already sent to everyone.
    The signature covers `batch_digest(...)`, not the bodies, and counts as the primary's prepare.
    """

    view: Number
    sequence: Number
    time_ms: Number
    digests: Hashes
    bodies: Bodies
    executed: Number
    state: Hash
    signature: Signature


class Prepare(Record, frozen=True, tag=2):
    """A backup took the proposal with this batch digest."""

    view: Number
    sequence: Number
    digest: Hash
    executed: Number
    state: Hash
    replica: Number
    signature: Signature


class Commit(Record, frozen=True, tag=3):
    """A quorum prepared this batch digest."""

    view: Number
    sequence: Number
    digest: Hash
    executed: Number
    state: Hash
    replica: Number
    signature: Signature


class Forward(Record, frozen=True, tag=4):
    """Requests that reached another replica than the primary."""

    requests: Bodies


class FetchBodies(Record, frozen=True, tag=5):
    """Asks for the bodies of requests that a proposal only names."""

    digests: Hashes


class Requests(Record, frozen=True, tag=6):
    """Bodies asked for by `FetchBodies`."""

    bodies: Bodies


class Status(Record, frozen=True, tag=7):
    """Where the sender is; with `ask` the others answer with theirs.

    `active`: it takes part in `view`, and does not wait for that view to begin; `stable` is its last stable
    checkpoint, `era` the one after which its set of replicas is in force.
    """

    view: Number
    active: bool
    executed: Number
    state: Hash
    stable: Number
    ask: bool
    era: Number = 0


class FetchDecisions(Record, frozen=True, tag=8):
    """A replica that is behind asks for executed batches, `first` to `last`.

    A peer whose log no longer reaches back to `first` answers with an `Offer` of its snapshot instead, and with the
    handovers since `era`, the last that the sender has.
    """

    first: Number
    last: Number
    era: Number = 0


class DecidedBatch(Record, frozen=True):
    """A committed batch with its proof: commits of one view by q replicas over its digest."""

    view: Number
    sequence: Number
    time_ms: Number
    requests: Bodies
    commits: Annotated[tuple[Commit, ...], msgspec.Meta(max_length=MAX_REPLICAS)]


class Decisions(Record, frozen=True, tag=9):
    """Consecutive committed batches, as many as fit; empty when the sender has none from there on."""

    batches: Annotated[tuple[DecidedBatch, ...], msgspec.Meta(max_length=MAX_DECISIONS)]


class Endorsement(Record, frozen=True):
    """A backup's prepare without the fields that the proposal beside it has already."""

    replica: Number
    executed: Number
    state: Hash
    signature: Signature


class PreparedProof(Record, frozen=True):
    """A prepared certificate: the primary's signed proposal, and prepares of q-1 backups for the same batch digest."""

    proposal: SignedVote
    prepares: Annotated[tuple[Endorsement, ...], msgspec.Meta(max_length=MAX_REPLICAS)]


class Attestation(Record, frozen=True):
    """A replica's signature under what stands beside it."""

    replica: Number
    signature: Signature


class CheckpointProof(Record, frozen=True):
    """q replicas executed everything up to `sequence` and ended in `state`.

    `snapshot` is the digest of the whole state's bytes, or 32 zeros where none was taken.
    """

    sequence: Number
    state: Hash
    snapshot: Hash
    attestations: Annotated[tuple[Attestation, ...], msgspec.Meta(max_length=MAX_REPLICAS)]


class Handover(Record, frozen=True):
    """After this checkpoint another set of replicas is in force, as the set before it signed.

    `body` is the digest of the snapshot's bytes without the set's (checkpoint.py), so that the checkpoint's signatures
    can be checked against `seats` without the snapshot.
    """

    proof: CheckpointProof
    body: Hash
    seats: Annotated[tuple[Seat, ...], msgspec.Meta(max_length=MAX_REPLICAS)]


class ViewChange(Record, frozen=True, tag=10):
    """The sender leaves all views before `view`, and shows all that it prepared above its stable checkpoint.

    Views count from 0 in each `era`: the set of replicas in force after the checkpoint of that sequence.
    """

    view: Number
    stable: CheckpointProof | None
    prepared: Annotated[tuple[PreparedProof, ...], msgspec.Meta(max_length=MAX_OPEN)]
    replica: Number
    signature: Signature
    era: Number = 0


class ViewVote(Record, frozen=True):
    """A view change named by its sender and the digest of its content."""

    replica: Number
    digest: Hash


class NewView(Record, frozen=True, tag=11):
    """The primary of `view` begins it: on these q view changes, with these proposals, which follow from them."""

    view: Number
    votes: Annotated[tuple[ViewVote, ...], msgspec.Meta(max_length=MAX_REPLICAS)]
    proposals: Annotated[tuple[SignedVote, ...], msgspec.Meta(max_length=MAX_OPEN)]
    signature: Signature
    era: Number = 0


class FetchViewChanges(Record, frozen=True, tag=12):
    """Asks for the view changes that a new view names."""

    view: Number
    replicas: Annotated[tuple[Number, ...], msgspec.Meta(max_length=MAX_REPLICAS)]


class BatchName(Record, frozen=True):
    """One batch, by place and digest."""

    sequence: Number
    digest: Hash


class FetchBatches(Record, frozen=True, tag=13):
    """Asks for batches that a new view proposes again by digest only."""

    batches: Annotated[tuple[BatchName, ...], msgspec.Meta(max_length=MAX_OPEN)]


class BatchContent(Record, frozen=True, tag=14):
    """A batch that was proposed once, with all bodies; its digest identifies it."""

    sequence: Number
    time_ms: Number
    requests: Bodies


class Checkpoint(Record, frozen=True, tag=15):
    """The sender executed everything up to `sequence`; see `CheckpointProof`."""

    sequence: Number
    state: Hash
    snapshot: Hash
    replica: Number
    signature: Signature


class Stable(Record, frozen=True, tag=16):
    """Shows a stable checkpoint to a replica that does not know it yet."""

    proof: CheckpointProof


class Offer(Record, frozen=True, tag=17):
    """The log that was asked for is gone; here is the snapshot that took its place, and the digests of its chunks.

    `members` is the digest of the set in force after it; `handovers` lead there from the era that the asker named.
    """

    proof: CheckpointProof
    size_bytes: Number
    chunks: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_CHUNKS)]
    members: Hash
    handovers: Annotated[tuple[Handover, ...], msgspec.Meta(max_length=MAX_HANDOVERS)] = ()


class FetchChunk(Record, frozen=True, tag=18):
    """Asks for a part of an offered snapshot."""

    sequence: Number
    index: Number


class Chunk(Record, frozen=True, tag=19):
    """A part of a snapshot."""

    sequence: Number
    index: Number
    data: bytes


Vote = Prepare | Commit
Message = (
    PrePrepare
    | Prepare
    | Commit
    | Forward
    | FetchBodies
    | Requests
    | Status
    | FetchDecisions
    | Decisions
    | ViewChange
    | NewView
    | FetchViewChanges
    | FetchBatches
    | BatchContent
    | Checkpoint
    | Stable
    | Offer
    | FetchChunk
    | Chunk
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """The message's bytes on the wire."""
    return _encoder.encode(message)


def decode_message(data: bytes, *, limit_bytes: int) -> Message:
    """Read a message from outside.

    Raises:
        Oversize: longer than `limit_bytes`; nothing was parsed.
        Malformed: no message, or a field outside its bounds.
    """
    if len(data) > limit_bytes:
        raise Oversize("a message is too large", seen=f"{len(data)} bytes", wanted=f"at most {limit_bytes} bytes")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Malformed(f"bytes are not a message: {error}", seen=data) from error


def request_digest(request: bytes) -> bytes:
    """The 32 bytes that name a request among replicas: a hash over all of it, its signature included."""
    return tagged_hash(_REQUEST_TAG, request)


def batch_digest(sequence: int, time_ms: int, digests: Sequence[bytes]) -> bytes:
    """The 32 bytes that votes name: sequence, time and the requests' digests in order."""
    return tagged_hash(_BATCH_TAG, sequence.to_bytes(8, "big"), time_ms.to_bytes(8, "big"), b"".join(digests))


def content_digest(message: ViewChange | NewView) -> bytes:
    """The 32 bytes that the signature of a view change or new view covers: all of it but the signature."""
    return tagged_hash(_CONTENT_TAG, _encoder.encode(msgspec.structs.replace(message, signature=NO_SIGNATURE)))


def signed_vote(message: PrePrepare | Vote | ViewChange | NewView | Checkpoint) -> SignedVote:
    """Reduce a message to the vote in it."""
    if isinstance(message, PrePrepare):
        digest = batch_digest(message.sequence, message.time_ms, message.digests)
        return SignedVote(
            PRE_PREPARE, message.view, message.sequence, digest, message.executed, message.state, message.signature
        )
    if isinstance(message, ViewChange | NewView):
        phase = VIEW_CHANGE if isinstance(message, ViewChange) else NEW_VIEW
        return SignedVote(phase, message.view, message.era, content_digest(message), 0, NO_HASH, message.signature)
    if isinstance(message, Checkpoint):
        sequence = message.sequence
        return SignedVote(CHECKPOINT, 0, sequence, message.snapshot, sequence, message.state, message.signature)
    phase = PREPARE if isinstance(message, Prepare) else COMMIT
    return SignedVote(
        phase, message.view, message.sequence, message.digest, message.executed, message.state, message.signature
    )


def prepared_proof(proposal: SignedVote, prepares: Sequence[Prepare]) -> PreparedProof:
    """The prepared certificate that a proposal and the prepares of q-1 backups make."""
    return PreparedProof(
        proposal, tuple(Endorsement(vote.replica, vote.executed, vote.state, vote.signature) for vote in prepares)
    )
