"""A network under load for as long as one likes, with random faults, one after the other and together.

`benchmarks/soak.py` and the suite's short soak run this. At the end all faults heal, everybody catches up, and the
whole run is judged: the history, the ledger's money, and how much memory and disk each aggregator has taken.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from pot_lab.network.client.client import NetworkClient
from tests.chaos.ledger_life import Crowd
from tests.chaos.network import PATIENCE_S, ChaosNetwork, steady_load
from tests.chaos.proxy import Proxies

MIB = 1 << 20
_SETTLE_BEFORE_END_S = 5.0


class Watch:
    """The most that any aggregator took of memory and disk, and what it had at the first and the last quarter."""

    def __init__(self, network: ChaosNetwork) -> None:
        self._network = network
        self.resident_bytes: list[tuple[float, int]] = []
        self.log_bytes: list[tuple[float, int]] = []
        self.peak_resident_bytes = 0

    def look(self) -> None:
        """Take one sample of every aggregator that runs."""
        for index, process in self._network.processes.items():
            memory = memory_of(process.pid)
            if memory is None:
                continue
            now_s = time.monotonic()
            self.resident_bytes.append((now_s, memory[0]))
            self.peak_resident_bytes = max(self.peak_resident_bytes, memory[1])
            self.log_bytes.append((now_s, data_bytes(self._network.data_dir(index))))

    def figures(self) -> dict[str, float]:
        """In MiB; the history file, which grows with the run by design, is not in them."""
        return {
            "peak_resident_mib": round(self.peak_resident_bytes / MIB, 1),
            "resident_first_quarter_mib": _most(self.resident_bytes, first=True),
            "resident_last_quarter_mib": _most(self.resident_bytes, first=False),
            "log_and_snapshots_first_quarter_mib": _most(self.log_bytes, first=True),
            "log_and_snapshots_last_quarter_mib": _most(self.log_bytes, first=False),
        }


def _most(samples: list[tuple[float, int]], *, first: bool) -> float:
    """The highest sample of the first or the last quarter, in MiB."""
    start_s, end_s = samples[0][0], samples[-1][0]
    quarter_s = (end_s - start_s) / 4
    chosen = [value for at_s, value in samples if (at_s <= start_s + quarter_s if first else at_s >= end_s - quarter_s)]
    return round(max(chosen) / MIB, 2)


def memory_of(pid: int) -> tuple[int, int] | None:
    """Resident bytes of a process now, and their peak; None when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = dict(line.split(":", 1) for line in file)
        return tuple(int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
    except (OSError, KeyError):
        return None


def data_bytes(directory: Path) -> int:
    """What the log and the snapshots of an aggregator take."""
    total = 0
    for path in [*directory.glob("replica.log*"), *directory.glob("snapshot-*")]:
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            pass  # replaced at this moment
    return total


class Faults:
    """Random faults on a network whose links go through proxies; at most f aggregators are bad at a time, except in a
    power cut and a partition that leaves nobody a quorum.
    """

    def __init__(self, network: ChaosNetwork, random: Random) -> None:
        self._network, self._random = network, random
        self.counts: Counter[str] = Counter()
        self._kinds: dict[str, tuple[float, Callable[[], None]]] = {
            "kill": (3, self._kill),
            "stop": (2, self._stop),
            "cut_off": (2, self._cut_off),
            "deaf_or_dumb": (2, self._deaf_or_dumb),
            "split": (1, self._split),
            "slow_links": (2, self._slow_links),
            "slow_disk": (2, self._slow_disk),
            "wrong_clock": (1, self._wrong_clock),
            "power_cut": (0.5, self._power_cut),
        }

    def one(self) -> None:
        """One fault from its beginning to its end, some seconds."""
        names = list(self._kinds)
        name = self._random.choices(names, [self._kinds[each][0] for each in names])[0]
        self.counts[name] += 1
        self._kinds[name][1]()

    def _wait(self) -> None:
        time.sleep(self._random.uniform(0.2, 5))

    def _some(self) -> list[int]:
        return self._random.sample(sorted(self._network.all), self._random.randint(1, self._network.config.f))

    def _kill(self) -> None:
        victims = self._some()
        for index in victims:
            self._network.kill(index)
        self._wait()
        for index in victims:
            self._network.start(index)

    def _stop(self) -> None:
        victims = self._some()
        for index in victims:
            self._network.signal(index, signal.SIGSTOP)
        self._wait()
        for index in victims:
            self._network.signal(index, signal.SIGCONT)

    @contextmanager
    def _proxies(self) -> Iterator[Proxies]:
        assert self._network.proxies is not None
        try:
            yield self._network.proxies
            self._wait()
        finally:
            self._network.proxies.heal()

    def _cut_off(self) -> None:
        victims = self._some()
        with self._proxies() as proxies:
            proxies.cut(*(link for ends, link in self._network.peers.items() if set(ends) & set(victims)))

    def _deaf_or_dumb(self) -> None:
        victim, is_deaf = self._some()[0], self._random.random() < 0.5
        with self._proxies():
            for other in self._network.all - {victim}:
                self._network.way(*((other, victim) if is_deaf else (victim, other))).passes = False

    def _split(self) -> None:
        half = set(self._random.sample(sorted(self._network.all), self._network.config.n // 2))
        with self._proxies() as proxies:
            proxies.cut(
                *(link for (one, other), link in self._network.peers.items() if (one in half) != (other in half))
            )

    def _slow_links(self) -> None:
        with self._proxies():
            for link in self._random.sample(list(self._network.peers.values()), self._network.config.n):
                delay_s, bytes_per_s = self._random.uniform(0.02, 0.5), self._random.choice([0, 20_000, 200_000])
                for way in (link.there, link.back):
                    way.delay_s, way.bytes_per_s = delay_s, bytes_per_s

    def _slow_disk(self) -> None:
        victims = self._some()
        for index in victims:
            self._network.weather[index].sync_delay_s = self._random.uniform(0.02, 0.5)
        self._wait()
        for index in victims:
            self._network.weather[index].sync_delay_s = 0

    def _wrong_clock(self) -> None:
        victims = {index: self._random.choice([-1, 1]) * self._random.randint(1_000, 600_000) for index in self._some()}
        for index, offset_ms in victims.items():
            self._network.weather[index].clock_offset_ms = offset_ms
        self._wait()
        for index, offset_ms in victims.items():
            self._network.weather[index].clock_offset_ms = 0
            if offset_ms > 0:  # it would go on only when the hour has caught up: operators restart it
                self._network.kill(index)
                self._network.start(index)

    def _power_cut(self) -> None:
        self._network.power_cut(self._random)
        for index in sorted(self._network.all):
            self._network.start(index)


def soak(
    directory: Path,
    *,
    seconds: float,
    seed: int,
    n: int = 4,
    ledger: bool = True,
    per_s: float = 20.0,
    snapshot_batches: int = 128,
) -> dict[str, Any]:
    """Run for so many seconds; returns what happened. Raises BadHistory, AssertionError or PotLabError if anything that
    was promised was not kept.

    Args:
        ledger: the real ledger and its people; the toy and two clients of `per_s` requests a second otherwise.
    """
    random = Random(seed)
    started_s = time.monotonic()
    with ExitStack() as stack:
        proxies = stack.enter_context(Proxies())
        network = ChaosNetwork(directory, n, ledger=ledger, proxies=proxies, snapshot_batches=snapshot_batches)
        stack.enter_context(network)
        network.stepped_over = network.all
        watch, faults = Watch(network), Faults(network, random)
        with ExitStack() as load:
            if network.cast is None:
                load.enter_context(steady_load(network, per_s=per_s))
            else:
                book = network.bookkeeper("crowd")
                load.enter_context(Crowd(network.cast, network.chain, book, orders=1 << 30, patience_s=PATIENCE_S))
            while time.monotonic() < started_s + seconds - _SETTLE_BEFORE_END_S:
                time.sleep(random.uniform(0.5, 3))
                watch.look()
                faults.one()
        with NetworkClient(network.config) as client:
            network.settle(client)
            states = client.status().result(PATIENCE_S)
        watch.look()
        histories_bytes = max(
            sum(path.stat().st_size for path in network.data_dir(i).glob("history.sqlite*")) for i in network.all
        )
        verdict = network.verdict(wait=False)
        found: dict[str, Any] = {
            "minutes": round(seconds / 60, 1),
            "nodes": n,
            "application": "toy" if network.cast is None else "ledger",
            "seed": seed,
            "faults": dict(sorted(faults.counts.items())),
            "view": max(state.view for state in states),
            **verdict._asdict(),
            **watch.figures(),
            "history_mib": round(histories_bytes / MIB, 2),
            "load": os.getloadavg()[0],
        }
        if network.cast is not None:
            state = network.ledger.state
            found["orders_placed"] = max((order.order.nonce for order in state.orders.values()), default=0)
            found["epochs_settled"] = state.confirmed.epoch
            found["earned_grains"] = state.earned_grains
        return found
