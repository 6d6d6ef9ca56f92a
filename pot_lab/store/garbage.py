"""An end for the blobs of a folder: what no order names any more, nobody pinned, and nobody put for a while.

The room knows no ledger: who collects says what is named. Age protects what is put before its order is: every put of
a blob that is there already makes it young again. A server may serve the folder meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pot_lab.files import locked, writing
from pot_lab.store.errors import LinkDead

DAY_S = 86_400.0
KEEP_S = 7 * DAY_S
LEAST_KEEP_S = DAY_S
"""Longer than any client takes from its first upload to its order."""
_PINS, _LOCK = ".pins", ".garbage.lock"
_NAME = re.compile("[0-9a-f]{64}")


class Collected(NamedTuple):
    """How many blobs were removed, or would be, and how many bytes they had."""

    blobs: int
    size_bytes: int


def collect(
    root: Path,
    named: Collection[bytes],
    *,
    keep_s: float = KEEP_S,
    dry_run: bool = False,
    now_s: Callable[[], float] = time.time,
) -> Collected:
    """Remove blobs that are neither named nor pinned, and that nobody has put for `keep_s` seconds.

    Args:
        root: the store's folder.
        named: SHA-256 of what is needed, 32 bytes each; all of it must be known when the oldest that is removed was
            put, so ask for it first.
        keep_s: how long a blob stays by age alone.
        dry_run: only count.
        now_s: the time, seconds since 1970.
    Raises:
        LinkDead: there is no such folder.
        FileLocked: another process collects there now.
        CannotWrite: the folder cannot be changed.
    """
    if not root.is_dir():
        raise LinkDead("there is no folder of blobs here", seen=str(root))
    blobs = size_bytes = 0
    with writing("a store's folder", root), locked(root / _LOCK):
        oldest_s, kept = now_s() - keep_s, {each.hex() for each in (*named, *pinned(root))}
        for path in sorted(root.iterdir()):
            if not _NAME.fullmatch(path.name) or path.name in kept:
                continue
            with contextlib.suppress(FileNotFoundError):  # its owner was faster
                status = path.stat()
                if status.st_mtime < oldest_s and (dry_run or _remove(path, oldest_s)):
                    blobs, size_bytes = blobs + 1, size_bytes + status.st_size
    return Collected(blobs, size_bytes)


def pin(root: Path, digest: bytes) -> None:
    """Keep a blob whatever the ledger says, also one that is not here yet; raises CannotWrite."""
    with writing("a pin", root):
        (root / _PINS).mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / _PINS / digest.hex()).touch(mode=0o600)


def unpin(root: Path, digest: bytes) -> bool:
    """Keep it no longer than it is named; False where it was not pinned. Raises CannotWrite."""
    with writing("a pin", root):
        try:
            (root / _PINS / digest.hex()).unlink()
        except FileNotFoundError:
            return False
    return True


def pinned(root: Path) -> Iterator[bytes]:
    """SHA-256 of every blob that is pinned."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted((root / _PINS).iterdir()):
            if _NAME.fullmatch(path.name):
                yield bytes.fromhex(path.name)


def _remove(path: Path, oldest_s: float) -> bool:
    """Remove a blob, but not one that was put while this looked: aside, nobody can make it young again."""
    aside = path.with_name(f".{path.name}.garbage.tmp")
    os.rename(path, aside)
    is_old = aside.stat().st_mtime < oldest_s
    if not is_old:
        with contextlib.suppress(FileExistsError):  # it was put anew meanwhile
            os.link(aside, path)
    aside.unlink()
    return is_old
