"""Putting and fetching: what arrives is what the link names, or a typed error says why not."""

from __future__ import annotations

import fcntl
import hashlib
import socket
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.errors import Malformed
from pot_lab.store import (
    Link,
    LinkDead,
    MissingExtra,
    Store,
    StoreFull,
    TooBig,
    TooSlow,
    UnusableAddress,
    WrongHash,
    fetch,
)

BLOB = bytes(range(256)) * 4096  # 1 MiB


def link_to(uri: str, data: bytes = BLOB) -> Link:
    return Link(digest=hashlib.sha256(data).digest(), size_bytes=len(data), uri=uri)


def ok(data: bytes, length: int | None = None) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(data) if length is None else length}\r\n\r\n".encode() + data


def partial(data: bytes, first: int) -> bytes:
    rest = data[first:]
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(rest)}\r\n"
    return (head + f"Content-Range: bytes {first}-{len(data) - 1}/{len(data)}\r\n\r\n").encode() + rest


def dead_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/blob"


@given(data=st.binary(max_size=5000))
def test_a_folder_returns_what_was_put(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = Store(tmp_path_factory.mktemp("folder") / "with space")
    link = store.put(data)
    assert link.size_bytes == len(data)
    assert link.digest == hashlib.sha256(data).digest()
    assert fetch(link, limit_bytes=5000, timeout_s=60) == data


def test_a_server_returns_what_was_put(serve) -> None:
    store = Store(serve().url)
    for data in (b"", b"x", BLOB):
        link = store.put(data)
        assert store.put(data) == link
        assert fetch(link, limit_bytes=len(BLOB), timeout_s=60) == data


def test_a_folder_heals_a_blob_that_rotted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    link = store.put(BLOB)
    (tmp_path / link.digest.hex()).write_bytes(BLOB[:-1] + b"?")
    with pytest.raises(WrongHash):
        fetch(link, limit_bytes=len(BLOB), timeout_s=60)
    store.put(BLOB)
    assert fetch(link, limit_bytes=len(BLOB), timeout_s=60) == BLOB


def test_a_link_above_the_limit_is_refused_before_anything_is_opened(scripted) -> None:
    server = scripted([ok(BLOB)])
    with pytest.raises(TooBig) as refusal:
        fetch(link_to(server.url), limit_bytes=len(BLOB) - 1, timeout_s=60)
    assert str(len(BLOB) - 1) in str(refusal.value)
    assert server.requests == []


def test_a_server_that_names_a_larger_size_is_refused(scripted) -> None:
    with pytest.raises(TooBig):
        fetch(link_to(scripted([ok(BLOB + b"!")]).url), limit_bytes=1 << 30, timeout_s=60)


def test_a_server_that_names_a_smaller_size_is_refused(scripted) -> None:
    with pytest.raises(WrongHash):
        fetch(link_to(scripted([ok(BLOB[:-1])]).url), limit_bytes=1 << 30, timeout_s=60)


def test_a_server_that_sends_more_than_promised_unannounced_is_cut_off(scripted) -> None:
    endless = scripted([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *[BLOB] * 64])
    with pytest.raises(WrongHash):
        fetch(link_to(endless.url), limit_bytes=1 << 30, timeout_s=60)


def test_other_bytes_of_the_right_size_are_refused(scripted) -> None:
    with pytest.raises(WrongHash) as refusal:
        fetch(link_to(scripted([ok(BLOB[::-1])]).url), limit_bytes=1 << 30, timeout_s=60)
    assert refusal.value.wanted == hashlib.sha256(BLOB).digest()


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone", "403 Forbidden"])
def test_a_refusing_server_is_a_dead_link_at_once(scripted, status: str) -> None:
    server = scripted([f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()])
    with pytest.raises(LinkDead):
        fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60)
    assert len(server.requests) == 1


def test_nobody_listening_is_a_dead_link() -> None:
    with pytest.raises(LinkDead):
        fetch(link_to(dead_address()), limit_bytes=1 << 30, timeout_s=60)


def test_a_busy_server_is_asked_again(scripted) -> None:
    busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    server = scripted([busy], [busy], [ok(BLOB)])
    assert fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60) == BLOB


def test_a_missing_file_and_a_folder_are_dead_links(tmp_path: Path) -> None:
    for uri in (f"file://{tmp_path}/nothing", f"file://{tmp_path}"):
        with pytest.raises(LinkDead):
            fetch(link_to(uri), limit_bytes=1 << 30, timeout_s=60)


def test_a_server_that_drips_is_given_up_when_the_whole_time_is_over(scripted) -> None:
    # each byte arrives well within any one read's patience; only the total is too long
    drip: list[bytes | float] = [b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"]
    for _ in range(3000):
        drip += [b"x", 0.02]
    with pytest.raises(TooSlow):
        fetch(link_to(scripted(drip).url), limit_bytes=1 << 30, timeout_s=1.0)


def test_a_server_that_never_ends_its_head_is_given_up(scripted) -> None:
    head: list[bytes | float] = [b"HTTP/1.1 200 OK\r\n"]
    for i in range(3000):
        head += [f"X-{i}: y\r\n".encode(), 0.02]
    with pytest.raises(TooSlow):
        fetch(link_to(scripted(head).url), limit_bytes=1 << 30, timeout_s=1.0)


def test_no_time_is_too_slow(tmp_path: Path) -> None:
    with pytest.raises(TooSlow):
        fetch(Store(tmp_path).put(BLOB), limit_bytes=1 << 30, timeout_s=0.0)


def test_a_broken_download_goes_on_where_it_stopped_within_one_call(scripted) -> None:
    cut = 300_000
    server = scripted([ok(BLOB[:cut], len(BLOB))], [partial(BLOB, cut)])
    assert fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60) == BLOB
    assert b"Range: bytes=300000-" in server.requests[1]


def test_a_broken_download_goes_on_in_the_next_call_through_the_cache(scripted, serve, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    real = Store(serve().url).put(BLOB)
    stuck = scripted([ok(BLOB[:400_000], len(BLOB)), 60.0])
    with pytest.raises(TooSlow):
        fetch(link_to(stuck.url), limit_bytes=1 << 30, timeout_s=2.0, cache_dir=cache)
    part = cache / f".{real.digest.hex()}.part"
    begun = part.stat().st_size
    assert 0 < begun <= 400_000
    assert fetch(real, limit_bytes=1 << 30, timeout_s=60, cache_dir=cache) == BLOB
    assert not part.exists()
    assert (cache / real.digest.hex()).read_bytes() == BLOB


def test_the_second_call_asks_only_for_the_rest(scripted, tmp_path: Path) -> None:
    link = link_to("http://127.0.0.1:1/")
    (tmp_path / f".{link.digest.hex()}.part").write_bytes(BLOB[:1000])
    server = scripted([partial(BLOB, 1000)])
    assert fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path) == BLOB
    assert b"Range: bytes=1000-" in server.requests[0]


def test_a_server_that_ignores_ranges_is_read_from_the_start(scripted, tmp_path: Path) -> None:
    link = link_to("http://127.0.0.1:1/")
    (tmp_path / f".{link.digest.hex()}.part").write_bytes(BLOB[:1000])
    assert fetch(link_to(scripted([ok(BLOB)]).url), limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path) == BLOB


def test_a_wrong_beginning_in_the_cache_does_not_condemn_the_link(serve, tmp_path: Path) -> None:
    link = Store(serve().url).put(BLOB)
    (tmp_path / f".{link.digest.hex()}.part").write_bytes(b"?" * 1000)
    assert fetch(link, limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path) == BLOB


def test_a_finished_blob_comes_from_the_cache_and_a_rotten_one_does_not(serve, tmp_path: Path) -> None:
    server = serve()
    link = Store(server.url).put(BLOB)
    fetch(link, limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path)
    (tmp_path / link.digest.hex()).write_bytes(BLOB[::-1])
    assert fetch(link, limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path) == BLOB
    server.stop()
    assert fetch(link, limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path) == BLOB


def test_wrong_bytes_leave_nothing_in_the_cache(scripted, tmp_path: Path) -> None:
    with pytest.raises(WrongHash):
        fetch(link_to(scripted([ok(BLOB[::-1])]).url), limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_is_followed_but_not_without_end_nor_out_of_http(scripted, serve) -> None:
    real = Store(serve().url).put(BLOB)

    def to(place: str) -> bytes:
        return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()

    assert fetch(link_to(scripted([to(real.uri)]).url), limit_bytes=1 << 30, timeout_s=60) == BLOB
    with pytest.raises(LinkDead, match="without end"):
        fetch(link_to(scripted([to("/blob")]).url), limit_bytes=1 << 30, timeout_s=60)
    with pytest.raises(UnusableAddress):
        fetch(link_to(scripted([to("file:///etc/hostname")]).url), limit_bytes=1 << 30, timeout_s=60)


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "simplecache::http://host/x", "reference://x", "http://", "http://[::1/x"]
)
def test_an_address_that_links_may_not_have_is_refused(uri: str) -> None:
    with pytest.raises((UnusableAddress, ValueError)) as refusal:
        fetch(link_to(uri), limit_bytes=1 << 30, timeout_s=60)
    assert isinstance(refusal.value, UnusableAddress)


@pytest.mark.parametrize("uri", ["s3://bucket/x", "gs://bucket/x", "az://container/x"])
def test_a_missing_package_names_the_extra_to_install(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.fsspec", None)
    with pytest.raises(MissingExtra, match=r"pot-lab\[cloud\]"):
        fetch(link_to(uri), limit_bytes=1 << 30, timeout_s=60)


def test_an_impossible_link_is_malformed() -> None:
    with pytest.raises(Malformed):
        fetch(Link(digest=b"short", size_bytes=1, uri="file:///x"), limit_bytes=1, timeout_s=60)


def test_a_store_comes_before_the_links_own_address(tmp_path: Path) -> None:
    store = Store(tmp_path)
    here = store.put(BLOB)
    elsewhere = Link(digest=here.digest, size_bytes=here.size_bytes, uri=dead_address())
    assert store.fetch(elsewhere, limit_bytes=1 << 30, timeout_s=60) == BLOB
    other = Store(tmp_path / "other")
    assert other.fetch(here, limit_bytes=1 << 30, timeout_s=60) == BLOB


def test_a_store_that_does_not_answer_is_a_dead_link(tmp_path: Path) -> None:
    with pytest.raises(LinkDead):
        Store(dead_address()).put(BLOB)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LinkDead):
        Store(tmp_path / "file" / "below").put(BLOB)


def test_a_blob_that_another_process_finishes_at_that_moment_is_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by two validators on one host: one moved the finished blob away while the other was about to lock it."""
    link = Store(tmp_path / "store").put(BLOB)
    cache = tmp_path / "cache"
    real = fcntl.flock
    others = iter([True])

    def flock_after_the_other_process(file, operation) -> None:
        if next(others, False):
            (cache / f".{link.digest.hex()}.part").write_bytes(BLOB)
            (cache / f".{link.digest.hex()}.part").replace(cache / link.digest.hex())
        real(file, operation)

    monkeypatch.setattr("fcntl.flock", flock_after_the_other_process)
    assert fetch(link, limit_bytes=len(BLOB), timeout_s=60, cache_dir=cache) == BLOB
    assert [path.name for path in cache.iterdir() if path.suffix != ".part"] == [link.digest.hex()]


@pytest.mark.parametrize("kind", ["folder", "server"])
def test_a_file_is_put_as_its_bytes_are_and_never_lies_in_memory(kind: str, serve, tmp_path: Path) -> None:
    store = Store(tmp_path / "blobs" if kind == "folder" else serve().url)
    (tmp_path / "small").write_bytes(b"hello")
    assert store.put_file(tmp_path / "small") == store.put(b"hello") == store.put_file(tmp_path / "small")
    with open(tmp_path / "big", "wb") as file:
        file.truncate(48 << 20)
    tracemalloc.start()
    try:
        link = store.put_file(tmp_path / "big")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert link.size_bytes == 48 << 20 and peak_bytes < 8 << 20
    assert store.fetch(link, limit_bytes=48 << 20, timeout_s=60) == bytes(48 << 20)
    (tmp_path / "empty").touch()
    assert store.fetch(store.put_file(tmp_path / "empty"), limit_bytes=1, timeout_s=60) == b""


def test_a_file_follows_a_redirect_from_its_beginning(serve, scripted, tmp_path: Path) -> None:
    server = serve()
    path = tmp_path / "weights"
    path.write_bytes(b"weights" * 1000)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    away = b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nConnection: close\r\nLocation: "
    gateway = scripted([away + f"{server.url}/{digest}".encode() + b"\r\n\r\n"])
    Store(gateway.url.rpartition("/")[0]).put_file(path)
    assert server.request("GET", f"/{digest}")[1] == path.read_bytes()


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "blobs").put_file(tmp_path / "none")


class OddError(Exception):
    """As botocore's errors are: no OSError."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OddError("no credentials"), LinkDead),
        (ValueError("bad bucket"), LinkDead),
        (PermissionError("denied"), LinkDead),
        (OSError(28, "No space left on device"), StoreFull),
    ],
)
def test_a_filesystems_own_error_is_a_refusal_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fails)
    monkeypatch.setattr(MemoryFileSystem, "put_file", fails)
    monkeypatch.setattr(MemoryFileSystem, "info", fails)
    for module in ("blobs", "transport"):
        monkeypatch.setattr(f"pot_lab.store.{module}.filesystem", lambda scheme, signed=True: MemoryFileSystem())
    (tmp_path / "blob").write_bytes(b"x")
    store = Store("s3://bucket/blobs")
    with pytest.raises(kind):
        store.put(b"x")
    with pytest.raises(kind):
        store.put_file(tmp_path / "blob")
    with pytest.raises((LinkDead, TooSlow)):  # it may be well again: asked until the time is up
        fetch(link_to("s3://bucket/blobs/x", b"x"), limit_bytes=9, timeout_s=1)


def test_a_file_that_the_store_does_not_take_goes_where_copies_are(serve, tmp_path: Path) -> None:
    path, server, gone = tmp_path / "transcript", serve(), dead_address().removesuffix("/blob")
    path.write_bytes(b"what was computed")
    store = Store(gone, copies=lambda: [f"{gone}/custody", server.url])
    link = store.put_file(path)
    assert link.uri == f"{gone}/{link.digest.hex()}" and store.has_copies
    assert (server.root / link.digest.hex()).read_bytes() == b"what was computed"
    alone = Store(gone)
    assert not alone.has_copies
    with pytest.raises(LinkDead):
        alone.put_file(path)
    with pytest.raises(LinkDead):
        Store(gone, copies=lambda: [f"{gone}/custody"]).put_file(path)
