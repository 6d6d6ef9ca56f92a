"""Transactions a second at saturation, and latency there, at a tenth of it, one by one, and after a pause.

Every record is signed by its account, and every replica checks that. Accounts spread over a few client connections keep
a fixed number of records on the way; what comes back in the measured time, after a warm-up, is the throughput.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from pot_lab.bench.calibration import calibrate
from pot_lab.bench.network import MeasuringNetwork, NetworkFailed, whole_number
from pot_lab.bench.records import VALIDATION_BYTES, signed_record
from pot_lab.crypto.identity import Identity
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.client.io_thread import IoThread

MAX_SECONDS = 3_600
_CLIENTS, _ACCOUNTS_EACH = 8, 8
_SAID_AT_ONCE = 64
_PREPARED_PER_S = 24_000
"""Divided by the number of aggregators, more than this hardware takes a second; what is said beyond is signed then."""
_ALONE, _IDLE_PAUSE_S = 100, 0.05
_WARM_UP_SHARE = 0.25
_TIMEOUT_S = 60.0
Say = Callable[[str], None]


def measure_throughput(
    n: int, seconds: float, *, durability: str = "fsync", say: Say = lambda _: None
) -> dict[str, Any]:
    """Saturate a network, then give it a tenth of what it took, then one transaction at a time: at once after the one
    before, as benchmarks of its peers do, and after a pause in which caches and processor go cold.

    Args:
        n: aggregators.
        seconds: how long each of the first two parts is measured.
        durability: "fsync" or "flush".
        say: gets a line for each step that takes long.
    Returns: what `pot-lab bench throughput --json` prints.
    Raises:
        BadSetting: no such measurement.
        NetworkFailed: an aggregator ended, or answers no more.
    """
    whole_number("seconds", int(seconds), 1, MAX_SECONDS)
    network = MeasuringNetwork(n, durability)
    before = calibrate()
    say(f"starting {n} aggregators")
    with network, _clients(network) as clients:
        say(f"they are together after {network.start_s:.1f} s")
        load = _Load(clients)
        load.prepare(round(_PREPARED_PER_S / n * (1 + _WARM_UP_SHARE) * seconds))
        cpu_s = network.cpu_s()
        full = load.saturate(seconds)
        cpu_s = network.cpu_s() - cpu_s
        say(f"{full.per_s:.0f} transactions a second")
        tenth = load.paced(full.per_s / 10, seconds)
        one_by_one_ms, idle_ms = (_alone(network, _ALONE, pause_s) for pause_s in (0.0, _IDLE_PAUSE_S))
        memory_mb = network.peak_memory_mb()
    return {
        "nodes": n,
        "seconds": seconds,
        "durability": durability,
        "record_bytes": VALIDATION_BYTES,
        "transactions_per_s": round(full.per_s, 1),
        "latency_ms": _spread(full.latencies_ms),
        "tenth_latency_ms": _spread(tenth.latencies_ms),
        "one_by_one_latency_ms": _spread(one_by_one_ms),
        "idle_latency_ms": _spread(idle_ms),
        "cpu_us_per_transaction": round(1e6 * cpu_s / max(1, full.all_answered)),
        "memory_mb": round(memory_mb, 1),
        "calibration": before,
    }


def _in_flight(n: int) -> int:
    """Records of one client on the way: enough for full batches, and no more than a second or two of work."""
    return max(125, 1_000 // n)


def _spread(latencies_ms: list[float]) -> dict[str, float]:
    ordered = sorted(latencies_ms)
    return {name: round(ordered[int(share * (len(ordered) - 1))], 2) for name, share in _SHARES.items()}


_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class _Part:
    """What was answered in one part of the measurement."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.per_s = 0.0
        self.all_answered = 0


@contextmanager
def _clients(network: MeasuringNetwork) -> Iterator[list[NetworkClient]]:
    """Connections that share a thread, all of them usable."""
    thread, in_flight = IoThread(), _in_flight(network.config.n)
    clients = [NetworkClient(network.config, io_thread=thread, in_flight=in_flight) for _ in range(_CLIENTS)]
    try:
        for client in clients:
            network.settle(client, _TIMEOUT_S)
        yield clients
    finally:
        for client in clients:
            client.close()
        thread.close()


def _alone(network: MeasuringNetwork, count: int, pause_s: float) -> list[float]:
    """Latencies in milliseconds of one client's transactions, one by one, so long after the one before is answered.

    On a connection of its own, as a researcher has: the thread that the others share looks at all their sockets.
    """
    account, network_id, times_ms = _Account(), network.config.network_id, []
    with NetworkClient(network.config) as client:
        network.settle(client, _TIMEOUT_S)
        for _ in range(count):
            record = account.next(network_id)
            start_s = time.perf_counter()
            client.submit(record, timeout_s=_TIMEOUT_S).result()
            times_ms.append((time.perf_counter() - start_s) * 1_000)
            time.sleep(pause_s)
    return times_ms


class _Load:
    """Clients in turn, each with accounts in turn, each account with its next nonce."""

    def __init__(self, clients: list[NetworkClient]) -> None:
        self._network_id = clients[0].config.network_id
        self._limit = len(clients) * _in_flight(clients[0].config.n)
        self._clients = deque((client, deque(_Account() for _ in range(_ACCOUNTS_EACH))) for client in clients)
        self._changed = threading.Condition()
        self._on_the_way = 0
        self._error: BaseException | None = None
        self._answered: list[tuple[float, float]] = []

    def saturate(self, seconds: float) -> _Part:
        """As much as the network takes."""
        return self._run(seconds, None)

    def paced(self, per_s: float, seconds: float) -> _Part:
        """So many a second, evenly."""
        return self._run(seconds, per_s)

    def _run(self, seconds: float, per_s: float | None) -> _Part:
        self._answered.clear()
        warm_s = max(1.0, _WARM_UP_SHARE * seconds)
        start_s = time.perf_counter()
        end_s = start_s + warm_s + seconds
        said = 0
        while (now_s := time.perf_counter()) < end_s:
            if per_s is not None and said >= (now_s - start_s) * per_s:
                time.sleep(min(end_s - now_s, (said + 1) / per_s - (now_s - start_s)))
                continue
            with self._changed:
                if not self._changed.wait_for(lambda: self._on_the_way < self._limit or self._error, _TIMEOUT_S):
                    raise NetworkFailed("the network answers no more", wanted=f"within {_TIMEOUT_S:g} s")
                room = self._limit - self._on_the_way
            self._raise_error()
            count = 1 if per_s is not None else min(room, _SAID_AT_ONCE)
            self._say(count)
            said += count
        with self._changed:
            self._changed.wait_for(lambda: not self._on_the_way or self._error, _TIMEOUT_S)
        self._raise_error()
        part = _Part()
        part.all_answered = len(self._answered)
        measured = [(asked_s, at_s) for asked_s, at_s in self._answered if start_s + warm_s <= at_s < end_s]
        part.latencies_ms = [1_000 * (at_s - asked_s) for asked_s, at_s in measured]
        part.per_s = len(measured) / seconds
        if not measured:
            raise NetworkFailed("nothing was answered in the measured time", wanted=f"within {seconds:g} s")
        return part

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _say(self, count: int) -> None:
        client, records = self._records(count)
        with self._changed:
            self._on_the_way += count
        asked_s = time.perf_counter()
        for call in client.submit_all(records, timeout_s=_TIMEOUT_S):
            call.future.add_done_callback(lambda done: self._done(done, asked_s))

    def _done(self, done: Future[bytes], asked_s: float) -> None:
        error = done.exception()
        with self._changed:
            self._on_the_way -= 1
            self._answered.append((asked_s, time.perf_counter()))
            self._error = self._error or error
            self._changed.notify()

    def prepare(self, count: int) -> None:
        """Sign so many records now, not while it is measured: real accounts sign on machines of their own."""
        for _ in range(count // (_CLIENTS * _ACCOUNTS_EACH) + 1):
            for _, accounts in self._clients:
                for account in accounts:
                    account.sign(self._network_id)

    def _records(self, count: int) -> tuple[NetworkClient, list[bytes]]:
        """The next client, and so many records of its accounts."""
        client, accounts = self._clients[0]
        self._clients.rotate(-1)
        records = []
        for _ in range(count):
            records.append(accounts[0].next(self._network_id))
            accounts.rotate(-1)
        return client, records


class _Account:
    """An account and the records that it has signed and not said."""

    def __init__(self) -> None:
        self._identity, self._nonce = Identity.generate(), 0
        self._signed: deque[bytes] = deque()

    def sign(self, network_id: bytes) -> None:
        self._signed.append(signed_record(network_id, self._identity, self._nonce, VALIDATION_BYTES))
        self._nonce += 1

    def next(self, network_id: bytes) -> bytes:
        if not self._signed:
            self.sign(network_id)
        return self._signed.popleft()
