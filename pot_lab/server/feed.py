"""One background thread that keeps the state of network, orders and jobs, and sends every change to its listeners.

Reading a network may take seconds when aggregators are down, so it never happens on the server's own loop. The thread
starts with the first listener or reader (`_start_jupyter_server_extension` need not run) and pauses while it is not
watched. When the network cannot be read, its last state stays, marked with what went wrong and with when it was read.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pot_lab import home
from pot_lab.errors import PotLabError
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.server.deltas import Listener, now_ms
from pot_lab.server.host import miners_of, testnets_of_host
from pot_lab.server.job_reader import JobReader
from pot_lab.server.source import FeedSource, find_source

INTERVAL_S = 2.0
LEAST_GAP_S = 0.2  # a busy ledger changes with every batch; eyes need fewer
SEARCH_INTERVAL_S = 2.0
READER_COUNTS_FOR_S = 30.0
FRESH_S = 5.0
"""A state that does not change is sent again so often, with when it was read: its readers show how old it is."""
NO_NETWORK = "No network runs on this host. Start one with: pot-lab testnet up"

log = logging.getLogger(__name__)
T = TypeVar("T")


class NetworkFeed:
    """Keeps the snapshot; see the module.

    Args:
        connect: finds the running network and connects, or returns None.
        home_folder: where jobs are looked for, by default `$POT_LAB_HOME`.
        interval_s: the longest time between two reads of a network that reports no change.
    """

    def __init__(
        self,
        connect: Callable[[], FeedSource | None] = find_source,
        *,
        home_folder: Path | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._connect = connect
        self.jobs = JobReader(home_folder or home.home())
        self._source: FeedSource | None = None
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._first = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._listeners: set[Listener] = set()
        self._read_s = float("-inf")
        self._state: dict[str, Any] = {
            "network": None,
            "testnets": [],
            "orders": [],
            "cards": {},
            "jobs": [],
            "miners": [],
            "problem": "",
            "read_ms": 0,
            "orders_ms": 0,
        }

    # ------------------------------------------------------------------------------- for the server's event loop

    async def snapshot(self) -> dict[str, Any]:
        """The newest state; the very first one is waited for."""
        self._read_s = time.monotonic()
        self._ensure_started()
        if not self._first.is_set():
            await asyncio.get_running_loop().run_in_executor(None, self._first.wait, 30.0)
        return {**self._state, "time_ms": now_ms()}

    def listen(self) -> Listener:
        """Follow from now on; the newest state, if there is one, comes first."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners.add(listener)
            if self._first.is_set():
                listener.offer(self._state)
        self._ensure_started()
        return listener

    def follow(self, listener: Listener, order_ids: Iterable[str]) -> None:
        """Send a listener the cards of these orders, and of no others."""
        with self._lock:
            listener.follow(order_ids)
        self._wake.set()

    def leave(self, listener: Listener) -> None:
        """Follow no longer."""
        with self._lock:
            self._listeners.discard(listener)

    def look(self) -> None:
        """Read again at once: something was just done whose result is wanted."""
        self._wake.set()

    async def ask(self, question: Callable[[FeedSource], T]) -> T:
        """Ask the network that is followed something that is not in the state, beside the feed's own reading.

        Raises:
            NoTestnet: no network is connected.
            PotLabError: the network refused, or did not answer.
        """
        from pot_lab.testnet.errors import NoTestnet

        await self.snapshot()
        source = self._source
        if source is None:
            raise NoTestnet(NO_NETWORK)
        return await asyncio.get_running_loop().run_in_executor(None, question, source)

    def stop(self) -> None:
        """End the thread and the listeners' streams; returns at once."""
        self._stopping = True
        self._wake.set()
        with self._lock:
            for listener in self._listeners:
                listener.offer(None)
            self._listeners.clear()

    def _ensure_started(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="pot-lab-feed", daemon=True)
                self._thread.start()
        self._wake.set()

    # ---------------------------------------------------------------------------------------------- on the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                if not self._is_watched():
                    self._wake.wait(READER_COUNTS_FOR_S)
                    continue
                self._source = self._look(self._source)
                time.sleep(LEAST_GAP_S)
                self._wake.wait(self._interval_s if self._source is not None else SEARCH_INTERVAL_S)
        finally:
            if self._source is not None:
                self._source.close()

    def _is_watched(self) -> bool:
        with self._lock:
            return bool(self._listeners) or time.monotonic() - self._read_s < READER_COUNTS_FOR_S

    def _look(self, source: FeedSource | None) -> FeedSource | None:
        """Read everything once; returns the connection for the next time."""
        state = {**self._state, "problem": ""}
        try:
            state["jobs"] = self.jobs.jobs()
            state["miners"] = miners_of(self.jobs.home)
            state["testnets"] = testnets_of_host()
            if source is None:
                source = self._connect()
                if source is not None:
                    source.on_change(self._wake.set)
            if source is None:
                # the last state of a network that is gone stays, marked as such, until there is another
                state["problem"] = NO_NETWORK
            else:
                read_ms = now_ms()
                state["network"] = _since(self._state["network"], source.network(), read_ms)
                state["read_ms"] = read_ms
                state["orders"] = source.orders()
                state["cards"] = self._cards(source)
                state["orders_ms"] = read_ms
        except (PotLabError, OSError, TimeoutError) as error:
            state["problem"] = str(error) or type(error).__name__
            self._drop(source)
            source = None
        except Exception:
            log.exception("reading the network failed")
            state["problem"] = "Reading the network failed; see the server's log."
            self._drop(source)
            source = None
        self._publish(state)
        return source

    def _publish(self, state: dict[str, Any]) -> None:
        """Keep a state, and hand it to the listeners if it says anything new, or enough later."""
        with self._lock:
            before = self._state
            unstamped = {"read_ms": 0, "orders_ms": 0}
            is_same = {**state, **unstamped} == {**before, **unstamped}
            if self._first.is_set() and is_same and state["read_ms"] - before["read_ms"] < FRESH_S * 1_000:
                return
            self._state = state
            self._first.set()
            for listener in self._listeners:
                listener.offer(state)

    def _cards(self, source: FeedSource) -> dict[str, Any]:
        """The cards of all followed orders; one that has ended is read once."""
        with self._lock:
            wanted = sorted(frozenset[str]().union(*(listener.followed for listener in self._listeners)))
        cards: dict[str, Any] = {}
        for order_id in wanted:
            card = self._state["cards"].get(order_id)
            if card is None or card.get("phase") != "ENDED":
                try:
                    new = source.order(order_id)
                except UnknownOrder:
                    continue  # of another network
                # one that only was read later is no news; `orders_ms` tells when that was
                card = new if card is None or {**card, "read_ms": 0} != {**new, "read_ms": 0} else card
            cards[order_id] = card
        return cards

    def _drop(self, source: FeedSource | None) -> None:
        if source is not None:
            try:
                source.close()
            except Exception:
                log.exception("closing the connection failed")


def _since(before: dict[str, Any] | None, network: dict[str, Any], read_ms: int) -> dict[str, Any]:
    """A network's state with when it stopped (`stopped_ms`; 0 while enough aggregators can be reached)."""
    reached = sum(one["reachable"] for one in network["aggregators"])
    if reached >= network["needed"]:
        return {**network, "stopped_ms": 0}
    stopped_ms = before["stopped_ms"] if before and before["name"] == network["name"] else 0
    return {**network, "stopped_ms": stopped_ms or read_ms}
