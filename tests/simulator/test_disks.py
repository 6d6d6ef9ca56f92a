"""A disk keeps what was synced, whatever happens to process and power."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.simulator.disks import Damaged, Disk, Full

STEPS = st.lists(st.sampled_from(["append", "write", "sync"]), max_size=40)


def written(disk: Disk) -> list[bytes]:
    return [record for _, record in disk.records()]


@given(STEPS, st.integers(0, 1_000))
def test_a_power_cut_leaves_all_that_was_synced_and_a_beginning_of_the_rest(steps: list[str], seed: int) -> None:
    disk, made, synced, handed_over = Disk(), [], 0, 0
    for number, step in enumerate(steps):
        if step == "append":
            made.append(b"record %d" % number)
            disk.append(made[-1])
        elif step == "write":
            disk.write()
            handed_over = len(made)
        else:
            disk.sync()
            synced = handed_over
    disk.lose_memory()
    disk.lose_power(Random(seed))
    disk.open()
    left = written(disk)
    assert synced <= len(left) <= handed_over and left == made[: len(left)]


def test_a_kill_leaves_what_the_operating_system_has() -> None:
    disk = Disk()
    disk.append(b"one")
    disk.write()
    disk.append(b"two")
    disk.lose_memory()
    disk.open()
    assert written(disk) == [b"one"]


def test_a_torn_record_is_there_until_the_disk_is_opened() -> None:
    for seed in range(100):
        disk = Disk()
        for _ in range(3):
            disk.append(b"x" * 20)
        disk.write()
        disk.lose_power(Random(seed))
        if disk.torn:
            assert written(disk)[-1] != b"x" * 20
            disk.open()
            assert set(written(disk)) <= {b"x" * 20}
            return
    pytest.fail("no power cut tore a record")


def test_a_lost_disk_is_empty() -> None:
    disk = Disk()
    disk.append(b"one")
    disk.write()
    disk.sync()
    disk.wipe()
    disk.open()
    assert len(disk) == 0


def test_a_turned_bit_before_whole_records_is_refused_and_at_the_end_is_cut() -> None:
    refused = cut = 0
    for seed in range(30):
        disk = Disk()
        for number in range(3):
            disk.append(b"record %d" % number)
        disk.write()
        disk.sync()
        disk.flip(Random(seed))
        try:
            disk.open()
        except Damaged:
            refused += 1
        else:
            cut += 1
            assert written(disk) == [b"record 0", b"record 1"]
    assert refused and cut


def test_a_turned_bit_in_a_snapshot_changes_it() -> None:
    disk = Disk()
    disk.keep(4, b"state")
    disk.flip(Random(1))
    while disk.snapshots[4] == b"state":
        disk.flip(Random(2))
    assert len(disk.snapshots[4]) == 5


def test_a_full_disk_keeps_what_it_had_and_takes_nothing_more() -> None:
    disk = Disk()
    disk.append(b"one")
    disk.write()
    disk.sync()
    disk.is_full = True
    disk.write()  # nothing new
    disk.append(b"two")
    with pytest.raises(Full):
        disk.write()
    with pytest.raises(Full):
        disk.keep(1, b"state")
    with pytest.raises(Full):
        disk.replace([b"other"], 1)
    disk.lose_memory()
    disk.open()
    assert written(disk) == [b"one"] and not disk.snapshots
