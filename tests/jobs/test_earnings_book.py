"""A miner's book of earnings: a line for each order, which stays when orders and jobs are gone."""

from __future__ import annotations

from pathlib import Path

from pot_lab.jobs.earnings_book import FILE_NAME, EarningsBook, Entry, books, by_day, period
from pot_lab.jobs.registry import Job, JobEventLog, write_json

DAY_MS = 86_400_000


def entry(ended_ms: int, grains: int = 0, hours: float = 0.0) -> Entry:
    return Entry(ended_ms=ended_ms, order_id="ab", outcome="won", grains=grains, worked_s=hours * 3600)


def test_what_was_written_is_read_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    book = EarningsBook(tmp_path / "work" / "provider-1-2")
    assert book.entries() == [] and books(tmp_path) == []
    for at_ms in (1, 2, 3):
        book.append(entry(at_ms, grains=at_ms))
    path = book.folder / FILE_NAME
    path.write_bytes(path.read_bytes() + b'{"ended_ms": 4, "ord')
    book.append(entry(5))  # on the torn line: that one is lost too, no other
    book.append(entry(6))
    assert [each.ended_ms for each in book.entries()] == [1, 2, 3, 6]
    assert [each.ended_ms for each in book.entries(since_ms=3)] == [3, 6]
    assert path.stat().st_mode & 0o077 == 0
    assert [each.folder for each in books(tmp_path)] == [book.folder]


def test_days_and_totals_add_up() -> None:
    entries = [entry(0, 5, 1), entry(10, 0, 1), entry(3 * DAY_MS, 7, 2)]
    days = by_day(entries)
    assert [(day.orders, day.paid, day.grains, day.hours) for day in days] == [(2, 1, 5, 2.0), (1, 1, 7, 2.0)]
    total = period("all", entries)
    assert (total.orders, total.paid, total.grains, total.grains_per_hour) == (3, 2, 12, 3.0)
    assert period("none", []).grains_per_hour is None


def test_a_job_has_worked_as_long_as_its_attempts_ran(tmp_path: Path) -> None:
    write_json(tmp_path / "job.json", {"kind": "t", "parameters": {}, "created_ms": 1})
    job = Job(tmp_path)
    assert job.worked_s == 0.0
    events = JobEventLog(tmp_path / "events.jsonl")
    for at_ms, kind in ((1000, "started"), (3000, "progress"), (60_000, "started"), (61_000, "ended")):
        events.emit(kind)  # written with the clock's time, replaced here
        text = (tmp_path / "events.jsonl").read_text().splitlines()
        text[-1] = f'{{"time_ms": {at_ms}, "kind": "{kind}"}}'
        (tmp_path / "events.jsonl").write_text("\n".join(text) + "\n")
    assert job.worked_s == 3.0  # two seconds until it was killed, one until it ended
