"""Jobs with their curves, miners with own notebooks, earnings and standing: what the panel reads and may do."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.httpclient

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR, save_keystore
from pot_lab.jobs.earnings_book import EarningsBook, Entry
from pot_lab.jobs.registry import JobEventLog, write_json
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED
from pot_lab.server.host import host_usage
from pot_lab.server.job_reader import POINTS_LIMIT, JobReader
from pot_lab.server.source import miner_addresses
from tests.server.test_extension import ScriptedSource
from tests.server.test_routes import post, refused

DAY_MS = 86_400_000


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any]) -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"pot_lab.server": True}, "allow_unauthenticated_access": False}}


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(
    jp_serverapp, source: ScriptedSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NetworkFeed]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    made = NetworkFeed(lambda: source, home_folder=tmp_path, interval_s=3600)
    jp_serverapp.web_app.settings[FEED] = made
    yield made
    made.stop()


async def get(jp_fetch, *path: str, **query: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await jp_fetch("pot-lab", *path, params=query)).body)
    return answer


def make_job(home: Path, name: str = "a-job", created_ms: int = 5) -> JobEventLog:
    folder = home / "jobs" / name
    folder.mkdir(parents=True)
    parameters = {"workspace": f"/somewhere/{'ab' * 12}", "seed": 7}
    write_json(folder / "job.json", {"kind": "provider", "parameters": parameters, "created_ms": created_ms})
    write_json(folder / "state.json", {"state": "done", "attempt": 2, "ended_ms": 9})
    return JobEventLog(folder / "events.jsonl")


async def test_a_jobs_curve_is_read_by_its_id(feed, jp_fetch, tmp_path) -> None:
    log = make_job(tmp_path)
    log.emit("cell_started", cell=4)
    for step in range(3):
        log.emit("progress", cell=4, data={"step": step, "total": None, "loss": 1 / (1 + step)})
    job = await get(jp_fetch, "jobs", "a-job")
    assert [point["loss"] for point in job["points"]] == [1, 1 / 2, 1 / 3]
    assert (job["cell"], job["attempt"], job["order"], job["usage"]) == (4, 2, "ab" * 12, None)
    assert job["parameters"] == {"seed": 7}  # where its files lie is of no use to anybody
    code, told = await refused(jp_fetch("pot-lab", "jobs", "another"))
    assert code == 422 and "no such job" in told["message"]


def test_a_long_jobs_events_are_read_once_and_its_curve_stays_small(tmp_path) -> None:
    log, reader = make_job(tmp_path), JobReader(tmp_path)
    count = 5 * POINTS_LIMIT
    for step in range(count):
        log.emit("progress", data={"step": step, "total": count})
    points = reader.job("a-job")["points"]
    assert POINTS_LIMIT <= len(points) <= 2 * POINTS_LIMIT + 1
    assert (points[0]["step"], points[-1]["step"]) == (0, count - 1)
    path = tmp_path / "jobs" / "a-job" / "events.jsonl"
    size = path.stat().st_size
    with path.open("r+b") as file:  # what was read once is not read again
        file.write(b"x" * (size - 1))
    log.emit("progress", data={"step": count, "total": count})
    with path.open("ab") as file:
        file.write(b'{"kind": "progress", "data": {"step"')  # still being written
    assert reader.jobs()[0]["progress"]["step"] == count
    with path.open("ab") as file:
        file.write(b': 1}, "time_ms": 1}\n')
    assert reader.jobs()[0]["progress"]["step"] == 1


def test_a_job_that_was_removed_is_forgotten_and_only_the_newest_are_shown(tmp_path, monkeypatch) -> None:
    reader = JobReader(tmp_path)
    assert reader.jobs() == []
    for number in range(3):
        make_job(tmp_path, f"job-{number}", created_ms=number)
    (tmp_path / "jobs" / "no-job").mkdir()
    monkeypatch.setattr("pot_lab.server.job_reader.JOBS_LIMIT", 2)
    assert [job["id"] for job in reader.jobs()] == ["job-2", "job-1"]
    (tmp_path / "jobs" / "job-2").rename(tmp_path / "gone")
    assert [job["id"] for job in reader.jobs()] == ["job-1", "job-0"]


async def test_old_jobs_are_removed_after_it_was_said_what_that_is(feed, jp_fetch, tmp_path) -> None:
    make_job(tmp_path)
    state = tmp_path / "jobs" / "a-job" / "state.json"
    os.utime(state, (1, 1))
    would = json.loads((await post(jp_fetch, "prune", body={"days": 7})).body)
    assert would["jobs"] == 1 and state.is_file()
    assert json.loads((await post(jp_fetch, "prune", body={"days": 7, "dry_run": False})).body) == would
    assert not state.exists()
    code, _ = await refused(post(jp_fetch, "prune", body={"days": -1}))
    assert code == 400


async def test_earnings_are_told_for_each_miner_by_day_and_order(feed, jp_fetch, tmp_path) -> None:
    now_ms = time.time_ns() // 1_000_000
    book = EarningsBook(tmp_path / "work" / "provider-5a68cd31-b11ca2a39943")
    for days_ago, grains in ((40, 1), (3, 2**60), (0, 5)):
        ended_ms, reasons = now_ms - days_ago * DAY_MS, ("won",)
        entry = Entry(ended_ms=ended_ms, order_id="ab" * 32, outcome="won", grains=grains, reasons=reasons, worked_s=36)
        book.append(entry)
    (miner,) = (await get(jp_fetch, "earnings"))["miners"]
    assert (miner["role"], miner["account"]) == ("provider", "5a68cd31")
    assert miner["total"] == {"name": "all", "orders": 2, "paid": 2, "grains": str(2**60 + 5), "hours": 0.02}
    assert [day["grains"] for day in miner["days"]] == ["5", str(2**60)]
    assert [order["grains"] for order in miner["orders"]] == ["5", str(2**60)]
    assert (await get(jp_fetch, "earnings", days="365"))["miners"][0]["total"]["orders"] == 3
    for days in ("0", "-1", "many", "9" * 30, "٣"):
        code, _ = await refused(jp_fetch("pot-lab", "earnings", params={"days": days}))
        assert code == 400


async def test_the_standing_of_this_hosts_miners_is_asked_of_the_ledger(feed, source, jp_fetch, tmp_path) -> None:
    asked: list[list[str]] = []
    source.standing = lambda addresses: asked.append(addresses) or [{"address": one} for one in addresses]
    miner, other = Identity.generate(), Identity.generate()
    for name, identity in (("provider-0", miner), ("client", other)):
        folder = tmp_path / "networks" / source.name / "accounts" / name
        folder.mkdir(parents=True)
        save_keystore(folder / "account.json", identity, "nobody types this", work_factor=TESTNET_WORK_FACTOR)
    address = format_address(miner.address)
    (tmp_path / "work" / f"provider-{address[2:10].lower()}-b11ca2a39943").mkdir(parents=True)
    assert (await get(jp_fetch, "standing"))["accounts"] == [{"address": address}]
    assert asked == [[address]] and miner_addresses("another", tmp_path) == []


async def test_without_a_network_nobody_stands_anywhere(jp_serverapp, jp_fetch, tmp_path, monkeypatch) -> None:
    jp_serverapp.web_app.settings[FEED] = feed = NetworkFeed(lambda: None, home_folder=tmp_path)
    code, told = await refused(jp_fetch("pot-lab", "standing"))
    feed.stop()
    assert code == 422 and "pot-lab testnet up" in told["message"]


# ------------------------------------------------------------------------------------------------------ own notebooks

RECIPE = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "metadata": {"tags": ["parameters"]},
            "source": 'workspace: str = ""\nwarmth: float = 0.5  # of the room',
            "outputs": [],
            "execution_count": None,
        }
    ],
}


async def test_a_recipe_of_ones_own_makes_the_form(feed, jp_fetch, jp_root_dir) -> None:
    (jp_root_dir / "mine.ipynb").write_text(json.dumps(RECIPE))
    told = await get(jp_fetch, "recipes", "provider", notebook="mine.ipynb")
    assert told["parameters"] == [{"name": "warmth", "type": "float", "default": 0.5, "about": "of the room"}]
    form = {"role": "provider", "notebook": "mine.ipynb", "parameters": {"cold": 1}}
    code, said = await refused(post(jp_fetch, "miners", body=form))
    assert code == 422 and "no such parameter" in said["message"]


@pytest.mark.parametrize("name", ["../outside.ipynb", "/etc/passwd", "link.ipynb", "nothing.ipynb", "notes.txt", "\0"])
async def test_no_notebook_from_elsewhere_is_run(name: str, feed, jp_fetch, jp_root_dir, tmp_path) -> None:
    outside = jp_root_dir.parent / "outside.ipynb"
    outside.write_text(json.dumps(RECIPE))
    (jp_root_dir / "link.ipynb").symlink_to(outside)
    (jp_root_dir / "notes.txt").write_text("notes")
    code, _ = await refused(post(jp_fetch, "miners", body={"role": "provider", "notebook": name}))
    assert code == 422
    assert not (tmp_path / "miners").exists()


async def test_a_notebook_of_the_package_is_copied_and_never_written_over(feed, jp_fetch, jp_root_dir) -> None:
    assert json.loads((await post(jp_fetch, "notebooks", "tour")).body) == {"path": "tour.ipynb"}
    copied = jp_root_dir / "tour.ipynb"
    assert json.loads(copied.read_text())["nbformat"] == 4
    copied.write_text("mine now")
    await post(jp_fetch, "notebooks", "tour")
    assert copied.read_text() == "mine now"
    with pytest.raises(tornado.httpclient.HTTPClientError):
        await post(jp_fetch, "notebooks", "another")


def test_graphics_cards_are_told_of_as_their_driver_does(tmp_path, monkeypatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho '0, NVIDIA H200, 37, 1024, 143771, 312.50'\necho '1, Old, [N/A], 5, 6, [N/A]'\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    first, second = host_usage()["gpus"]
    assert first == {
        "index": 0,
        "name": "NVIDIA H200",
        "busy_percent": 37.0,
        "memory_bytes": 1 << 30,
        "memory_total_bytes": 143771 << 20,
        "watts": 312.5,
    }
    assert (second["busy_percent"], second["watts"]) == (None, None)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert host_usage()["gpus"] == []
