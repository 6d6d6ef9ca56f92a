"""A folder of downloaded blobs, which several processes may share: finished ones by their SHA-256, and beginnings.

A finished blob is read-only, so that whoever links to it does not change it by mistake; it is checked again whenever it
is used. `prune_cache` gives the folder an end: it removes what was not used for long, and the oldest above a size.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pot_lab.crypto.link import Link
from pot_lab.files import make_private_folder, move_durably, try_lock
from pot_lab.store.errors import StoreFull, WrongHash
from pot_lab.store.transport import raise_if_full

CACHE_LIMIT_BYTES = 8 << 30
CACHE_AGE_S = 7 * 86_400.0

Transfer = Callable[[Link, IO[bytes]], None]
"""Completes and checks a file that may hold a blob's beginning."""


def in_cache(link: Link, folder: Path, transfer: Transfer) -> Path:
    """The path of a blob in the cache, where `transfer` brought it if it was not there.

    Raises:
        StoreFull: no room; what had arrived is removed, so that it does not keep others from the room.
        WrongHash, TooSlow, LinkDead, ...: what `transfer` raises.
    """
    try:
        return _in_cache(link, folder, transfer)
    except OSError as error:
        try:
            raise_if_full(error, folder)
        except StoreFull:
            _part(link, folder).unlink(missing_ok=True)
            raise
        raise


def _in_cache(link: Link, folder: Path, transfer: Transfer) -> Path:
    make_private_folder(folder)
    final, part = folder / link.digest.hex(), _part(link, folder)
    while True:
        if _is_whole(final, link):
            with contextlib.suppress(OSError):  # another process pruned it; its next user fetches it again
                os.utime(final)
            return final
        with open(part, "a+b", opener=_privately) as file:
            if not try_lock(file.fileno()):  # another process downloads this very blob: do not mix the two
                return _beside(link, folder, transfer)
            if not _is_at(file, part):
                continue  # between our open and our lock another process finished the blob and moved it away
            try:
                transfer(link, file)
            except WrongHash:
                part.unlink(missing_ok=True)
                raise
            file.flush()
            os.fchmod(file.fileno(), 0o400)
            move_durably(part, final)
            return final


def _beside(link: Link, folder: Path, transfer: Transfer) -> Path:
    """Download under another name, to be there even if the other process never ends."""
    own = folder / f".{link.digest.hex()}.{secrets.token_hex(4)}.part"
    try:
        with open(own, "a+b", opener=_privately) as file:
            transfer(link, file)
            file.flush()
            os.fchmod(file.fileno(), 0o400)
        move_durably(own, folder / link.digest.hex())
    finally:
        own.unlink(missing_ok=True)
    return folder / link.digest.hex()


def _part(link: Link, folder: Path) -> Path:
    return folder / f".{link.digest.hex()}.part"


def _is_whole(path: Path, link: Link) -> bool:
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            return size_bytes == link.size_bytes and hashlib.file_digest(file, "sha256").digest() == link.digest
    except FileNotFoundError:
        return False


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def prune_cache(
    folder: Path,
    *,
    limit_bytes: int = CACHE_LIMIT_BYTES,
    age_s: float = CACHE_AGE_S,
    now_s: Callable[[], float] = time.time,
) -> int:
    """Remove blobs and beginnings that were not used for `age_s` seconds, then the oldest until the rest takes at most
    `limit_bytes`; returns how many bytes were removed. Downloads that run are left alone.
    """
    if not folder.is_dir():
        return 0
    found: list[tuple[float, int, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    found.sort()
    total_bytes, removed_bytes, oldest_s = sum(size for _, size, _ in found), 0, now_s() - age_s
    for used_s, size_bytes, path in found:
        if used_s >= oldest_s and total_bytes - removed_bytes <= limit_bytes:
            break
        if path.suffix == ".part" and _is_in_use(path):
            continue
        path.unlink(missing_ok=True)
        removed_bytes += size_bytes
    return removed_bytes


def _is_in_use(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return not try_lock(file.fileno())
    except FileNotFoundError:
        return True
