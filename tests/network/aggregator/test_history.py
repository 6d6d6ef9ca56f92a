"""The history keeps executed batches in order, skips what it has, and says when its disk or file fails."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pot_lab.network.aggregator import history as module
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.errors import LogCorrupt


def rows(first: int, last: int) -> list[HistoryRow]:
    return [HistoryRow(i, 1_000 + i, tuple(b"event %d" % k for k in range(i % 3))) for i in range(first, last + 1)]


def test_batches_come_back_after_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    history.append(rows(1, 10))
    history.append([])
    assert history.read(0, 100) == rows(1, 10)
    history.close()
    again = History(tmp_path / "history.sqlite")
    assert again.height == 10
    again.append(rows(5, 12))
    assert again.read(9, 2) == rows(9, 10)
    assert again.read(11, 64) == rows(11, 12)
    assert again.read(13, 64) == []
    again.close()


def test_a_damaged_file_is_named_and_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(LogCorrupt, match="remove it"):
        History(path)


@pytest.mark.parametrize("damaged", ["X'DEADBEEF'", "X''", "'text'", "NULL", "7"])
def test_a_damaged_row_is_a_gap(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "history.sqlite"
    history = History(path)
    history.append(rows(1, 10))
    history.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE batches SET events = {damaged} WHERE sequence = 7")
    history = History(path)
    assert history.read(1, 100) == rows(1, 6) and history.read(7, 100) == [] and history.read(8, 100) == rows(8, 10)
    history.close()


def test_what_was_synced_does_not_depend_on_the_tail_that_a_power_cut_takes(tmp_path: Path) -> None:
    path, copy = tmp_path / "history.sqlite", tmp_path / "copy.sqlite"
    history = History(path)
    history.append(rows(1, 10))
    history.sync()
    history.append(rows(11, 12))
    shutil.copy(path, copy)  # without the file beside it, in which the newest rows stand
    history.close()
    again = History(copy)
    assert again.read(1, 100) == rows(1, 10)
    again.append(rows(9, 12))
    assert again.read(1, 100) == rows(1, 12)
    again.close()


def test_the_oldest_batches_leave_when_the_log_is_compacted_and_the_file_stops_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PRUNED_AT_ONCE", 40)
    path = tmp_path / "history.sqlite"
    with closing(History(path, "flush")) as history:
        history.append(rows(1, 200))
        history.sync()
        assert history.read(1, 1) == rows(1, 1)
    with closing(History(path, "flush", keep=100)) as history:
        history.sync()
        assert history.read(40, 1) == [] and history.read(41, 1) == rows(41, 41)
        for _ in range(5):
            history.sync()
        assert history.read(100, 1) == [] and history.read(101, 200) == rows(101, 200)
        sizes = []
        for first in range(201, 4_201, 100):
            history.append(rows(first, first + 99))
            for _ in range(3):
                history.sync()
            sizes.append(path.stat().st_size)
        assert history.height == 4_200 and history.read(4_101, 200) == rows(4_101, 4_200)
        assert len(set(sizes[5:])) == 1
    with closing(History(path, "flush", keep=100)) as again:
        assert again.height == 4_200 and again.read(4_100, 1) == []


def test_a_history_shorter_than_what_is_kept_loses_nothing(tmp_path: Path) -> None:
    with closing(History(tmp_path / "history.sqlite", "flush", keep=100)) as history:
        history.sync()
        history.append(rows(1, 100))
        history.sync()
        assert history.read(1, 200) == rows(1, 100)
