"""What is over has an end, by age and by size; what an order still needs is never touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pot_lab.files import FileLocked, acquire_lock, locked
from pot_lab.jobs.prune import DAY_S, Pruned, prune, prune_quietly, size_of

NOW_S = 1_000_000_000.0
KIB = 1024


class Home:
    """A home with jobs and orders of given age and size; every file is one KiB times its size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def job(self, name: str, *, days: float, kib: int = 1, state: str = "done") -> Path:
        folder = self.folder / "jobs" / name
        folder.mkdir(parents=True)
        (folder / "job.json").write_text('{"kind": "provider", "parameters": {}, "created_ms": 1}')
        ended_ms = int((NOW_S - days * DAY_S) * 1000)
        (folder / "state.json").write_text(json.dumps({"state": state, "ended_ms": ended_ms}))
        (folder / "output.ipynb").write_bytes(bytes(kib * KIB))
        (folder / "lock").touch()
        return folder

    def order(self, name: str, *, days: float, kib: int = 1, **memory: Any) -> Path:
        folder = self.folder / "work" / "provider-aabbcc-000000" / name
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "00001.safetensors").write_bytes(bytes(kib * KIB))
        (folder / "train.safetensors").write_bytes(bytes(kib * KIB))
        path = folder / "memory.json"
        path.write_text(json.dumps({"order_id": name, "finished": True, **memory}))
        os.utime(path, (NOW_S - days * DAY_S,) * 2)
        return folder

    def blob(self, name: str, *, days: float, kib: int = 1) -> Path:
        path = self.folder / "work" / "blobs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(kib * KIB))
        os.utime(path, (NOW_S - days * DAY_S,) * 2)
        return path

    def prune(self, **options: Any) -> Pruned:
        return prune(self.folder, now_s=lambda: NOW_S, **{"keep_s": 30 * DAY_S, "keep_bytes": 1 << 40, **options})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_what_ended_long_ago_goes_and_the_rest_stays(home: Home) -> None:
    old = [home.job("old", days=31), home.order("aa", days=31), home.blob("cc", days=31)]
    young = [home.job("young", days=29), home.order("bb", days=29), home.blob("dd", days=29)]
    done = home.prune()
    assert (done.jobs, done.orders) == (1, 1) and done.size_bytes > 4 * KIB
    assert [path.exists() for path in old] == [False] * 3 and all(path.exists() for path in young)


def test_above_the_size_the_oldest_go_and_their_orders_are_remembered(home: Home) -> None:
    first = home.order("aa", days=3, kib=50)
    second, third = home.job("job", days=2, kib=100), home.order("bb", days=1, kib=50)
    done = home.prune(keep_bytes=150 * KIB)
    assert (done.jobs, done.orders) == (1, 1)
    assert [path.name for path in first.iterdir()] == ["memory.json"] and not second.exists()
    assert (third / "train.safetensors").exists()


@pytest.mark.parametrize("memory", ['{"finished": false}', '{"job_id": "needed"}', "", "[]", '{"finished": 1}'])
def test_an_order_that_may_have_salts_to_lose_is_never_touched(memory: str, home: Home) -> None:
    folder = home.order("aa", days=900, kib=500)
    (folder / "memory.json").write_text(memory)
    assert home.prune(keep_s=0, keep_bytes=0) == Pruned(jobs=0, orders=0, size_bytes=0)
    assert (folder / "memory.json").read_text() == memory and (folder / "train.safetensors").exists()


def test_a_job_that_runs_or_that_an_order_needs_stays(home: Home) -> None:
    needed, running = home.job("needed", days=90, state="failed"), home.job("running", days=90, state="running")
    resumed = home.job("resumed", days=90)
    home.order("aa", days=90, finished=False, job_id="needed")
    held = [acquire_lock(folder / "lock") for folder in (running, resumed)]
    assert home.prune(keep_s=0, keep_bytes=0).jobs == 0
    assert needed.exists() and running.exists() and resumed.exists()
    for lock in held:
        os.close(lock)
    assert home.prune(keep_s=0, keep_bytes=0).jobs == 2  # `running` is lost now
    assert needed.exists() and not running.exists()


def test_a_dry_run_says_the_same_and_removes_nothing(home: Home) -> None:
    folders = [home.job("old", days=31), home.order("aa", days=31)]
    said = home.prune(dry_run=True)
    assert all(folder.exists() for folder in folders) and said == home.prune()


def test_what_a_killed_prune_left_is_removed_by_the_next(home: Home) -> None:
    left = [home.folder / "jobs" / ".removed-1", home.order("aa", days=1) / ".removed-2"]
    for path in left:
        path.mkdir(parents=True)
        (path / "big").write_bytes(b"x")
    home.prune()
    assert not any(path.exists() for path in left)


def test_one_process_prunes_at_a_time(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.job("old", days=31)
    with locked(home.folder / ".prune.lock"):
        with pytest.raises(FileLocked):
            home.prune()
        prune_quietly(home.folder, keep_s=0.0, keep_bytes=0)
    assert (home.folder / "jobs" / "old").exists()
    prune_quietly(home.folder, keep_s=0.0, keep_bytes=0)
    assert not (home.folder / "jobs" / "old").exists()


def test_a_home_that_is_not_there_needs_no_pruning(home: Home) -> None:
    assert home.prune() == Pruned(jobs=0, orders=0, size_bytes=0) and not home.folder.exists()


def test_a_linked_download_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "blob").write_bytes(bytes(10 * KIB))
    os.link(tmp_path / "a" / "blob", tmp_path / "b" / "blob")
    assert size_of(tmp_path / "a") == size_of(tmp_path / "b") == 5 * KIB


def test_a_loop_prunes_its_home(
    market: Any, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    from pot_lab.jobs import order_files
    from tests.jobs.test_provider import Bench

    bench, done = Bench(market, store, tmp_path / "home"), []
    monkeypatch.setattr(order_files, "prune_quietly", lambda home, **_: done.append(home))
    bench.loop.step()
    assert done == []
    bench.later(order_files.FIRST_PRUNE_MS)
    until(lambda: done)
    bench.later(order_files.PRUNE_MS - 1)
    assert done == [tmp_path / "home"]
    bench.later(1)
    until(lambda: len(done) == 2)
