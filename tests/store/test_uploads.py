"""An upload that breaks off goes on where it stopped, whoever else writes what; and heads of requests have a bound."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path

import pytest

from pot_lab.store import Store, StoreFull
from pot_lab.store import http_upload as upload
from pot_lab.store.http_head import HEAD_LIMIT_BYTES
from pot_lab.store.room import BEGINNING_AGE_S, LEAST_BEGINNING_BYTES, RECOUNT_S
from pot_lab.store.server import BlobServer
from tests.clock import Clock

SIZE_BYTES, BEGUN_BYTES = 5 << 20, 3 << 20
BLOB = bytes(range(256)) * (SIZE_BYTES // 256)
NAME = hashlib.sha256(BLOB).hexdigest()
PATIENCE_S = 120


@pytest.fixture
def total_limit_bytes() -> int:
    return 64 << 20


def dial(server: BlobServer, said: bytes, source: str = "127.0.0.1") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S, source_address=(source, 0))
    one.sendall(said)
    return one


def begin(server: BlobServer, data: bytes = BLOB[:BEGUN_BYTES], source: str = "127.0.0.1") -> None:
    """Upload a beginning of the blob, hang up, and wait until the server keeps it."""
    with dial(server, f"PUT /{NAME} HTTP/1.1\r\nContent-Length: {SIZE_BYTES}\r\n\r\n".encode() + data, source):
        pass
    until(lambda: server.room.begun_bytes(NAME, source) == len(data))


def until(condition) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def sent_by(server: BlobServer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each transfer brings, from now on."""
    counted: list[int] = []
    moved = server.connections.moved
    monkeypatch.setattr(server.connections, "moved", lambda one, size: (counted.append(size), moved(one, size)))
    return counted


@pytest.mark.parametrize("as_file", [False, True])
def test_an_upload_goes_on_where_it_broke_off(server, tmp_path: Path, monkeypatch, as_file: bool) -> None:
    begin(server)
    counted = sent_by(server, monkeypatch)
    store = Store(f"http://127.0.0.1:{server.port}")
    (tmp_path / "blob").write_bytes(BLOB)
    link = store.put_file(tmp_path / "blob") if as_file else store.put(BLOB)
    assert sum(counted) == SIZE_BYTES - BEGUN_BYTES
    assert store.fetch(link, limit_bytes=SIZE_BYTES, timeout_s=PATIENCE_S) == BLOB
    assert (server.room.used_bytes, server.room.blobs, server.room.begun_bytes(NAME, "127.0.0.1")) == (SIZE_BYTES, 1, 0)
    assert not list(server.root.glob(".*.tmp"))


def test_an_upload_may_break_off_at_any_time_as_long_as_it_gets_on(server, monkeypatch) -> None:
    monkeypatch.setattr(upload, "PUT_PAUSE_S", 0.0)
    at_once, taken = 700_000, 0
    take = server.room.take

    def break_off(place: str, size_bytes: int) -> bool:
        nonlocal taken
        taken += size_bytes
        if taken > at_once + LEAST_BEGINNING_BYTES:
            taken = LEAST_BEGINNING_BYTES
            raise ConnectionResetError
        return take(place, size_bytes)

    monkeypatch.setattr(server.room, "take", break_off)
    link = Store(f"http://127.0.0.1:{server.port}").put(BLOB)
    assert (server.root / link.digest.hex()).read_bytes() == BLOB
    assert server.room.used_bytes == SIZE_BYTES


def test_a_false_beginning_from_ones_own_address_costs_one_more_attempt(server, monkeypatch) -> None:
    monkeypatch.setattr(upload, "PUT_PAUSE_S", 0.0)
    begin(server, bytes(BEGUN_BYTES))
    Store(f"http://127.0.0.1:{server.port}").put(BLOB)
    assert (server.root / NAME).read_bytes() == BLOB and server.room.used_bytes == SIZE_BYTES


def test_nobody_adds_to_a_beginning_of_another_address(server) -> None:
    begin(server, source="127.0.0.2")
    rest = f"PUT /{NAME} HTTP/1.1\r\nContent-Range: bytes {BEGUN_BYTES}-{SIZE_BYTES - 1}/{SIZE_BYTES}\r\n"
    head = f"{rest}Content-Length: {SIZE_BYTES - BEGUN_BYTES}\r\n\r\n".encode()
    with dial(server, head + bytes(SIZE_BYTES - BEGUN_BYTES), "127.0.0.3") as other:
        assert b" 409 " in other.recv(100)
    with dial(server, f"HEAD /{NAME} HTTP/1.1\r\n\r\n".encode(), "127.0.0.3") as other:
        assert b"Upload-Offset" not in other.recv(1_000)
    assert server.room.begun_bytes(NAME, "127.0.0.2") == BEGUN_BYTES


@pytest.mark.parametrize("said", ["bytes 5-4/10", "bytes 0-8/10", "bytes 1-9/10", "items 0-9/10", "bytes 0-9/*", "x"])
def test_a_rest_that_is_none_is_refused(server, said: str) -> None:
    head = f"PUT /{NAME} HTTP/1.1\r\nContent-Range: {said}\r\nContent-Length: 10\r\n\r\n".encode()
    with dial(server, head + bytes(10)) as one:
        assert b" 400 " in one.recv(100)


def test_beginnings_end_by_themselves_and_for_whoever_needs_the_room(server, clock: Clock) -> None:
    begin(server)
    assert server.room.used_bytes == BEGUN_BYTES
    clock.now_s += BEGINNING_AGE_S + 1
    until(lambda: server.room.used_bytes == 0)
    begin(server)
    assert server.room.free_bytes("127.0.0.1") == 64 << 20
    assert server.room.take("127.0.0.1", (64 << 20) - BEGUN_BYTES // 2)
    assert server.room.begun_bytes(NAME, "127.0.0.1") == 0 and not list(server.root.glob(".*.tmp"))
    server.room.give_back("127.0.0.1", (64 << 20) - BEGUN_BYTES // 2)


def test_many_beginnings_hold_no_more_than_a_part_of_the_room(server) -> None:
    path = server.root / ".some.tmp"
    for number in range(8):
        assert server.room.take("127.0.0.1", 2 << 20)
        if not server.room.keep(f"{number:064}", "127.0.0.1", path, 2 << 20, 3 << 20):
            server.room.give_back("127.0.0.1", 2 << 20)
    assert server.room.used_bytes == 8 << 20


def test_blobs_that_others_remove_are_counted_no_more(server, clock: Clock) -> None:
    store = Store(f"http://127.0.0.1:{server.port}")
    link, other = store.put(BLOB), store.put(b"other")
    (server.root / link.digest.hex()).unlink()
    clock.now_s += RECOUNT_S
    until(lambda: (server.room.used_bytes, server.room.blobs) == (other.size_bytes, 1))


def test_a_full_store_still_refuses(server) -> None:
    begin(server)
    store = Store(f"http://127.0.0.1:{server.port}")
    with pytest.raises(StoreFull):
        store.put(bytes((64 << 20) + 1))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * HEAD_LIMIT_BYTES + b"\r\n\r\n", b" 431 "),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1_000) for n in range(40)) + b"\r\n", b" 431 "),
        (b"GET /" + b"a" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\n\r\n", b" 414 "),
        (b"PUT /" + NAME.encode() + b" HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", b" 411 "),
        (b"PUT /" + NAME.encode() + b" HTTP/1.1\r\nContent-Length: \xd9\xa3\r\n\r\nabc", b" 411 "),
    ],
)
def test_a_request_whose_head_has_no_bound_is_refused(server, said: bytes, status: bytes) -> None:
    with dial(server, said) as one:
        assert status in one.recv(100)


def test_each_request_of_a_connection_has_a_head_of_its_own(server) -> None:
    link = Store(f"http://127.0.0.1:{server.port}").put(b"small")
    head = f"GET /{link.digest.hex()} HTTP/1.1\r\nX: {'a' * 6_000}\r\n\r\n".encode()
    with dial(server, head * 8) as one:
        came = b""
        while came.count(b"small") < 8:
            data = one.recv(65_536)
            assert data
            came += data
    assert came.count(b" 200 ") == 8
