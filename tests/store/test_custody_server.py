"""Custody over HTTP, in a process of its own: all may read, and only what is expected may be put."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.store import Store, fetch
from pot_lab.store.custody import INDEX_FILE, Custody
from pot_lab.store.errors import LinkDead, StoreFull
from tests.store.conftest import ServerProcess

MODULE = "pot_lab.store.custody_server"
ANN = b"a" * 20


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Beside:
    """An aggregator's custody and the server beside it."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.custody = Custody(root)
        self.server = ServerProcess(root, *arguments, module=MODULE)

    def expect(self, data: bytes, *, size: int | None = None, reference: bytes = b"order") -> None:
        self.custody.expect(sha(data), len(data) if size is None else size, payer=ANN, reference=reference)

    def put(self, data: bytes, *, name: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        return self.server.request("PUT", "/" + (name or sha(data)).hex(), data, **headers)[:2]

    def close(self) -> None:
        self.server.stop()
        self.custody.close()


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    made = Beside(tmp_path / "custody")
    yield made
    made.close()


def test_an_expected_blob_is_taken_held_and_served(beside: Beside) -> None:
    data = os.urandom(1_000_000)
    beside.expect(data)
    store = Store(beside.server.url)
    link = store.put(data)
    assert beside.custody.has(sha(data), len(data)) and beside.custody.missing() == []
    assert fetch(link, limit_bytes=len(data), timeout_s=60) == data
    assert beside.put(data)[0] == 200
    beside.expect(b"")
    assert beside.put(b"")[0] == 201 and beside.put(b"")[0] == 200


def test_what_nobody_named_is_refused_before_it_is_read(beside: Beside) -> None:
    data = os.urandom(10_000)
    status, text = beside.put(data)
    assert status == 403 and b"nobody pays" in text
    with pytest.raises(LinkDead):
        Store(beside.server.url).put(data)
    beside.expect(data, size=9_999)
    assert beside.put(data)[0] == 403
    assert beside.custody.used_bytes() == 0


def test_other_bytes_than_named_are_refused_and_leave_nothing(beside: Beside) -> None:
    data = os.urandom(10_000)
    beside.expect(data)
    assert beside.put(data[::-1], name=sha(data))[0] == 422
    assert beside.custody.used_bytes() == 0 and not beside.custody.has(sha(data), len(data))
    assert beside.put(data)[0] == 201


def test_a_sender_that_hangs_up_leaves_nothing_and_the_next_one_succeeds(beside: Beside) -> None:
    data = os.urandom(100_000)
    beside.expect(data)
    with socket.create_connection(("127.0.0.1", beside.server.port)) as broken:
        head = f"PUT /{sha(data).hex()} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        broken.sendall(head.encode() + data[:50_000])
    assert beside.put(data)[0] == 201
    while beside.custody.used_bytes() != len(data):  # the broken one's bytes go when the server sees it
        pass
    assert beside.custody.verify(sha(data), len(data))


def test_an_upload_that_stands_still_keeps_the_owner_from_nothing(beside: Beside) -> None:
    """A stranger begins to send the victim's blob, and stops."""
    data = os.urandom(100_000)
    beside.expect(data)
    with socket.create_connection(("127.0.0.1", beside.server.port)) as standing:
        head = f"PUT /{sha(data).hex()} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        standing.sendall(head.encode() + data[:10])
        assert beside.put(data)[0] == 201
    assert beside.custody.has(sha(data), len(data))


def test_a_damaged_blob_may_be_put_again(beside: Beside) -> None:
    data = os.urandom(1_000)
    beside.expect(data)
    beside.put(data)
    beside.custody.path(sha(data), 1_000).chmod(0o600)
    beside.custody.path(sha(data), 1_000).write_bytes(bytes(1_000))
    assert not beside.custody.verify(sha(data), 1_000)
    assert beside.put(data)[0] == 201 and beside.custody.verify(sha(data), 1_000)


def test_what_was_pruned_is_served_no_more(beside: Beside) -> None:
    data = os.urandom(1_000)
    beside.expect(data)
    beside.put(data)
    beside.custody.prune(set())
    link = Link(digest=sha(data), size_bytes=1_000, uri=f"{beside.server.url}/{sha(data).hex()}")
    with pytest.raises(LinkDead):
        fetch(link, limit_bytes=1_000, timeout_s=60)
    assert beside.put(data)[0] == 403


def test_a_full_custody_says_so(tmp_path: Path) -> None:
    beside = Beside(tmp_path / "custody", "--total-limit-bytes", "1500")
    first, second = os.urandom(1_000), os.urandom(1_000)
    beside.expect(first)
    beside.expect(second)
    assert beside.put(first)[0] == 201
    with pytest.raises(StoreFull):
        Store(beside.server.url).put(second)
    beside.close()


def test_the_index_is_not_served_and_the_state_tells_the_room(beside: Beside) -> None:
    data = os.urandom(1_000)
    beside.expect(data)
    assert json.loads(beside.server.request("GET", "/")[1])["missing"] == 1
    beside.put(data)
    state = json.loads(beside.server.request("GET", "/")[1])
    assert (state["used_bytes"], state["missing"]) == (1_000, 0)
    assert beside.server.request("GET", "/" + INDEX_FILE)[0] == 404


def test_uploads_outlive_the_server_and_a_new_one_goes_on(tmp_path: Path) -> None:
    beside = Beside(tmp_path / "custody")
    data = os.urandom(1_000)
    beside.expect(data)
    beside.put(data)
    beside.server.process.kill()
    beside.server.process.wait()
    beside.server.port_file.unlink()
    beside.server.stop()
    again = ServerProcess(beside.custody.root, module=MODULE)
    assert again.request("GET", "/" + sha(data).hex())[1] == data
    again.stop()
    beside.custody.close()
