"""Replaced files are old or new, never half, whatever fails in between; locks exclude and end with their holder."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pot_lab import files
from pot_lab.errors import PotLabError
from pot_lab.files import (
    CannotWrite,
    FileLocked,
    acquire_lock,
    is_locked,
    locked,
    move_durably,
    replace_durably,
    sync_directory,
    try_lock,
    writing,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask_022():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order."""
    seen: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        seen.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return seen


def test_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path: Path, calls: list[str]) -> None:
    replace_durably(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"
    assert calls == ["sync file", "rename", "sync folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("step", ["fsync", "replace", "fchmod", "write"])
def test_a_failure_at_any_step_leaves_the_old_file_and_no_other(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    if step == "write":
        real = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda handle, mode: real(handle, "rb"))  # refuses to be written to
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError):
        replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from pot_lab.files import replace_durably\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "replace_durably(Path(sys.argv[1]), b'new')\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    replace_durably(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_a_new_file_has_the_umasks_mode_and_a_replaced_one_keeps_its_own(tmp_path: Path, umask_022: None) -> None:
    path = tmp_path / "blob"
    replace_durably(path, b"1")
    assert mode_of(path) == 0o644
    path.chmod(0o660)
    replace_durably(path, b"2")
    assert mode_of(path) == 0o660
    replace_durably(path, b"3", mode=0o600)
    assert mode_of(path) == 0o600
    replace_durably(tmp_path / "open", b"4", mode=0o666)
    assert mode_of(tmp_path / "open") == 0o666


def test_a_temporary_file_is_never_readable_by_others_when_the_file_is_private(
    tmp_path: Path, umask_022: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    real = os.fchmod

    def look(handle: int, mode: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        real(handle, mode)

    monkeypatch.setattr(os, "fchmod", look)
    replace_durably(tmp_path / "key", b"secret", mode=0o600)
    assert modes == [0o600]


def test_a_very_long_name_is_replaced_too(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    replace_durably(path, b"long")
    assert path.read_bytes() == b"long"


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_durably(tmp_path / "none" / "state", b"")


def test_moving_syncs_file_and_folder(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "part").write_bytes(b"whole")
    move_durably(tmp_path / "part", tmp_path / "final")
    assert calls == ["sync file", "rename", "sync folder"]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("final", b"whole")]


def test_without_a_descriptor_for_the_folder_nothing_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_folders(path: object, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECTORY:
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, flags, mode)  # type: ignore[arg-type]

    (tmp_path / "state").write_bytes(b"old")
    monkeypatch.setattr(os, "open", no_folders)
    with pytest.raises(OSError):
        replace_durably(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"old"


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_only_a_file_system_that_cannot_sync_folders_is_excused(
    number: int, raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "fsync", fsync)
    if raises:
        with pytest.raises(OSError):
            sync_directory(tmp_path)
    else:
        sync_directory(tmp_path)


def test_a_folder_that_cannot_be_synced_is_named_and_the_new_file_may_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "the disk failed")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="the disk failed"):
        replace_durably(tmp_path / "state", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_lock_excludes_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        assert mode_of(path) & 0o077 == 0
        with pytest.raises(FileLocked, match="lock"), locked(path):
            pass
        other = os.open(path, os.O_RDWR)
        assert not try_lock(other)
    assert not is_locked(path)
    assert try_lock(other) and is_locked(path)
    os.close(other)
    assert not is_locked(path)


def test_a_refused_lock_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(FileLocked):
                acquire_lock(tmp_path / "lock")
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_is_released_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    assert not is_locked(tmp_path / "lock")


def test_whoever_has_time_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    first = acquire_lock(tmp_path / "lock")
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(acquire_lock(tmp_path / "lock", timeout_s=240)))
    waiter.start()
    os.close(first)
    waiter.join()
    assert is_locked(tmp_path / "lock")
    os.close(got[0])


def test_a_lock_dies_with_the_process_that_holds_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from pot_lab.files import acquire_lock\n"
        "acquire_lock(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_locked(tmp_path / "lock")
    holder.kill()
    holder.wait(240)
    holder.stdin.close()
    holder.stdout.close()
    assert not is_locked(tmp_path / "lock")


def test_looking_takes_no_lock_from_others_who_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").touch()
    seen: list[bool] = []
    real = files.fcntl.flock

    def look_meanwhile(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if not seen:
            seen.append(True)
            seen[0] = is_locked(tmp_path / "lock")

    monkeypatch.setattr(files.fcntl, "flock", look_meanwhile)
    assert not is_locked(tmp_path / "lock")
    assert seen == [False]


def test_a_full_disk_is_named_with_what_was_to_be_written_and_a_way_out(tmp_path: Path) -> None:
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closed below
    with pytest.raises(CannotWrite) as told, writing("the files of a testnet", tmp_path), full:
        full.write(b"anything")
    assert told.value.message == "the files of a testnet cannot be written: No space left on device"
    assert told.value.seen == str(tmp_path) and told.value.wanted == (
        "room on that disk, or another folder by POT_LAB_HOME"
    )


def test_a_file_in_a_folders_place_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(CannotWrite, match="Not a directory") as told, writing("a job's folder", tmp_path):
        (tmp_path / "home" / "jobs").mkdir()
    assert told.value.seen == str(tmp_path / "home" / "jobs")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM, errno.EFBIG])
def test_every_refusal_to_write_is_named(number: int, tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match=os.strerror(number)), writing("it", tmp_path):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), FileNotFoundError(2, "gone"), PotLabError("x")]
)
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as told, writing("it", tmp_path):
        raise error
    assert told.value is error
