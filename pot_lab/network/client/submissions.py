"""Submissions: requests on their way to being ordered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pot_lab.network.client.calls import _Pending
from pot_lab.network.wire import (
    MAX_BUNDLE,
    MAX_CLIENT_FRAME_BYTES,
    Submit,
    SubmitAll,
    encode_frame,
)

_FRAME_ROOM_BYTES, _EACH_ROOM_BYTES = 64, 8


def _unanswered(pendings: list[_Pending], index: int) -> bool:
    return any(index not in pending.said for pending in pendings)


def _bundled(requests: Iterable[bytes]) -> Iterator[bytes]:
    """Frames that say these requests in their order, as few as the limits allow."""
    bundle: list[bytes] = []
    room = MAX_CLIENT_FRAME_BYTES - _FRAME_ROOM_BYTES
    for request in requests:
        size_bytes = len(request) + _EACH_ROOM_BYTES
        if bundle and (size_bytes > room or len(bundle) == MAX_BUNDLE):
            yield _submit_frame(bundle)
            bundle, room = [], MAX_CLIENT_FRAME_BYTES - _FRAME_ROOM_BYTES
        bundle.append(request)
        room -= size_bytes
    if bundle:
        yield _submit_frame(bundle)


def _submit_frame(requests: list[bytes]) -> bytes:
    return encode_frame(Submit(requests[0], True) if len(requests) == 1 else SubmitAll(tuple(requests), True))
