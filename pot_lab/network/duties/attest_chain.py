"""Attest chain events as they are confirmed (chain.md, "Ledger and chain")."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pot_lab.errors import PotLabError
from pot_lab.network.duties.chain_queue import Work, start_thread
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.network.duties.watch_position import PositionKeeper
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import MAX_ITEMS, Attest

if TYPE_CHECKING:
    from pot_lab.chain.watcher import Position

EVENTS_PER_ATTESTATION = min(MAX_ITEMS, 64)
"""How many events one transaction attests at most."""
_STOP_TIMEOUT_S = 5.0
_MAX_WAIT_S = 4.0
"""The longest pause between two polls of a node that refuses or does not answer."""


class Watcher(Protocol):
    """What the attesting duty needs of a chain watcher (`chain.watcher.ChainWatcher`)."""

    @property
    def position(self) -> Position:
        """Where it stands: everything before it has been yielded."""
        ...

    def poll(self) -> list[ChainEvent]:
        """New confirmed events in the chain's order; blocks for as long as the node takes."""
        ...


class ConfirmedEvents:
    """Chain events that the ledger has not applied yet, numbered from the contracts' first; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[ChainEvent] = []
        self._first = 0
        self._applied: int | None = None

    @property
    def first(self) -> int:
        """The number of the first event at hand, or of the one that comes next."""
        return self._first

    @property
    def end(self) -> int:
        """The number of the event that comes next: so many has this aggregator's own chain shown."""
        with self._lock:
            return self._first + len(self._events)

    @property
    def applied(self) -> int | None:
        """How many events the ledger has applied, by the last look at it; None before the first."""
        return self._applied

    def begin_at(self, first: int) -> None:
        """Hold nothing; the next event that is added has this number."""
        with self._lock:
            self._events, self._first = [], first

    def add(self, events: list[ChainEvent]) -> None:
        """Add events that follow those added before."""
        with self._lock:
            self._events += events

    def drop_applied(self, next_event: int) -> int:
        """Drop the events below this number; returns the number of the first that is left, or that comes next."""
        with self._lock:
            self._applied = next_event
            done = min(max(0, next_event - self._first), len(self._events))
            del self._events[:done]
            self._first += done
            return self._first

    def read(self, start: int, count: int) -> tuple[ChainEvent, ...]:
        """Up to `count` events from this number on."""
        with self._lock:
            offset = max(0, start - self._first)
            return tuple(self._events[offset : offset + count])


class AttestChain:
    """Reports confirmed chain events to the ledger, which applies what f+1 aggregators report alike.

    Args:
        ledger: this replica's ledger.
        signer: signs the attestations.
        events: what the chain confirmed, filled by a `ChainWatch`.
    """

    def __init__(self, ledger: Callable[[], Ledger], signer: TransactionSigner, events: ConfirmedEvents) -> None:
        self._ledger, self._signer, self._events = ledger, signer, events
        self._submitted_through = 0
        self._submitted_at_ms = 0

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """An attestation of events that the ledger has not applied yet and that were not submitted lately."""
        first = self._events.drop_applied(self._ledger().state.next_chain_event)
        if now_ms - self._submitted_at_ms >= REPEAT_AFTER_MS:
            self._submitted_through = first
        start = max(self._submitted_through, first)
        fresh = self._events.read(start, EVENTS_PER_ATTESTATION)
        if not fresh:
            return []
        self._submitted_through, self._submitted_at_ms = start + len(fresh), now_ms
        return [self._signer.sign(Attest(start, fresh))]


class ChainWatch:
    """Reads the chain on a thread of its own and adds what it confirmed to the events that are attested.

    A chain that cannot be reached delays settlement and nothing else: it is logged once, and asked again.

    Args:
        make_watcher: opens a watcher, at the position that was saved or at the contracts' first block; called on the
            watch's own thread.
        events: where confirmed events are added.
        wake: makes the aggregator's loop poll its duties soon.
        keeper: saves the watcher's position; None: nothing is saved, and every watcher begins at the first block.
        interval_s: how often the chain is asked, in seconds; less often while it refuses.
        start: starts a function on a thread of its own; what it returns is joined by `stop`.
    """

    def __init__(
        self,
        make_watcher: Callable[[], Watcher],
        events: ConfirmedEvents,
        wake: Callable[[], None],
        *,
        keeper: PositionKeeper | None = None,
        interval_s: float = 0.25,
        start: Callable[[Work], threading.Thread] = lambda work: start_thread(work, "chain-watch"),
    ) -> None:
        self._make_watcher, self._events, self._wake = make_watcher, events, wake
        self._keeper, self._interval_s, self._start = keeper, interval_s, start
        self._watcher: Watcher | None = None
        self._failures = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = self._start(self._run)

    def stop(self) -> None:
        """End the watching thread; waits for it, but not for a node that does not answer."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT_S)

    def poll(self) -> None:
        """Ask the chain once, and add what it confirmed since."""
        try:
            if self._watcher is None:
                self._watcher = self._make_watcher()
                if self._keeper is not None:
                    self._events.begin_at(self._watcher.position.events)
            events = self._watcher.poll()
        except PotLabError as error:
            if not self._failures:
                log.warning("event=chain_unreachable reason=%r", str(error))
            self._failures += 1
            return
        if self._failures:
            log.info("event=chain_back")
            self._failures = 0
        if events:
            self._events.add(events)
            self._wake()
        if self._keeper is not None:
            self._keeper.on_poll(self._watcher.position, self._events.applied)
            if self._keeper.lacks_events(self._events.first, self._events.applied):
                log.warning("event=chain_read_again first=%d applied=%s", self._events.first, self._events.applied)
                self._watcher = None

    def _run(self) -> None:
        while not self._ended.is_set():
            self.poll()
            self._ended.wait(max(self._interval_s, min(_MAX_WAIT_S, self._interval_s * 2 ** min(self._failures, 8))))
