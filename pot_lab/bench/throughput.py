"""Transactions a second at saturation, and latency there, at a tenth of that load, one by one, and after a pause.

Every record is signed by its account, and every replica checks that. Accounts spread over a few client connections keep
a fixed number of records in flight; those answered in the measured time, after a warm-up, are the throughput.
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
_SUBMITTED_AT_ONCE = 64
_PREPARED_PER_S = 24_000
"""Divided by the number of aggregators, more than this hardware takes a second; records beyond them are signed while it
is measured.
"""
_ALONE, _IDLE_PAUSE_S = 100, 0.05
_WARM_UP_SHARE = 0.25
_TIMEOUT_S = 60.0
Report = Callable[[str], None]


def measure_throughput(
    n: int, seconds: float, *, durability: str = "fsync", report: Report = lambda _: None
) -> dict[str, Any]:
    """Saturate a network, then load it with a tenth of that, then with one transaction at a time: immediately after the
    previous reply, as benchmarks of similar systems do, and after a pause in which caches and processor go cold.

    Args:
        n: aggregators.
        seconds: how long each of the first two parts is measured.
        durability: "fsync" or "flush".
        report: gets a line for each step that takes long.
    Returns: what `pot-lab bench throughput --json` prints.
    Raises:
        BadSetting: an argument is out of range.
        NetworkFailed: an aggregator ended, or no longer answers.
    """
    whole_number("seconds", int(seconds), 1, MAX_SECONDS)
    network = MeasuringNetwork(n, durability)
    before = calibrate()
    report(f"starting {n} aggregators")
    with network, _clients(network) as clients:
        report(f"all aggregators are connected after {network.start_s:.1f} s")
        load = _Load(clients)
        load.prepare(round(_PREPARED_PER_S / n * (1 + _WARM_UP_SHARE) * seconds))
        cpu_s = network.cpu_s()
        full = load.saturate(seconds)
        cpu_s = network.cpu_s() - cpu_s
        report(f"{full.per_s:.0f} transactions a second")
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
    """Records of one client in flight: enough for full batches, and at most a second or two of work."""
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
    """Latencies in milliseconds of one client's transactions, each submitted `pause_s` after the previous reply.

    On a connection of its own, as a researcher has: the thread that the other connections share polls all of them.
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
        self._in_flight_now = 0
        self._error: BaseException | None = None
        self._answered: list[tuple[float, float]] = []

    def saturate(self, seconds: float) -> _Part:
        """Submit as much as the network takes, for `seconds`."""
        return self._run(seconds, None)

    def paced(self, per_s: float, seconds: float) -> _Part:
        """Submit `per_s` transactions a second, evenly, for `seconds`."""
        return self._run(seconds, per_s)

    def _run(self, seconds: float, per_s: float | None) -> _Part:
        self._answered.clear()
        warm_s = max(1.0, _WARM_UP_SHARE * seconds)
        start_s = time.perf_counter()
        end_s = start_s + warm_s + seconds
        submitted = 0
        while (now_s := time.perf_counter()) < end_s:
            if per_s is not None and submitted >= (now_s - start_s) * per_s:
                time.sleep(min(end_s - now_s, (submitted + 1) / per_s - (now_s - start_s)))
                continue
            with self._changed:
                if not self._changed.wait_for(lambda: self._in_flight_now < self._limit or self._error, _TIMEOUT_S):
                    raise NetworkFailed("the network no longer answers", wanted=f"within {_TIMEOUT_S:g} s")
                room = self._limit - self._in_flight_now
            self._raise_error()
            count = 1 if per_s is not None else min(room, _SUBMITTED_AT_ONCE)
            self._submit(count)
            submitted += count
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight_now or self._error, _TIMEOUT_S)
        self._raise_error()
        part = _Part()
        part.all_answered = len(self._answered)
        measured = [
            (submitted_at_s, at_s) for submitted_at_s, at_s in self._answered if start_s + warm_s <= at_s < end_s
        ]
        part.latencies_ms = [1_000 * (at_s - submitted_at_s) for submitted_at_s, at_s in measured]
        part.per_s = len(measured) / seconds
        if not measured:
            raise NetworkFailed("no transaction was answered in the measured time", wanted=f"within {seconds:g} s")
        return part

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _submit(self, count: int) -> None:
        client, records = self._records(count)
        with self._changed:
            self._in_flight_now += count
        submitted_at_s = time.perf_counter()
        for call in client.submit_all(records, timeout_s=_TIMEOUT_S):
            call.future.add_done_callback(lambda done: self._done(done, submitted_at_s))

    def _done(self, done: Future[bytes], submitted_at_s: float) -> None:
        error = done.exception()
        with self._changed:
            self._in_flight_now -= 1
            self._answered.append((submitted_at_s, time.perf_counter()))
            self._error = self._error or error
            self._changed.notify()

    def prepare(self, count: int) -> None:
        """Sign `count` records before measuring: real accounts sign on machines of their own."""
        for _ in range(count // (_CLIENTS * _ACCOUNTS_EACH) + 1):
            for _, accounts in self._clients:
                for account in accounts:
                    account.sign(self._network_id)

    def _records(self, count: int) -> tuple[NetworkClient, list[bytes]]:
        """The next client, and `count` records of its accounts."""
        client, accounts = self._clients[0]
        self._clients.rotate(-1)
        records = []
        for _ in range(count):
            records.append(accounts[0].next(self._network_id))
            accounts.rotate(-1)
        return client, records


class _Account:
    """An account and the records that it has signed and not submitted."""

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
