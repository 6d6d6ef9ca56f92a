"""Streams of executed batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pot_lab.network.client.calls import EventCallback

if TYPE_CHECKING:
    from pot_lab.network.client.client import NetworkClient


class Subscription:
    """A stream of executed batches; `close` ends it."""

    def __init__(self, client: NetworkClient, stream: int, callback: EventCallback, next_sequence: int) -> None:
        self._client = client
        self.stream = stream
        self.callback = callback
        self.next_sequence = next_sequence
        self.closed = False
        self.expected: dict[int, int] = {}
        self.credit: dict[int, int] = {}
        self.pushed: dict[int, dict[tuple[int, tuple[bytes, ...]], set[int]]] = {}

    def close(self) -> None:
        """No callback starts after the one that may be running."""
        self.closed = True
        self._client._unsubscribe(self)
