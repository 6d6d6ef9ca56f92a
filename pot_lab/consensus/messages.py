"""What replicas say to each other, and the bytes that they sign.

One tagged union of array-like structs, so a message costs about a microsecond to encode or decode. Every signed byte
string names network, phase, view, sequence and digest: a vote cannot be replayed in another network, phase or view. A
vote also names the last batch its sender executed and the state after it, so replicas whose states differ see it before
they commit more.

A message says only what its sender claims. Who the sender is comes from the channel, never from the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from pot_lab.crypto.canonical import Record, tagged_hash
from pot_lab.errors import Malformed, Oversize

PRE_PREPARE, PREPARE, COMMIT = 1, 2, 3

MAX_BATCH_REQUESTS = 4_096
MAX_REPLICAS = 100
MAX_DECISIONS = 256

_VOTE_TAG = "pot-lab/consensus/vote/1"
_BATCH_TAG = "pot-lab/consensus/batch/1"
_REQUEST_TAG = "pot-lab/consensus/request/1"

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]
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
    """A replica knows that a quorum prepared this batch digest."""

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
    """Where the sender is; with `ask` the others answer with theirs."""

    view: Number
    executed: Number
    state: Hash
    ask: bool


class FetchDecisions(Record, frozen=True, tag=8):
    """A replica that trails asks for executed batches, `first` to `last`.

    A peer whose log no longer reaches back to `first` answers with a checkpoint instead, another member of `Message`.
    """

    first: Number
    last: Number


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


Vote = Prepare | Commit
Message = PrePrepare | Prepare | Commit | Forward | FetchBodies | Requests | Status | FetchDecisions | Decisions

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
        raise Malformed(f"bytes are no message: {error}", seen=data) from error


def request_digest(request: bytes) -> bytes:
    """The 32 bytes that name a request among replicas: a hash over all of it, its signature included."""
    return tagged_hash(_REQUEST_TAG, request)


def batch_digest(sequence: int, time_ms: int, digests: Sequence[bytes]) -> bytes:
    """The 32 bytes that votes name: sequence, time and the requests' digests in order."""
    return tagged_hash(_BATCH_TAG, sequence.to_bytes(8, "big"), time_ms.to_bytes(8, "big"), b"".join(digests))


def vote_digest(
    network_id: bytes, phase: int, view: int, sequence: int, digest: bytes, executed: int, state: bytes
) -> bytes:
    """The 32 bytes that a vote's signature covers."""
    return tagged_hash(
        _VOTE_TAG,
        network_id,
        phase.to_bytes(1, "big") + view.to_bytes(8, "big") + sequence.to_bytes(8, "big"),
        digest,
        executed.to_bytes(8, "big"),
        state,
    )
