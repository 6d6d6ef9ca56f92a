"""The folder of downloads: shared, streamed to, kept private and read-only, and never without an end."""

from __future__ import annotations

import hashlib
import os
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.files import acquire_lock
from pot_lab.store import LinkDead, Store, StoreFull, TooBig, WrongHash, fetch
from pot_lab.store.cache import prune_cache

BLOB = bytes(range(251)) * 4000


def link_to(data: bytes, uri: str = "http://127.0.0.1:1/gone") -> Link:
    return Link(digest=hashlib.sha256(data).digest(), size_bytes=len(data), uri=uri)


def test_a_blob_becomes_a_file_for_its_owner_alone_that_nobody_changes_by_mistake(tmp_path: Path) -> None:
    link, cache = Store(tmp_path / "far").put(BLOB), tmp_path / "cache"
    path = Store(tmp_path / "near").fetch_file(link, limit_bytes=1 << 20, timeout_s=60, cache_dir=cache)
    assert path.read_bytes() == BLOB and path.parent == cache
    assert stat.S_IMODE(path.stat().st_mode) == 0o400 and stat.S_IMODE(cache.stat().st_mode) == 0o700
    again = Store(tmp_path / "near").fetch_file(link_to(BLOB), limit_bytes=1 << 20, timeout_s=60, cache_dir=cache)
    assert again == path  # the link is dead, the cache is not asked twice


def test_a_cached_blob_that_was_changed_is_fetched_again(tmp_path: Path) -> None:
    link, cache = Store(tmp_path / "far").put(BLOB), tmp_path / "cache"
    path = Store(tmp_path / "far").fetch_file(link, limit_bytes=1 << 20, timeout_s=60, cache_dir=cache)
    path.chmod(0o600)
    path.write_bytes(BLOB[::-1])
    assert Store(tmp_path / "far").fetch(link, limit_bytes=1 << 20, timeout_s=60, cache_dir=cache) == BLOB


def test_a_download_that_another_process_holds_is_made_beside_it(tmp_path: Path) -> None:
    link, cache = Store(tmp_path / "far").put(BLOB), tmp_path / "cache"
    cache.mkdir()
    held = acquire_lock(cache / f".{link.digest.hex()}.part")
    path = Store(tmp_path / "near").fetch_file(link, limit_bytes=1 << 20, timeout_s=60, cache_dir=cache)
    os.close(held)
    assert path.read_bytes() == BLOB
    assert sorted(one.name for one in cache.iterdir()) == sorted([f".{link.digest.hex()}.part", link.digest.hex()])


def test_refusals_come_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(TooBig):
        Store(tmp_path / "s").fetch_file(link_to(BLOB), limit_bytes=9, timeout_s=60, cache_dir=tmp_path / "cache")
    with pytest.raises(LinkDead):
        Store(tmp_path / "s").fetch_file(link_to(BLOB), limit_bytes=1 << 20, timeout_s=60, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "s").exists()


def test_a_large_blob_never_lies_in_memory(tmp_path: Path) -> None:
    size_bytes = 96 << 20
    with open(tmp_path / "zeros", "w+b") as file:
        file.truncate(size_bytes)
        digest = hashlib.file_digest(file, "sha256").digest()
    link = Link(digest=digest, size_bytes=size_bytes, uri=f"file://{tmp_path}/zeros")
    store = Store(tmp_path / "near")
    tracemalloc.start()
    try:
        path = store.fetch_file(link, limit_bytes=1 << 30, timeout_s=600, cache_dir=tmp_path / "cache")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == size_bytes and peak_bytes < 16 << 20


def test_what_did_not_fit_on_the_disk_does_not_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pot_lab.store import download as blobs

    def full(link: Link, file, transfer) -> None:
        file.write(BLOB[:1000])
        file.flush()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs, "_download", full)
    with pytest.raises(StoreFull):
        fetch(link_to(BLOB), limit_bytes=1 << 20, timeout_s=60, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_wrong_bytes_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(BLOB[::-1])
    with pytest.raises(WrongHash):
        fetch(
            link_to(BLOB, f"file://{tmp_path}/other"), limit_bytes=1 << 20, timeout_s=60, cache_dir=tmp_path / "cache"
        )
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., Path]:
    def fill(**sizes: int) -> Path:
        """Files of the cache by name, the first one used longest ago."""
        folder = tmp_path / "cache"
        folder.mkdir()
        for age, (name, size_bytes) in enumerate(reversed(sizes.items())):
            (folder / name.replace("_", ".")).write_bytes(bytes(size_bytes))
            os.utime(folder / name.replace("_", "."), (1000 - age, 1000 - age))
        return folder

    return fill


def test_the_cache_keeps_what_was_used_last_within_its_size(filled: Callable[..., Path]) -> None:
    folder = filled(a=400, b=300, c=300, d_part=200)
    assert prune_cache(folder, limit_bytes=600, age_s=100, now_s=lambda: 1000.0) == 700
    assert sorted(path.name for path in folder.iterdir()) == ["c", "d.part"]


def test_the_cache_forgets_what_was_not_used_for_long(filled: Callable[..., Path]) -> None:
    folder = filled(a=1, b=1, c=1)
    assert prune_cache(folder, limit_bytes=1000, age_s=1.5, now_s=lambda: 1000.0) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["b", "c"]
    assert prune_cache(folder.parent / "none") == 0


def test_a_download_that_runs_is_not_pruned(filled: Callable[..., Path]) -> None:
    folder = filled(a_part=10)
    held = acquire_lock(folder / "a.part")
    assert prune_cache(folder, limit_bytes=0, age_s=0) == 0 and (folder / "a.part").exists()
    os.close(held)
    assert prune_cache(folder, limit_bytes=0, age_s=0) == 10 and not (folder / "a.part").exists()
