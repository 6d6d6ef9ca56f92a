"""Files that survive a crash, and locks between processes.

After a crash or a power cut at any moment, a file replaced here is the old one or the new one, whole. A lock is held
by an open descriptor (`flock`), so the operating system frees it when its last holder dies. Must not know what the
files hold.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from pot_lab.errors import PotLabError

_RETRY_S = 0.02
_WAYS_OUT = {
    errno.ENOSPC: "room on that disk",
    errno.EDQUOT: "room within your quota on that disk",
    errno.EFBIG: "files of that size to be allowed there",
    errno.EROFS: "a disk that can be written",
    errno.EACCES: "a folder that you may write",
    errno.EPERM: "a folder that you may write",
    errno.ENOTDIR: "a folder, where a file stands",
    errno.EEXIST: "a folder, where a file stands",
}


class FileLocked(PotLabError):
    """Another process, or another descriptor of this one, holds the lock on a file.

    What to do: stop the other process; a lock of a process that ended is gone with it.
    """


class CannotWrite(PotLabError):
    """Something that must be kept cannot be written: the disk is full or read-only, or the folder is another user's.

    What to do: make room or mend what the message names, or choose another folder with `POT_LAB_HOME`.
    """


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Name what a `with` block was about to write, where the system does not let it.

    Args:
        what: in words, as in "the files of a testnet".
        folder: where, for a refusal that names no file.
    Raises:
        CannotWrite: no room, no permission, a read-only disk, or a file in a folder's place. Other errors pass.
    """
    try:
        yield
    except OSError as error:
        refusal = cannot_write(what, error, folder)
        if refusal is None:
            raise
        raise refusal from error


def cannot_write(what: str, error: OSError, folder: Path | None = None) -> CannotWrite | None:
    """The refusal that an error of the system stands for; None where it is no refusal to write."""
    place = error.filename if error.filename is not None else folder
    way_out = _WAYS_OUT.get(error.errno or 0)
    if way_out is None or place is None:
        return None
    return CannotWrite(
        f"{what} cannot be written: {error.strerror}",
        seen=os.fsdecode(place),
        wanted=f"{way_out}, or another folder by POT_LAB_HOME",
    )


def replace_durably(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write `data` to `path`, in place of what is there; on return the new file survives a power cut.

    The bytes go to a temporary file `.NAME.RANDOM.tmp` in the same folder, are synced, take the name in one step, and
    the folder is synced.

    Args:
        path: the file; its folder must exist.
        data: the whole new content.
        mode: permission bits, as in `0o600`; by default those of the file that is replaced, or of a new file under the
            process's umask.

    Raises:
        OSError: the disk or the folder refused. The old file is then still there, whole, and the temporary one is
            removed; only where syncing the folder failed may the new file stand there already.

    Example:
        >>> replace_durably(Path("state.json"), b'{"state": "done"}', mode=0o600)
    """
    if mode is None:
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(path.stat().st_mode)
    temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(8)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.fchmod(handle, mode)  # the umask has masked what `os.open` was given
            file.write(data)
        move_durably(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move_durably(source: Path, target: Path) -> None:
    """Give the file `source` the name `target`, on the same file system, in place of what is there; content, name and
    folder are synced.

    Raises:
        OSError: as of `replace_durably`.
    """
    # Opened before the rename: with no descriptor left, nothing is replaced rather than replaced without a sync.
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with source.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(source, target)
        _sync_folder(folder)
    finally:
        os.close(folder)


def sync_directory(path: Path) -> None:
    """Wait until the disk has a directory's entries. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync_folder(folder)
    finally:
        os.close(folder)


def _sync_folder(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems sync no directories
            raise


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for this account alone (mode 0700).

    A folder that is there already loses what others may do with it; those above it stay as they are. Raises OSError.
    """
    for parent in reversed(path.parents):
        if not parent.exists():
            with contextlib.suppress(FileExistsError):  # another process made it
                parent.mkdir(mode=0o700)
    path.mkdir(mode=0o700, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        path.chmod(mode & 0o700)


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock on an open file; False, at once, when another descriptor has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire_lock(path: Path, *, timeout_s: float = 0.0) -> int:
    """Open the lock file `path`, made with mode 0600 if missing, and take its exclusive lock.

    Args:
        path: the lock file; its folder must exist.
        timeout_s: how long to wait for another holder; at least one second where others call `is_locked`, which holds
            the lock for an instant.

    Returns: the descriptor. The lock is free again when it and every copy that a child process inherited are closed.

    Raises:
        FileLocked: somebody else still has it after `timeout_s`.
        OSError: the file cannot be opened, or the file system has no locks.
    """
    deadline = time.monotonic() + timeout_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise FileLocked("another process holds the lock", seen=str(path))
            time.sleep(_RETRY_S)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold the exclusive lock of the lock file `path` for a `with` block; arguments and errors as of `acquire_lock`."""
    descriptor = acquire_lock(path, timeout_s=timeout_s)
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of this lock file; False where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who look do not see each other
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
