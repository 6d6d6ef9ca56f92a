"""Records survive; torn tails are cut; damage before the end is refused; a full disk loses nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pot_lab.network.aggregator.durable_log import DurableLog
from pot_lab.network.errors import DiskFull, LogCorrupt
from tests.begin import writing_at_most

OWNER = b"o" * 32
anew = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, records: list[bytes]) -> list[int]:
    path.unlink(missing_ok=True)
    log = DurableLog(path, OWNER)
    offsets = [log.append(record) for record in records]
    log.close()
    return offsets


def read(path: Path) -> list[bytes]:
    log = DurableLog(path, OWNER)
    try:
        return [record for _, record in log.records()]
    finally:
        log.close()


@anew
@given(records=st.lists(st.binary(max_size=200), max_size=30))
def test_records_come_back_in_order_and_by_their_place(tmp_path: Path, records: list[bytes]) -> None:
    path = tmp_path / "log"
    offsets = written(path, records)
    log = DurableLog(path, OWNER)
    assert list(log.records()) == list(zip(offsets, records, strict=True))
    assert [log.read(offset) for offset in offsets] == records
    assert log.append(b"more") == log.size_bytes - 12
    assert log.cut_bytes == 0
    log.close()
    assert read(path) == [*records, b"more"]


def test_records_larger_than_the_read_window_come_back(tmp_path: Path) -> None:
    records = [os.urandom(size) for size in (10, 3_000_000, 1_048_576, 5, 1_048_570, 7)]
    written(tmp_path / "log", records)
    assert read(tmp_path / "log") == records


@anew
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=10), cut=st.integers(1, 400))
def test_a_torn_tail_is_cut_back_to_the_last_whole_record(tmp_path: Path, sizes: list[int], cut: int) -> None:
    path = tmp_path / "log"
    records = [bytes([i]) * size for i, size in enumerate(sizes)]
    offsets = written(path, records)
    size_bytes = path.stat().st_size
    keep_bytes = max(40, size_bytes - cut)
    os.truncate(path, keep_bytes)
    whole = [r for r, o in zip(records, offsets, strict=True) if o + 8 + len(r) <= keep_bytes]
    log = DurableLog(path, OWNER)
    assert [record for _, record in log.records()] == whole
    assert log.size_bytes + log.cut_bytes == keep_bytes
    log.append(b"next")
    log.close()
    assert read(path) == [*whole, b"next"]


@anew
@given(data=st.data())
def test_a_flipped_bit_is_never_read_as_a_record(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "log"
    records = [os.urandom(20 + i) for i in range(8)]
    offsets = written(path, records)
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(40, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    damaged = max(i for i, offset in enumerate(offsets) if offset <= at)
    if damaged < len(records) - 1:
        with pytest.raises(LogCorrupt, match=f"byte {offsets[damaged]}"):
            DurableLog(path, OWNER)
        assert path.read_bytes() == bytes(raw)
    else:
        assert read(path) == records[:-1]


def test_zeros_or_noise_after_the_end_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for tail in (bytes(5_000), os.urandom(5_000), b"\0"):
        written(path, [b"a", b"b"])
        with open(path, "ab") as file:
            file.write(tail)
        assert read(path)[:2] == [b"a", b"b"]
        assert read(path) == [b"a", b"b"] or tail == bytes(5_000)


def test_a_record_that_stood_elsewhere_is_not_taken_for_one(tmp_path: Path) -> None:
    """The checksum covers a record's place, so old bytes left behind the end do not become records again."""
    path = tmp_path / "log"
    offsets = written(path, [b"first!", b"second"])
    raw = path.read_bytes()
    path.write_bytes(raw + raw[offsets[0] : offsets[1]])
    assert read(path) == [b"first!", b"second"]


def test_anothers_log_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, [b"a"])
    with pytest.raises(LogCorrupt, match="another"):
        DurableLog(path, b"p" * 32)
    path.write_bytes(b"not a log at all, but longer than a header is")
    with pytest.raises(LogCorrupt):
        DurableLog(path, OWNER)


def test_a_log_whose_header_was_torn_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, [])
    os.truncate(path, 11)
    assert read(path) == []


def test_what_was_not_synced_or_written_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DurableLog(path, OWNER)
    log.append(b"kept")
    log.sync()
    log.append(b"only in memory")
    assert path.read_bytes().count(b"memory") == 0
    log.write()
    assert path.read_bytes().count(b"memory") == 1


FULL = """
import sys
from pot_lab.network.aggregator.durable_log import DurableLog
from pot_lab.network.errors import DiskFull
log = DurableLog(sys.argv[1], b"o" * 32)
kept = 0
try:
    while True:
        log.append(b"%06d" % kept + bytes(994))
        log.append(b"%06d" % (kept + 1) + bytes(994))
        log.sync()
        kept += 2
except DiskFull as error:
    print(kept, error)
"""


def test_a_full_disk_says_so_and_keeps_all_that_was_synced(tmp_path: Path) -> None:
    path = tmp_path / "log"

    command = writing_at_most(50_000, [sys.executable, "-c", FULL, str(path)])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = int(done.stdout.split()[0])
    assert "no room" in done.stdout and kept == 48
    assert [int(record[:6]) for record in read(path)] == list(range(kept))


def test_disk_full_is_also_raised_when_a_log_cannot_even_begin(tmp_path: Path) -> None:
    opening = 'log = DurableLog(sys.argv[1], b"o" * 32)'
    code = FULL.replace(opening, "").replace("try:", "try:\n    " + opening)
    command = writing_at_most(10, [sys.executable, "-c", code, str(tmp_path / "log")])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 ") and DiskFull.__name__ not in done.stderr


@anew
@given(
    records=st.lists(st.binary(max_size=200), max_size=12),
    fresh=st.lists(st.binary(max_size=200), max_size=12),
    more=st.lists(st.binary(max_size=50), max_size=4),
)
def test_a_replaced_log_holds_the_new_records_and_goes_on(
    tmp_path: Path, records: list[bytes], fresh: list[bytes], more: list[bytes]
) -> None:
    path = tmp_path / "log"
    written(path, records)
    log = DurableLog(path, OWNER)
    log.append(b"queued when it is replaced")
    places = log.replace(fresh)
    assert [log.read(place) for place in places] == fresh
    for record in more:
        log.append(record)
    log.close()
    assert read(path) == [*fresh, *more]
    assert not (tmp_path / "log.new").exists()


def test_a_disk_that_is_full_while_a_log_is_replaced_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    written(path, [b"one", b"two"])
    log = DurableLog(path, OWNER)

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            log.replace([b"new"])
    log.append(b"three")
    log.close()
    assert read(path) == [b"one", b"two", b"three"]
    assert not (tmp_path / "log.new").exists()
