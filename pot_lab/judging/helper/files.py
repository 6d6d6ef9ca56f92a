"""Reading this host's copies of blobs: regular files only, bounded before they are read."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from pot_lab.errors import Oversize, PotLabError


class CopyDamaged(PotLabError):
    """This host's copy of a file is missing, or holds other bytes than the id names, so nothing can be judged by it.

    What to do: check the aggregator's disk; the copy is fetched again.
    """


def check_file(path: str, limit_bytes: int, what: str) -> int:
    """Size in bytes of a regular file.

    Args:
        what: how to call it in messages.
    Raises:
        CopyDamaged: there is none, or it is no regular file.
        Oversize: it is larger than the limit; nothing was read.
    """
    try:
        found = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError) as error:
        raise CopyDamaged(f"the {what} cannot be read", seen=type(error).__name__) from error
    if not stat.S_ISREG(found.st_mode):
        raise CopyDamaged(f"the {what} is no regular file")
    if found.st_size > limit_bytes:
        raise Oversize(f"the {what} is too large", seen=f"{found.st_size} bytes", wanted=f"at most {limit_bytes} bytes")
    return found.st_size


def read_copy(path: str, limit_bytes: int, what: str) -> bytes:
    """The bytes of a file. Raises as `check_file`."""
    size = check_file(path, limit_bytes, what)
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise CopyDamaged(f"the {what} cannot be read", seen=type(error).__name__) from error


def sha256_of_file(path: str, limit_bytes: int, what: str) -> bytes:
    """SHA-256 of a file, 32 bytes; holds one chunk at a time. Raises as `check_file`."""
    check_file(path, limit_bytes, what)
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise CopyDamaged(f"the {what} cannot be read", seen=type(error).__name__) from error
