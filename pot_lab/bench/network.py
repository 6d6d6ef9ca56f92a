"""A network of aggregator processes on loopback, made to be measured and then deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import psutil

from pot_lab.agreement.quorum import LARGEST_SET, SMALLEST_SET
from pot_lab.bench.node import keys_of
from pot_lab.crypto.canonical import sha256
from pot_lab.errors import InvariantBroken, PotLabError, one_of
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.config import DURABILITIES, NetworkConfig
from pot_lab.network.loopback import entries_on_loopback
from pot_lab.testnet.processes import uninterrupted

_START_S_EACH, _START_S = 2.0, 30.0
_STOP_S = 10.0
_NETWORK_ID = sha256(b"a network made to be measured")


class BadSetting(PotLabError):
    """An argument of a measurement is out of range.

    What to do: choose a value in the range that the message names.
    """


class NetworkFailed(PotLabError):
    """An aggregator ended, or the aggregators did not all connect.

    What to do: read the log that the message names; measure again on a quieter machine if it came together too slowly.
    """


def whole_number(name: str, value: int, low: int, high: int) -> int:
    """The value, if it is in range; raises BadSetting."""
    if not low <= value <= high:
        raise BadSetting(f"{name} is out of range", seen=value, wanted=f"{low} .. {high}")
    return value


class MeasuringNetwork:
    """n aggregator processes around a `RecordPool` each; a context manager that stops them all at its end.

    Args:
        n: how many.
        durability: "fsync" or "flush", see `network.toml`.
    Attributes:
        config: the network.
        start_s: how long it took until all were connected.
    Raises:
        BadSetting: an argument is out of range.
    """

    def __init__(self, n: int, durability: str) -> None:
        whole_number("the number of aggregators", n, SMALLEST_SET, LARGEST_SET)
        if durability not in DURABILITIES:
            raise BadSetting("durability is unknown", seen=durability, wanted=one_of(durability, DURABILITIES))
        self._seed = os.urandom(32)
        keys = [keys_of(self._seed, index) for index in range(n)]
        entries = entries_on_loopback((identity.address, curve.public, bytes(32)) for identity, curve in keys)
        self.config = NetworkConfig(network_id=_NETWORK_ID, name="measured", aggregators=entries, durability=durability)
        self.start_s = 0.0
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> MeasuringNetwork:
        start_s = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="pot-lab-bench-")
        try:
            path = Path(self._folder.name)
            self.config.save(path / "network.toml")
            for index in range(self.config.n):
                self._start(path, index)
            with NetworkClient(self.config) as client:
                self.settle(client, _START_S + _START_S_EACH * self.config.n)
        except BaseException:
            self._stop()
            raise
        self.start_s = time.monotonic() - start_s
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def settle(self, client: NetworkClient, timeout_s: float, height: int = 0) -> None:
        """Wait until every aggregator answers, receives from all others, and has the same height, at least `height`.

        Raises:
            NetworkFailed: one of them ended, or that is not so after `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._check_alive()
            found = client.status(timeout_s=5.0).result()
            heights = {each.height for each in found}
            if (
                all(each.reachable and each.counters.get("peers_heard", 0) >= self.config.n - 1 for each in found)
                and len(heights) == 1
                and min(heights) >= height
            ):
                return
            if time.monotonic() > deadline_s:
                away = [each.index for each in found if not each.reachable]
                raise NetworkFailed(
                    "the aggregators did not all connect",
                    seen=f"not reachable: {away}, heights: {sorted(heights)}",
                    wanted=f"all at one height >= {height} within {timeout_s:g} s",
                )
            time.sleep(0.02)

    def peak_memory_mb(self) -> float:
        """The highest resident set that any aggregator has had, in 10^6 bytes (VmHWM)."""
        return max(_peak_kib(process.pid) for process in self._processes) * 1_024 / 1e6

    def memory_mb(self) -> float:
        """The largest resident set of an aggregator now, in 10^6 bytes."""
        return float(max(psutil.Process(process.pid).memory_info().rss for process in self._processes)) / 1e6

    def cpu_s(self) -> float:
        """Processor time of all aggregators since they started."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in times))

    def _start(self, folder: Path, index: int) -> None:
        data = folder / f"aggregator-{index}"
        command = [sys.executable, "-m", "pot_lab.bench.node", str(folder / "network.toml"), str(index), str(data)]
        with uninterrupted(), open(folder / f"stderr-{index}", "wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stderr, start_new_session=True)
            self._processes.append(process)
        if process.stdin is None:
            raise InvariantBroken("an aggregator was started without its stdin")
        process.stdin.write(self._seed.hex().encode() + b"\n")
        process.stdin.flush()

    def _check_alive(self) -> None:
        for index, process in enumerate(self._processes):
            if process.poll() is not None:
                words = (Path(self._folder.name) / f"stderr-{index}").read_text(errors="replace").strip()
                raise NetworkFailed(f"aggregator {index} ended", seen=words.splitlines()[-1] if words else "nothing")

    def _stop(self) -> None:
        with uninterrupted():
            for process in self._processes:
                process.send_signal(signal.SIGTERM)
            deadline_s = time.monotonic() + _STOP_S
            for process in self._processes:
                try:
                    process.wait(max(0.0, deadline_s - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if process.stdin is not None:
                    process.stdin.close()
            self._processes.clear()
            self._folder.cleanup()


def _peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
