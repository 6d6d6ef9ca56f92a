"""Putting a blob to an HTTP store: whole, or the rest of what the store has of it already.

A store that keeps the beginning of an upload that broke off says so in `Upload-Offset`, and takes the rest by
`Content-Range`. Others get the whole once more.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from pot_lab.store.errors import LinkDead, StoreFull, TooBig, WrongHash
from pot_lab.store.http_transport import HttpExchange, size_in
from pot_lab.store.transport import Interrupted

REASON_LIMIT_BYTES = 4096
PUT_ATTEMPTS = 3
"""So often an upload that brings nothing further is tried."""
PUT_PAUSE_S = 0.2
_TRY_AGAIN = (409, 422, 503)
_REFUSALS = {413: TooBig, 422: WrongHash, 507: StoreFull}


class _Refused(NamedTuple):
    status: int
    reason: str


def http_put(uri: str, data: bytes | Path, timeout_s: float, credentials: str | None = None) -> None:
    """Put a blob to an HTTP store, following redirects, and go on where an attempt broke off if the store can.

    Args:
        uri: the blob's address.
        data: the blob, or the file that holds it, which is sent a part at a time.
        timeout_s: for each wait, and for sending a whole blob, or each part of a file.
        credentials: `user:password`, sent as basic authentication to the address's own origin.

    Raises:
        LinkDead: nothing answers there, it does not store blobs, or it answers 200 and does not have the blob.
        TooBig, StoreFull, WrongHash: the server's refusals.
        UnusableAddress: not an HTTP address, or an impossible host.
    """
    size_bytes = data.stat().st_size if isinstance(data, Path) else len(data)
    deadline = time.monotonic() + timeout_s
    failures, furthest, whole = 0, 0, False
    refused = _Refused(0, "")
    while True:
        exchange = HttpExchange(timeout_s, credentials)
        try:
            first = _look(exchange, uri, size_bytes)
            if first is None:
                return  # content-addressed: the same bytes are there already
            if first > furthest:  # it gets on, however often it breaks off
                furthest, failures = first, 0
                deadline = time.monotonic() + timeout_s
            first = 0 if whole else first
            response = exchange.request("PUT", uri, _headers(first, size_bytes), data, first=first)
            refused = _Refused(response.status, _reason(response))
            # A login page or a catch-all server answers 200 to everything.
            if refused.status in (201, 204) or (refused.status == 200 and _look(exchange, uri, size_bytes) is None):
                return
            whole = whole or bool(first and refused.status in (409, 422))  # what was kept there is of no use
            if refused.status not in _TRY_AGAIN or (refused.status == 422 and not first):
                break
        except (Interrupted, HTTPError, OSError) as error:
            if failures + 1 >= PUT_ATTEMPTS or time.monotonic() >= deadline:
                raise LinkDead("the store does not answer", seen=f"{error} at {uri}") from error
        finally:
            exchange.cut()
        failures += 1
        if failures >= PUT_ATTEMPTS:
            break
        time.sleep(min(PUT_PAUSE_S * (1 << failures - 1), max(0.0, deadline - time.monotonic())))
    if refused.status == 200:
        raise LinkDead("the store answers, but it does not have the blob", seen=f"HTTP 200 at {uri}")
    kind = _REFUSALS.get(refused.status, LinkDead)
    raise kind(
        "the store refused the blob", seen=f"{size_bytes} bytes", wanted=f"HTTP {refused.status}: {refused.reason}"
    )


def _headers(first: int, size_bytes: int) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream"}
    return headers | {"Content-Range": f"bytes {first}-{size_bytes - 1}/{size_bytes}"} if first else headers


def _reason(response: BaseHTTPResponse) -> str:
    return response.read1(REASON_LIMIT_BYTES, decode_content=False).decode("utf-8", "replace").strip()


def _look(exchange: HttpExchange, uri: str, size_bytes: int) -> int | None:
    """How many bytes of the blob the server keeps from an upload that broke off; None if it has the whole blob."""
    head = exchange.request("HEAD", uri, {})
    head.close()
    if head.status == 200 and size_in(head.headers.get("Content-Length", "")) == size_bytes:
        return None
    begun_bytes = size_in(head.headers.get("Upload-Offset", "")) or 0
    return begun_bytes if head.status == 404 and begun_bytes < size_bytes else 0
