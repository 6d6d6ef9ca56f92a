"""Submissions: requests on their way to being ordered, sent to all aggregators and resent until f+1 reply alike."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

from pot_lab.consensus.batching import QueueFull
from pot_lab.consensus.messages import request_digest
from pot_lab.errors import Oversize, PotLabError
from pot_lab.network.client.calls import Call, PendingCall, Targets, TimedLoop, Vouched
from pot_lab.network.client.round_trip import RoundTrip
from pot_lab.network.wire import (
    MAX_BUNDLE,
    MAX_CLIENT_FRAME_BYTES,
    Answered,
    RequestRefused,
    Submit,
    SubmitAll,
    encode_frame,
)
from pot_lab.network.wire_codes import error_from_wire

_FRAME_ROOM_BYTES, _EACH_ROOM_BYTES = 64, 8
MAX_REQUEST_BYTES = MAX_CLIENT_FRAME_BYTES - _FRAME_ROOM_BYTES
"""Largest request that fits a frame."""
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 4.0
_TEMPORARY = frozenset({QueueFull.__name__})
"""Refusals that do not end a submission: it is resent, and taken once there is room."""


class Submissions:
    """All submissions of one client; lives on the client's thread.

    Args:
        in_flight: at most so many requests are unanswered at once; the others wait here for their turn.
    """

    def __init__(self, io: TimedLoop, links: Targets, vouched: Vouched, in_flight: int) -> None:
        self._io, self._links, self._vouched, self._in_flight = io, links, vouched, in_flight
        self._open: dict[bytes, tuple[bytes, list[PendingCall]]] = {}  # request and its calls, by digest
        self._unsent: dict[bytes, None] = {}  # digests of those whose turn has not come, in order
        self._round_trip = RoundTrip(_FIRST_RETRY_S, _LAST_RETRY_S)

    def begin(self, requests: Sequence[bytes], calls: Sequence[Call[bytes]], timeout_s: float) -> None:
        """Submit requests in their order; each call ends within `timeout_s`."""
        deadline_s = self._io.now_s() + timeout_s
        begun: list[tuple[bytes, PendingCall]] = []
        again: list[bytes] = []
        for request, call in zip(requests, calls, strict=True):
            digest, pending = request_digest(request), PendingCall(call, deadline_s)
            if digest not in self._open:
                self._open[digest] = request, []
                self._unsent[digest] = None
            elif digest not in self._unsent:
                again.append(digest)
            self._open[digest][1].append(pending)
            begun.append((digest, pending))
        self._io.after(timeout_s, lambda: self._expire(begun))
        self._send(again)
        self._send_next()

    def frames_for(self, index: int) -> Iterator[bytes]:
        """Frames of all requests that were sent and that this aggregator has not answered, in order."""
        return bundled(
            request
            for digest, (request, pendings) in self._open.items()
            if digest not in self._unsent and _is_unanswered(pendings, index)
        )

    def on_answered(self, index: int, answer: Answered) -> None:
        """Count a reply; the f+1st equal one ends the calls of its request."""
        for pending in list(self._open.get(answer.digest, (b"", []))[1]):
            if pending.count(index, (answer.sequence, answer.time_ms, answer.reply)) >= self._vouched.needed:
                self._vouched.note(answer.sequence)
                if pending.first_sent_s:
                    self._round_trip.took(self._io.now_s() - pending.first_sent_s)
                self._end(answer.digest, pending)
                pending.call.finish(answer.reply)

    def on_refused(self, index: int, answer: RequestRefused) -> None:
        """Count a refusal; the f+1st under one code ends the calls of its request, unless it is temporary."""
        error = error_from_wire(answer.code, answer.message, answer.seen, answer.wanted)
        for pending in list(self._open.get(answer.digest, (b"", []))[1]):
            pending.refusals[index] = error
            if answer.code not in _TEMPORARY and pending.count(index, answer.code) >= self._vouched.needed:
                self._end(answer.digest, pending)
                pending.call.fail(error)

    def forget_answers(self) -> None:
        """Count all answers anew: another set of aggregators is in force."""
        for _, pendings in self._open.values():
            for pending in pendings:
                pending.forget()

    def fail_all(self, error: PotLabError) -> None:
        """End all calls with this error."""
        for _, pendings in self._open.values():
            for pending in pendings:
                pending.call.fail(error)
        self._open.clear()
        self._unsent.clear()

    def _send_next(self) -> None:
        room = self._in_flight - (len(self._open) - len(self._unsent))
        if not self._unsent or room <= 0:
            return
        turn = list(itertools.islice(self._unsent, room))
        for digest in turn:
            del self._unsent[digest]
        self._send(turn)

    def _send(self, digests: Sequence[bytes]) -> None:
        """Send requests to all aggregators, and resend them while answers are missing."""
        if digests:
            now_s, wait_s = self._io.now_s(), self._round_trip.retry_s
            for digest in digests:
                for pending in self._open[digest][1]:
                    pending.first_sent_s = pending.first_sent_s or now_s
            self._send_unanswered(digests)
            self._io.after(wait_s, functools.partial(self._resend, digests, wait_s))

    def _send_unanswered(self, digests: Sequence[bytes]) -> None:
        entries = [self._open[digest] for digest in digests]
        frames: dict[tuple[bytes, ...], list[bytes]] = {}
        for link in self._links:
            unanswered = tuple(request for request, pendings in entries if _is_unanswered(pendings, link.index))
            if unanswered not in frames:
                frames[unanswered] = list(bundled(unanswered))
            for frame in frames[unanswered]:
                if not link.send(frame):
                    break  # nothing later may overtake it; the next retry, or a new connection, sends it again

    def _resend(self, digests: Sequence[bytes], waited_s: float) -> None:
        left = [digest for digest in digests if digest in self._open and digest not in self._unsent]
        if left:
            self._send_unanswered(left)
            wait_s = min(2 * waited_s, _LAST_RETRY_S)
            self._io.after(wait_s, functools.partial(self._resend, left, wait_s))

    def _expire(self, begun: Sequence[tuple[bytes, PendingCall]]) -> None:
        for digest, pending in begun:
            if not pending.call.done():
                self._end(digest, pending)
                error = self._links.unanswered(pending, "the request was not answered", self._vouched.needed)
                pending.call.fail(error)

    def _end(self, digest: bytes, pending: PendingCall) -> None:
        entry = self._open.get(digest)
        if entry is not None and pending in entry[1]:
            entry[1].remove(pending)
            if not entry[1]:
                del self._open[digest]
                self._unsent.pop(digest, None)
                self._send_next()


def check_size(request: bytes) -> None:
    """Raise Oversize unless a request fits a frame (`MAX_REQUEST_BYTES`)."""
    if len(request) > MAX_REQUEST_BYTES:
        seen, wanted = f"{len(request)} bytes", f"at most {MAX_REQUEST_BYTES} bytes"
        raise Oversize("a request is too large", seen=seen, wanted=wanted)


def bundled(requests: Iterable[bytes]) -> Iterator[bytes]:
    """Frames that submit these requests in their order, as few as the limits of size and number allow."""
    bundle: list[bytes] = []
    room = MAX_REQUEST_BYTES
    for request in requests:
        size_bytes = len(request) + _EACH_ROOM_BYTES
        if bundle and (size_bytes > room or len(bundle) == MAX_BUNDLE):
            yield _submit_frame(bundle)
            bundle, room = [], MAX_REQUEST_BYTES
        bundle.append(request)
        room -= size_bytes
    if bundle:
        yield _submit_frame(bundle)


def _submit_frame(requests: list[bytes]) -> bytes:
    return encode_frame(Submit(requests[0], True) if len(requests) == 1 else SubmitAll(tuple(requests), True))


def _is_unanswered(pendings: list[PendingCall], index: int) -> bool:
    return any(index not in pending.answers for pending in pendings)
