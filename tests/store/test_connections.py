"""A blob server whose clients say nothing, drip, or promise much: it serves the others all the same."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pot_lab.store import LinkDead, Store, StoreFull
from pot_lab.store import http_upload as upload
from pot_lab.store.connections import (
    ADDRESS_LIMIT,
    CONNECTION_LIMIT,
    GRACE_S,
    IDLE_TIMEOUT_S,
    LEAST_BYTES_PER_S,
    PRESSED_BYTES_PER_S,
    PRESSED_GRACE_S,
    Connections,
    is_loopback,
    place_of,
)
from pot_lab.store.server import BlobServer
from tests.clock import Clock

BLOB = b"honest weights"


@pytest.fixture
def connect(server: BlobServer) -> Iterator[Callable[..., socket.socket]]:
    held: list[socket.socket] = []

    def dial(said: bytes = b"") -> socket.socket:
        one = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        held.append(one)
        one.sendall(said)
        return one

    yield dial
    for one in held:
        one.close()


def put_head(size_bytes: int, name: str = "a" * 64) -> bytes:
    return f"PUT /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {size_bytes}\r\n\r\n".encode()


def store_of(server: BlobServer) -> Store:
    return Store(f"http://127.0.0.1:{server.port}")


def until_open(server: BlobServer, count: int) -> None:
    """Wait for as many connections, however long the machine takes."""
    while len(server.connections) < count:
        threading.Event().wait(0.01)


def until_busy(server: BlobServer, count: int) -> None:
    while sum(one.busy for one in list(server.connections._open.values())) < count:
        threading.Event().wait(0.01)


def test_promises_take_no_room(server: BlobServer, connect: Callable[..., socket.socket]) -> None:
    for number in range(16):
        connect(put_head(1 << 30, f"{number:064x}"))
    until_busy(server, 16)
    assert server.room.used_bytes == 0
    store_of(server).put(BLOB)
    assert server.room.used_bytes == len(BLOB)


def test_room_is_taken_as_bytes_come_and_freed_with_their_connection(
    server: BlobServer, connect: Callable[..., socket.socket]
) -> None:
    one = connect(put_head(1000) + bytes(600))
    while server.room.used_bytes != 600:
        threading.Event().wait(0.01)
    one.close()
    while server.room.used_bytes:
        threading.Event().wait(0.01)
    assert [path.name for path in server.root.iterdir()] == [".lock"]


def test_a_store_that_fills_while_a_blob_comes_refuses_it(tmp_path: Path) -> None:
    server = BlobServer(tmp_path / "blobs", total_limit_bytes=1000)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.sendall(put_head(800) + bytes(100))
        while server.room.used_bytes != 100:
            threading.Event().wait(0.01)
        store_of(server).put(b"b" * 900)
        slow.sendall(bytes(700))
        slow.shutdown(socket.SHUT_WR)
        assert slow.recv(4096).startswith(b"HTTP/1.1 507")
    while server.room.used_bytes != 900:
        threading.Event().wait(0.01)
    with pytest.raises(StoreFull):
        store_of(server).put(b"c" * 101)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("said", [b"", b"GET / HT", put_head(5)[:-2]])
def test_connections_that_say_nothing_or_half_a_head_keep_nobody_out(
    said: bytes, server: BlobServer, connect: Callable[..., socket.socket]
) -> None:
    silent = [connect(said) for _ in range(ADDRESS_LIMIT)]
    until_open(server, ADDRESS_LIMIT)
    store_of(server).put(BLOB)
    assert sum(_is_closed(one) for one in silent) >= 1 and len(server.connections) <= ADDRESS_LIMIT


def _is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_transfers_that_drip_keep_nobody_out(
    server: BlobServer, connect: Callable[..., socket.socket], clock: Clock
) -> None:
    for number in range(ADDRESS_LIMIT):
        connect(put_head(1 << 20, f"{number:064x}") + b"x")
    until_busy(server, ADDRESS_LIMIT)
    clock.now_s += PRESSED_GRACE_S + 1
    store_of(server).put(BLOB)


def test_while_all_places_are_used_well_a_newcomer_is_told_to_wait(
    server: BlobServer, connect: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PUT_PAUSE_S", 0.0)
    for number in range(ADDRESS_LIMIT):
        connect(put_head(1 << 20, f"{number:064x}") + b"x")
    until_busy(server, ADDRESS_LIMIT)
    with pytest.raises(LinkDead, match="503"):
        store_of(server).put(BLOB)


def test_who_waits_or_drips_for_long_is_cut(
    server: BlobServer, connect: Callable[..., socket.socket], clock: Clock
) -> None:
    silent, dripping = connect(), connect(put_head(1 << 30))
    until_busy(server, 1)
    until_open(server, 2)
    clock.now_s += max(IDLE_TIMEOUT_S, GRACE_S) + 1
    assert silent.recv(1) == b""
    assert dripping.recv(1) == b""
    while len(server.connections):
        threading.Event().wait(0.01)


def test_a_store_that_is_busy_for_a_moment_is_asked_again(
    scripted: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PUT_PAUSE_S", 0.0)
    away, busy = [b"HTTP/1.1 404 Not Found\r\n\r\n"], [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"]
    kept = [b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"]
    server = scripted(away, busy, away, kept)
    store = Store(server.url.rpartition("/")[0])  # type: ignore[attr-defined]
    assert store.put(b"").size_bytes == 0
    assert [head.split()[0] for head in server.requests] == [b"HEAD", b"PUT"] * 2  # type: ignore[attr-defined]


# --- the rules by themselves ----------------------------------------------------------------------------------------
class Silent:
    """A socket as far as `Connections` needs one."""

    def __init__(self) -> None:
        self.cut = False

    def shutdown(self, how: int) -> None:
        self.cut = True


def test_no_address_holds_all_places(clock: Clock) -> None:
    connections = Connections(clock_s=clock)
    mine = [Silent() for _ in range(2 * CONNECTION_LIMIT)]
    for one in mine:
        clock.now_s += 0.001
        assert connections.admit(one, "203.0.113.7")  # type: ignore[arg-type]
    assert (
        len(connections) == ADDRESS_LIMIT
        and [one.cut for one in mine] == [True] * (2 * CONNECTION_LIMIT - ADDRESS_LIMIT) + [False] * ADDRESS_LIMIT
    )
    for one in mine[-ADDRESS_LIMIT:]:
        connections.begin(one)  # type: ignore[arg-type]
    assert not connections.admit(Silent(), "203.0.113.7")  # type: ignore[arg-type]
    assert connections.admit(Silent(), "203.0.113.8")  # type: ignore[arg-type]


def test_the_slowest_transfer_gives_its_place_up_and_none_that_is_quick(clock: Clock) -> None:
    connections = Connections(limit=2, clock_s=clock)
    quick, slow, late = Silent(), Silent(), Silent()
    for one in (quick, slow):
        connections.admit(one, "203.0.113.7")  # type: ignore[arg-type]
        connections.begin(one)  # type: ignore[arg-type]
    clock.now_s += PRESSED_GRACE_S + 10
    connections.moved(quick, 10 * PRESSED_BYTES_PER_S)  # type: ignore[arg-type]
    connections.moved(slow, 10 * PRESSED_BYTES_PER_S - 1)  # type: ignore[arg-type]
    assert connections.admit(late, "203.0.113.9") and slow.cut and not quick.cut  # type: ignore[arg-type]
    connections.begin(late)  # type: ignore[arg-type]
    assert not connections.admit(Silent(), "203.0.113.9")  # type: ignore[arg-type]


def test_a_transfer_at_the_least_rate_goes_on(clock: Clock) -> None:
    connections = Connections(clock_s=clock)
    one, other = Silent(), Silent()
    for each in (one, other):
        connections.admit(each, "203.0.113.7")  # type: ignore[arg-type]
        connections.begin(each)  # type: ignore[arg-type]
    clock.now_s += GRACE_S + 10
    connections.moved(one, 10 * LEAST_BYTES_PER_S)  # type: ignore[arg-type]
    connections.moved(other, 10 * LEAST_BYTES_PER_S - 1)  # type: ignore[arg-type]
    assert connections.reap() == 1 and other.cut and not one.cut
    connections.end(one)  # type: ignore[arg-type]
    clock.now_s += IDLE_TIMEOUT_S
    assert connections.reap() == 0
    clock.now_s += 1
    assert connections.reap() == 1 and one.cut and len(connections) == 0


@pytest.mark.parametrize(
    ("address", "place", "loopback"),
    [("127.0.0.1", "127.0.0.1", True), ("192.0.2.7", "192.0.2.7", False), ("2001:db8::1:2:3:4", "2001:db8::", False),
     ("::1", "::", True), ("::ffff:192.0.2.7", "192.0.2.7", False), ("fe80::1%eth0", "fe80::", False),
     ("not one", "not one", False)],
)  # fmt: skip
def test_an_ipv6_network_counts_as_one_address(address: str, place: str, loopback: bool) -> None:
    assert place_of(address) == place and is_loopback(place_of(address)) is loopback


def test_one_address_cannot_fill_the_store(tmp_path: Path) -> None:
    server = BlobServer(tmp_path / "blobs", total_limit_bytes=1000)
    assert server.room.free_bytes("192.0.2.7") == 250 and server.room.free_bytes("127.0.0.1") == 1000
    assert server.room.take("192.0.2.7", 250) and not server.room.take("192.0.2.7", 1)
    assert (
        server.room.take("192.0.2.8", 250)
        and server.room.take("127.0.0.1", 500)
        and not server.room.take("127.0.0.1", 1)
    )
    server.room.give_back("192.0.2.7", 250)
    assert server.room.free_bytes("192.0.2.7") == 250
    server.server_close()


def test_a_body_that_hashes_to_another_name_frees_its_room(server: BlobServer) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("PUT", "/" + hashlib.sha256(b"right").hexdigest(), b"wrong")
    assert connection.getresponse().status == 422 and server.room.used_bytes == 0 and server.room.blobs == 0
    connection.close()
