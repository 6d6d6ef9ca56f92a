"""Frames between clients and aggregators: one tagged union each way, sizes checked before anything is parsed.

An aggregator trusts nothing in a client's frame but signatures: a request carries its account's, and answers go back on
the connection that asked. A client accepts nothing that fewer than f+1 aggregators answer in equal bytes.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from pot_lab.agreement.votes import Hash, Number
from pot_lab.crypto.canonical import Record
from pot_lab.errors import Malformed, Oversize

MAX_PEER_FRAME_BYTES = 8 * 1024 * 1024
MAX_CLIENT_FRAME_BYTES = 512 * 1024
MAX_ANSWER_FRAME_BYTES = 32 * 1024 * 1024
MAX_CREDIT = 256
MAX_BUNDLE = 128

Name = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]


class Submit(Record, frozen=True, tag=1):
    """Order this request; with `spread` the client sends it to every aggregator itself."""

    request: bytes
    spread: bool


class Query(Record, frozen=True, tag=2):
    """Read the state. `call` comes back with the answer."""

    call: Number
    name: Name
    arguments: bytes


class Follow(Record, frozen=True, tag=3):
    """Push executed batches from `next_sequence` on, `credit` of them; a new `Follow` replaces the stream's
    last.

    Sent again from time to time: a stream whose client went silent ends.
    """

    stream: Number
    next_sequence: Number
    credit: Annotated[int, msgspec.Meta(ge=1, le=MAX_CREDIT)]


class Unfollow(Record, frozen=True, tag=4):
    """End a stream."""

    stream: Number


class AskStatus(Record, frozen=True, tag=5):
    """Report the aggregator's status."""

    call: Number


class SubmitAll(Record, frozen=True, tag=6):
    """Several requests in one frame, in order; each counts as a `Submit` of its own."""

    requests: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_BUNDLE)]
    spread: bool


Question = Submit | SubmitAll | Query | Follow | Unfollow | AskStatus


class Answered(Record, frozen=True, kw_only=True, tag=1):
    """A request was executed; `digest` is its digest (`consensus.messages.request_digest`)."""

    digest: Hash
    sequence: Number
    time_ms: Number
    reply: bytes


class RequestRefused(Record, frozen=True, kw_only=True, tag=2):
    """A request was not queued; `code` is the error's class name."""

    digest: Hash
    code: Name
    message: Text
    seen: Text
    wanted: Text


class QueryAnswered(Record, frozen=True, tag=3):
    """The answer of the state after batch `executed`."""

    call: Number
    executed: Number
    answer: bytes


class QueryRefused(Record, frozen=True, kw_only=True, tag=4):
    """The state after batch `executed` gives no such answer."""

    call: Number
    executed: Number
    code: Name
    message: Text
    seen: Text
    wanted: Text


class Pushed(Record, frozen=True, kw_only=True, tag=5):
    """An executed batch's events."""

    stream: Number
    sequence: Number
    time_ms: Number
    events: tuple[bytes, ...]


class StatusAnswered(Record, frozen=True, kw_only=True, tag=6):
    """An aggregator's status: where its replica stands, and what it counted."""

    call: Number
    view: Number
    primary: Number
    executed: Number
    time_ms: Number
    state: Hash
    counters: dict[str, int]


class AnsweredAll(Record, frozen=True, tag=7):
    """Several requests of this connection were executed."""

    answers: tuple[Answered, ...]


Answer = Answered | AnsweredAll | RequestRefused | QueryAnswered | QueryRefused | Pushed | StatusAnswered

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode_frame(message: Question | Answer) -> bytes:
    """A message's frame."""
    return _encoder.encode(message)


def decode_question(frame: bytes | memoryview) -> Question:
    """Read a client's frame; raises Oversize (unparsed) or Malformed."""
    return _decode(frame, _questions, MAX_CLIENT_FRAME_BYTES)


def decode_answer(frame: bytes | memoryview) -> Answer:
    """Read an aggregator's frame; raises Oversize (unparsed) or Malformed."""
    return _decode(frame, _answers, MAX_ANSWER_FRAME_BYTES)


def _decode(frame: bytes | memoryview, decoder: msgspec.msgpack.Decoder[T], limit_bytes: int) -> T:
    if len(frame) > limit_bytes:
        raise Oversize("a frame is too large", seen=f"{len(frame)} bytes", wanted=f"at most {limit_bytes} bytes")
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Malformed(f"a frame holds no message: {error}") from error
