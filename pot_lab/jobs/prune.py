"""An end for what a miner keeps: jobs and orders that are over, by age and by size, and its downloads.

Only what is over is touched: no job whose process lives, no order that a loop still tends (its salts are worth a
bond), and no job of such an order. An order that is removed for its size alone keeps its memory, so that it is not
begun again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pot_lab.files import FileLocked, locked
from pot_lab.jobs import registry
from pot_lab.jobs.memory import FILE_NAME
from pot_lab.store.cache import prune_cache

log = logging.getLogger(__name__)

DAY_S = 86_400.0
KEEP_S = 30 * DAY_S
KEEP_BYTES = 64 << 30
_TRASH = ".removed-"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A job or an order that is over.

    Attributes:
        path: its folder.
        ended_s: when it ended, seconds since 1970.
        size_bytes: what it takes on the disk.
        is_job: whether it is a job.
    """

    path: Path
    ended_s: float
    size_bytes: int
    is_job: bool


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed, or would be: how many jobs and orders, and how many bytes with downloads."""

    jobs: int
    orders: int
    size_bytes: int


def prune(
    home: Path,
    *,
    keep_s: float = KEEP_S,
    keep_bytes: int = KEEP_BYTES,
    dry_run: bool = False,
    now_s: Callable[[], float] = time.time,
) -> Pruned:
    """Remove what ended longer than `keep_s` seconds ago, then the oldest until the rest takes at most `keep_bytes`.

    Args:
        home: `$POT_LAB_HOME`.
        keep_s, keep_bytes: what may stay.
        dry_run: only say what would be removed.
        now_s: the time, seconds since 1970.

    Raises:
        FileLocked: another process prunes this home now.
        OSError: a folder cannot be read.
    """
    work = home / "work"
    with contextlib.ExitStack() as stack:
        if home.is_dir():
            stack.enter_context(locked(home / ".prune.lock"))
        _empty_trash(home)
        kept = sorted((*_jobs_over(home), *_orders_over(work)), key=lambda one: (one.ended_s, one.path))
        total_bytes, oldest_s = sum(one.size_bytes for one in kept), now_s() - keep_s
        jobs = orders = removed_bytes = 0
        for one in kept:
            old = one.ended_s < oldest_s
            if not old and total_bytes - removed_bytes <= keep_bytes:
                break
            if not dry_run and not _remove(one, whole=old or one.is_job):
                continue
            removed_bytes += one.size_bytes
            jobs, orders = jobs + one.is_job, orders + (not one.is_job)
        if not dry_run:
            removed_bytes += prune_cache(
                work / "blobs",
                age_s=keep_s,
                limit_bytes=max(0, keep_bytes - (total_bytes - removed_bytes)),
                now_s=now_s,
            )
    return Pruned(jobs=jobs, orders=orders, size_bytes=removed_bytes)


def _jobs_over(home: Path) -> Iterator[Kept]:
    needed = set(_jobs_needed(home / "work"))
    for job in registry.find(home):
        if job.id in needed or job.state == "running":
            continue
        record = job.record()
        ended_ms = record.get("ended_ms") or record.get("started_ms") or job.created_ms
        yield Kept(path=job.directory, ended_s=ended_ms / 1000, size_bytes=size_of(job.directory), is_job=True)


def _memories(work: Path) -> Iterator[tuple[Path, dict[str, object] | None]]:
    for path in work.glob(f"*/*/{FILE_NAME}"):
        try:
            memory = json.loads(path.read_bytes())
        except (OSError, ValueError):
            memory = None
        yield path, memory if isinstance(memory, dict) else None


def _jobs_needed(work: Path) -> Iterator[str]:
    for _, memory in _memories(work):
        if memory is not None and not memory.get("finished"):
            yield str(memory.get("job_id", ""))


def _orders_over(work: Path) -> Iterator[Kept]:
    for path, memory in _memories(work):
        if memory is None or memory.get("finished") is not True:  # a memory that cannot be read may hold salts
            continue
        size_bytes = size_of(path.parent)
        with contextlib.suppress(FileNotFoundError):
            yield Kept(path=path.parent, ended_s=path.stat().st_mtime, size_bytes=size_bytes, is_job=False)


def size_of(folder: Path) -> int:
    """What the files below a folder take, in bytes."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(base, name))
                total += status.st_size // max(1, status.st_nlink)  # a download that is linked counts by its share
    return total


def _remove(one: Kept, *, whole: bool) -> bool:
    """Remove a folder, or all of it but its memory; returns whether that was done."""
    if one.is_job:
        lock = registry.take_lock(one.path)
        if lock is None:  # resumed a moment ago
            return False
        try:
            _throw_away(one.path)
        finally:
            os.close(lock)
        return True
    if whole:
        _throw_away(one.path)
        return True
    for path in one.path.iterdir():
        if path.name != FILE_NAME:
            _throw_away(path)
    return True


def _throw_away(path: Path) -> None:
    """Remove a file or folder: it is gone under its name at once, whatever happens meanwhile."""
    trash = path.with_name(f"{_TRASH}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(trash)
        _delete(trash)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _empty_trash(home: Path) -> None:
    for folder in (home / "jobs", *(home / "work").glob("*"), *(home / "work").glob("*/*")):
        if folder.is_dir():
            for trash in folder.glob(f"{_TRASH}*"):
                _delete(trash)


def prune_quietly(home: Path, *, keep_s: float, keep_bytes: int) -> None:
    """`prune` for a loop's thread: what goes wrong is logged."""
    try:
        done = prune(home, keep_s=keep_s, keep_bytes=keep_bytes)
    except (FileLocked, OSError) as error:
        log.info("event=not_pruned reason=%r", str(error))
        return
    if done.size_bytes:
        log.info("event=pruned jobs=%d orders=%d bytes=%d", done.jobs, done.orders, done.size_bytes)
