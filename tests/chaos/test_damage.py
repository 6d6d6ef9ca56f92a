"""Disks that lie, fill up or take their time, and clocks that are wrong: an aggregator recovers or stops with a reason,
and then what the operator's page says works.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.chaos.network import PATIENCE_S, Bookkeeper, ChaosNetwork, steady_load

SNAPSHOT_BATCHES = 16
VICTIM = 3


def worked(network: ChaosNetwork, requests: int = 40) -> Bookkeeper:
    """A client whose requests have made a log, a snapshot and a history; the victim is dead."""
    book = network.bookkeeper("client")
    network.settle(book)
    for _ in range(requests):
        book.put(bytes(300)).result(PATIENCE_S)
    network.settle(book)
    network.kill(VICTIM)
    return book


def come_back(network: ChaosNetwork, book: Bookkeeper) -> str:
    """Start the victim as operations.md says: if it stops, remove what its last line names and start it again.

    Returns the name of the error, or "".
    """
    process = network.start(VICTIM)
    deadline_s = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        state = book.status().result(PATIENCE_S)[VICTIM]
        others = [each.height for each in book.status().result(PATIENCE_S) if each.index != VICTIM]
        if state.reachable and state.height >= min(others):
            return ""
        assert time.monotonic() < deadline_s, network.stderr(VICTIM)
        time.sleep(0.05)
    line = network.stderr(VICTIM).splitlines()[-1]
    assert process.returncode == 1 and line.startswith(f"aggregator {VICTIM} stopped: "), network.stderr(VICTIM)
    network.processes.pop(VICTIM)
    if "history.sqlite" in line:
        for path in network.data_dir(VICTIM).glob("history.sqlite*"):
            path.unlink()
    else:
        network.forget(VICTIM)
    network.start(VICTIM)
    return line.split(": ")[1]


def flip(path: Path, random: Random) -> None:
    raw = bytearray(path.read_bytes())
    raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    path.write_bytes(raw)


def truncate(path: Path, random: Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size))


def overwrite_a_block(path: Path, random: Random) -> None:
    """A sector of another file, as a disk that loses a write leaves it."""
    with open(path, "r+b") as file:
        file.seek(random.randrange(max(1, path.stat().st_size - 512)))
        file.write(random.randbytes(512))


Damage = Callable[[Path, Random], None]
FILES = ("replica.log", "snapshot-*", "history.sqlite", "history.sqlite-wal")


def check_damage(directory: Path, random: Random, cases: list[tuple[str, Damage]]) -> None:
    """Damage one file of one aggregator after the other: it never goes on from what is wrong."""
    with ChaosNetwork(directory, durability="flush", snapshot_batches=SNAPSHOT_BATCHES) as network:
        network.forgetful = {VICTIM}
        network.stepped_over = network.all  # on a busy machine another may fall behind by a snapshot too
        book = worked(network)
        for pattern, damage in cases:
            path = random.choice(sorted(network.data_dir(VICTIM).glob(pattern)) or [network.log(VICTIM)])
            if path.stat().st_size:
                damage(path, random)
            error = come_back(network, book)
            assert error in ("", "LogCorrupt", "BadLog", "Malformed"), (path.name, error)
            for _ in range(SNAPSHOT_BATCHES + 2):
                book.put(bytes(300)).result(PATIENCE_S)
            network.settle(book)
            network.kill(VICTIM)
        network.forget(VICTIM)  # its history was damaged on purpose: what is judged is what the others give it
        network.start(VICTIM)
        network.verdict()


def test_a_damaged_file_is_refused_by_name_or_healed_by_the_others(tmp_path: Path) -> None:
    check_damage(tmp_path, Random(1), list(zip(FILES, (flip, flip, overwrite_a_block, truncate), strict=True)))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
def test_damage_of_every_kind_to_every_file(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    cases = [(pattern, damage) for pattern in FILES for damage in (flip, truncate, overwrite_a_block)]
    random.shuffle(cases)
    check_damage(tmp_path, random, cases)


def test_a_history_with_a_damaged_row_stops_nobody(tmp_path: Path) -> None:
    """SQLite keeps no checksums: a flipped bit in a row comes to light when a subscriber asks for that batch."""
    heard: list[int] = []
    with ChaosNetwork(tmp_path, durability="flush") as network:
        book = worked(network, 20)
        with closing(sqlite3.connect(network.data_dir(VICTIM) / "history.sqlite")) as database, database:
            database.execute("UPDATE batches SET events = X'DEADBEEF' WHERE sequence = 7")
        process = network.start(VICTIM)
        network.settle(book)
        book.subscribe(lambda sequence, time_ms, events: heard.append(sequence))
        deadline_s = time.monotonic() + PATIENCE_S
        while len(heard) < 20:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert process.poll() is None, network.stderr(VICTIM)


class SmallDisk(ChaosNetwork):
    """The victim's data lies on a file system of `size_kib`, which goes with its process; 0 for the host's own."""

    size_kib = 0

    def prefix(self, index: int) -> list[str]:
        if index != VICTIM or not self.size_kib:
            return []
        self.data_dir(index).mkdir(exist_ok=True)
        script = f'mount -t tmpfs -o size={self.size_kib}k none "$0" && exec "$@"'
        return ["unshare", "-rm", "sh", "-c", script, str(self.data_dir(index))]


def skip_without_mounts() -> None:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")


def test_a_full_disk_stops_one_aggregator_by_name_and_it_comes_back_when_there_is_room(tmp_path: Path) -> None:
    skip_without_mounts()
    network = SmallDisk(tmp_path)
    network.size_kib = 64
    with network:
        book = network.bookkeeper("client")
        network.settle(book)
        process = network.processes[VICTIM]
        for _ in range(60):
            book.put(bytes(2_000)).result(PATIENCE_S)
        assert process.wait(PATIENCE_S) == 1
        line = network.stderr(VICTIM).splitlines()[-1]
        assert line.startswith(f"aggregator {VICTIM} stopped: DiskFull: no room for ")
        network.size_kib = 0
        network.start(VICTIM)
        network.settle(book)
        assert network.verdict().acknowledged == 60


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_disk_that_fills_at_any_place_is_called_full(tmp_path: Path) -> None:
    """While a file is made, a log grows or is replaced, a snapshot is written, fetched or taken, a history is kept."""
    skip_without_mounts()
    with SmallDisk(tmp_path, snapshot_batches=SNAPSHOT_BATCHES) as network:
        network.stepped_over = network.all
        book = network.bookkeeper("client")
        network.settle(book)
        full = 0
        for size_kib in (4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 128, 160, 200, 256):
            network.kill(VICTIM)
            network.size_kib = size_kib
            process = network.start(VICTIM)
            for _ in range(50):
                book.put(bytes(1_500)).result(PATIENCE_S)
                if process.poll() is not None:
                    break
            time.sleep(1)
            if process.poll() is not None:
                full += 1
                line = network.stderr(VICTIM).splitlines()[-1]
                assert process.returncode == 1 and ": DiskFull: " in line, (size_kib, network.stderr(VICTIM)[-2_000:])
        assert full >= 8
        network.processes.pop(VICTIM).kill()
        network.size_kib = 0
        shutil.rmtree(network.data_dir(VICTIM), ignore_errors=True)
        network.start(VICTIM)
        network.verdict()


def test_slow_disks_slow_down_and_lose_nothing(tmp_path: Path) -> None:
    with ChaosNetwork(tmp_path) as network:
        with steady_load(network, per_s=10) as books:
            network.settle(books[0])
            for index, delay_s in ((network.primary(books[0]), 0.3), (VICTIM, 2.0)):
                network.weather[index].sync_delay_s = delay_s
                time.sleep(2)
                network.weather[index].sync_delay_s = 0
        network.verdict()


@pytest.mark.parametrize(
    ("minutes", "is_primary"),
    [
        (5, True),
        (-5, False),
        pytest.param(-5, True, marks=pytest.mark.long),
        pytest.param(5, False, marks=pytest.mark.long),
    ],
)
def test_a_clock_moved_by_minutes_hurts_nobody_but_its_owner(tmp_path: Path, minutes: int, is_primary: bool) -> None:
    """Agreed time stays with the clocks of the others; a restart makes the one that was ahead whole again."""
    with ChaosNetwork(tmp_path, durability="flush") as network:
        book = network.bookkeeper("client")
        network.settle(book)
        book.put_all(3)
        victim = (network.primary(book) + (not is_primary)) % 4
        network.weather[victim].clock_offset_ms = 60_000 * minutes
        book.put_all(10, 0.05)
        network.weather[victim].clock_offset_ms = 0
        book.put_all(3)
        before_ms = time.time_ns() // 1_000_000
        if minutes > 0:
            network.kill(victim)
            network.start(victim)
        network.settle(book)
        network.kill((victim + 1) % 4)  # now the victim is needed
        book.put_all(3)
        after_ms = time.time_ns() // 1_000_000
        network.start((victim + 1) % 4)
        assert network.verdict().acknowledged == 19
        rows = network.histories({victim})[victim]
        assert before_ms - 60_000 < rows[-1].time_ms < after_ms + 60_000
