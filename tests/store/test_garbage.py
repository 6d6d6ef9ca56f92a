"""What no order names, nobody pinned and nobody put for a while ends; all else stays, whoever writes meanwhile."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.files import FileLocked, locked
from pot_lab.store import LinkDead, Store
from pot_lab.store import garbage as garbage_module
from pot_lab.store.garbage import DAY_S, KEEP_S, Collected, collect, pin, pinned, unpin
from pot_lab.store.server import BlobServer

NOW_S = 2_000_000_000.0


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., bytes]:
    """Puts a blob that was put so long ago; returns its SHA-256."""

    def one(data: bytes, age_s: float = KEEP_S + 1) -> bytes:
        digest = Store(tmp_path).put(data).digest
        os.utime(tmp_path / digest.hex(), (NOW_S - age_s,) * 2)
        return digest

    return one


def now() -> float:
    return NOW_S


def test_only_what_is_old_and_neither_named_nor_pinned_goes(tmp_path: Path, put: Callable[..., bytes]) -> None:
    gone, named, kept, young = put(b"gone"), put(b"named"), put(b"pinned"), put(b"young", KEEP_S - 1)
    pin(tmp_path, kept)
    assert collect(tmp_path, {named}, now_s=now, dry_run=True) == Collected(1, len(b"gone"))
    assert (tmp_path / gone.hex()).exists()
    assert collect(tmp_path, {named}, now_s=now) == Collected(1, len(b"gone"))
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {each.hex() for each in (named, kept, young)}
    assert collect(tmp_path, set(), keep_s=DAY_S, now_s=now).blobs == 2
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [kept.hex()]


def test_what_is_unpinned_goes_and_a_blob_that_is_to_come_may_be_pinned(
    tmp_path: Path, put: Callable[..., bytes]
) -> None:
    digest = digest_of(b"later")
    pin(tmp_path, digest)
    assert list(pinned(tmp_path)) == [digest] == [put(b"later")]
    assert collect(tmp_path, (), now_s=now).blobs == 0
    assert unpin(tmp_path, digest) and not unpin(tmp_path, digest)
    assert collect(tmp_path, (), now_s=now) == Collected(1, len(b"later"))


@pytest.mark.parametrize("way", ["bytes", "file"])
def test_who_puts_what_is_there_already_makes_it_young(tmp_path: Path, put: Callable[..., bytes], way: str) -> None:
    digest = put(b"again")
    if way == "bytes":
        Store(tmp_path).put(b"again")
    else:
        (tmp_path / "own").write_bytes(b"again")
        Store(tmp_path).put_file(tmp_path / "own")
    assert (tmp_path / digest.hex()).stat().st_mtime != NOW_S - KEEP_S - 1
    os.utime(tmp_path / digest.hex(), (NOW_S - 1,) * 2)
    assert collect(tmp_path, (), now_s=now).blobs == 0


def test_what_is_put_while_it_is_about_to_go_stays(
    tmp_path: Path, put: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, remove = put(b"in this moment"), garbage_module._remove

    def put_first(path: Path, oldest_s: float) -> bool:
        os.utime(path, (NOW_S, NOW_S))
        return remove(path, oldest_s)

    monkeypatch.setattr(garbage_module, "_remove", put_first)
    assert collect(tmp_path, (), now_s=now) == Collected(0, 0)
    assert Store(tmp_path).put(b"in this moment").digest == digest
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_files_that_are_no_blobs_are_left_alone(tmp_path: Path) -> None:
    names = ["notes.txt", ".lock", "A" * 64, "a" * 63]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    assert collect(tmp_path, (), now_s=now) == Collected(0, 0)
    assert {path.name for path in tmp_path.iterdir()} >= set(names)


def test_a_folder_that_is_not_there_is_named_and_two_do_not_collect_at_once(tmp_path: Path) -> None:
    with pytest.raises(LinkDead, match="no folder of blobs"):
        collect(tmp_path / "none", ())
    with locked(tmp_path / garbage_module._LOCK), pytest.raises(FileLocked):
        collect(tmp_path, ())


def test_a_server_goes_on_beside_it_and_has_the_room_again(tmp_path: Path) -> None:
    server = BlobServer(tmp_path / "blobs", total_limit_bytes=100)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        store = Store(f"http://127.0.0.1:{server.port}")
        old = store.put(bytes(80))
        os.utime(tmp_path / "blobs" / old.digest.hex(), (0, 0))
        assert collect(tmp_path / "blobs", ()) == Collected(1, 80)
        server.room.recount()
        new = store.put(b"\1" * 80)
        assert store.fetch(new, limit_bytes=100, timeout_s=60) == b"\1" * 80
        assert server.state()["blobs"] == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
