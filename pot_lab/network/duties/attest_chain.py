"""Attest chain events as they are confirmed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from pot_lab.errors import PotLabError
from pot_lab.network.duties.signer import REPEAT_AFTER_MS, TransactionSigner, log
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import MAX_ITEMS, Attest

_EVENTS_PER_ATTESTATION = min(MAX_ITEMS, 64)


class Watcher(Protocol):
    """What the attesting duty needs of a chain watcher."""

    def poll(self) -> list[ChainEvent]:
        """New confirmed events in the chain's order; blocks for as long as the node takes."""
        ...


class AttestChain:
    """Report chain events as they are confirmed, numbered from the contracts' first (chain.md, "Ledger and chain").

    Args:
        make_watcher: opens a watcher at the contracts' first block; called on the duty's own thread.
        wake: makes the aggregator's loop call `poll` soon.
        interval_s: how often the chain is asked.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        make_watcher: Callable[[], Watcher],
        wake: Callable[[], None],
        interval_s: float = 0.25,
    ) -> None:
        self._ledger, self._signer = ledger, signer
        self._make_watcher, self._wake, self._interval_s = make_watcher, wake, interval_s
        self._lock = threading.Lock()
        self._events: list[ChainEvent] = []
        self._first = 0
        self._said_through, self._said_ms = 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="chain-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watching thread."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Attestations of events that the ledger has not applied yet."""
        applied = self._ledger().state.next_chain_event
        with self._lock:
            done = min(max(0, applied - self._first), len(self._events))
            del self._events[:done]
            self._first += done
            if now_ms - self._said_ms >= REPEAT_AFTER_MS:
                self._said_through = self._first
            start = max(self._said_through, self._first)
            fresh = self._events[start - self._first :][:_EVENTS_PER_ATTESTATION]
        if not fresh:
            return []
        self._said_through, self._said_ms = start + len(fresh), now_ms
        return [self._signer.sign(Attest(start, tuple(fresh)))]

    def _watch(self) -> None:
        watcher: Watcher | None = None
        troubled = False
        while not self._ended.is_set():
            try:
                watcher = watcher or self._make_watcher()
                events = watcher.poll()
                if troubled:
                    log.info("event=chain_back")
                troubled = False
            except PotLabError as error:
                if not troubled:  # a chain that is down delays settlement and nothing else
                    log.warning("event=chain_unreachable reason=%r", str(error))
                troubled, events = True, []
            if events:
                with self._lock:
                    self._events += events
                self._wake()
            self._ended.wait(self._interval_s)
