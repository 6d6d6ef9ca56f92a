"""The blob server keeps what hashes right, within its caps, and nothing else; also when stopped or out of disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pot_lab.store import Store, StoreFull, TooBig, fetch
from pot_lab.store.custody import Custody, CustodyLimits
from pot_lab.store.custody_server import CustodyServer
from pot_lab.store.server import BlobServer

BLOB = bytes(range(251)) * 4000


def name_of(data: bytes) -> str:
    return "/" + hashlib.sha256(data).hexdigest()


def test_ranges_are_served_as_http_asks(serve) -> None:
    server = serve()
    assert server.request("PUT", name_of(BLOB), BLOB)[0] == 201
    for wanted, first, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=1000-", 1000, len(BLOB)),
        ("bytes=-7", len(BLOB) - 7, len(BLOB)),
        (f"bytes=5-{len(BLOB) * 2}", 5, len(BLOB)),
    ]:
        status, body, headers = server.request("GET", name_of(BLOB), Range=wanted)
        assert (status, body) == (206, BLOB[first:end])
        assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(BLOB)}"
    status, _, headers = server.request("GET", name_of(BLOB), Range=f"bytes={len(BLOB)}-")
    assert status == 416
    assert headers["Content-Range"] == f"bytes */{len(BLOB)}"
    assert server.request("GET", name_of(BLOB), Range="lines=1-2")[:2] == (200, BLOB)


def test_head_tells_the_size_and_sends_nothing(serve) -> None:
    server = serve()
    server.request("PUT", name_of(BLOB), BLOB)
    status, body, headers = server.request("HEAD", name_of(BLOB))
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(BLOB)))
    assert server.request("HEAD", name_of(b"other"))[0] == 404


def test_bytes_that_hash_to_another_name_are_refused_and_forgotten(serve) -> None:
    server = serve()
    assert server.request("PUT", name_of(b"right"), b"wrong")[0] == 422
    assert server.request("GET", name_of(b"right"))[0] == 404
    assert [path.name for path in server.root.iterdir()] == [".lock"]
    assert json.loads(server.request("GET", "/")[1])["used_bytes"] == 0


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/.lock", "/" + "A" * 64, "/" + "a" * 63])
def test_only_hashes_are_names(serve, path: str) -> None:
    server = serve()
    assert server.request("GET", path)[0] == 404
    assert server.request("PUT", path, b"x")[0] == 404


def test_a_body_without_a_length_is_refused(serve) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(f"PUT {name_of(b'x')} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(4096).startswith(b"HTTP/1.1 411")


def test_one_blob_above_the_cap_is_too_big(serve) -> None:
    store = Store(serve("--blob-limit-bytes", "1000").url)
    store.put(b"x" * 1000)
    with pytest.raises(TooBig, match="1000"):
        store.put(b"x" * 1001)
    with pytest.raises(TooBig):
        store.put(b"x" * (16 << 20))


def test_a_full_store_takes_no_more_and_keeps_what_it_has(serve) -> None:
    server = serve("--total-limit-bytes", "1000")
    store = Store(server.url)
    first = store.put(b"a" * 600)
    with pytest.raises(StoreFull):
        store.put(b"b" * 401)
    store.put(b"c" * 400)
    assert store.put(b"a" * 600) == first
    assert fetch(first, limit_bytes=600, timeout_s=60) == b"a" * 600
    assert json.loads(server.request("GET", "/")[1])["used_bytes"] == 1000


def test_a_full_disk_is_a_full_store(serve) -> None:
    server = serve(file_bytes=100_000)
    store = Store(server.url)
    small = store.put(b"s" * 50_000)
    with pytest.raises(StoreFull):
        store.put(BLOB)
    assert fetch(small, limit_bytes=50_000, timeout_s=60) == b"s" * 50_000
    assert sorted(path.name for path in server.root.iterdir()) == sorted([".lock", small.digest.hex()])
    assert json.loads(server.request("GET", "/")[1])["used_bytes"] == 50_000


def test_many_writers_of_one_blob_store_it_once(serve) -> None:
    server = serve()
    problems: list[BaseException] = []

    def put() -> None:
        try:
            Store(server.url).put(BLOB)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert json.loads(server.request("GET", "/")[1])["blobs"] == 1
    assert json.loads(server.request("GET", "/")[1])["used_bytes"] == len(BLOB)


def test_blobs_outlive_the_server_and_half_written_ones_do_not(serve, tmp_path: Path) -> None:
    first = serve(root=tmp_path / "kept")
    link = Store(first.url).put(BLOB)
    first.process.kill()
    first.stop()
    first.port_file.unlink()
    (first.root / f".{'a' * 16}.00.tmp").write_bytes(b"half")
    second = serve(root=tmp_path / "kept")
    assert Store(second.url).fetch(link, limit_bytes=len(BLOB), timeout_s=60) == BLOB
    assert sorted(path.name for path in second.root.iterdir()) == sorted([".lock", link.digest.hex()])
    assert json.loads(second.request("GET", "/")[1])["used_bytes"] == len(BLOB)


def test_a_copy_of_a_running_stores_folder_serves_what_was_whole(serve, tmp_path: Path) -> None:
    """Blobs never change and get their name once they are whole, so a backup needs no stop."""
    first = serve(root=tmp_path / "kept")
    link = Store(first.url).put(BLOB)
    with socket.create_connection(("127.0.0.1", first.port)) as uploading:
        uploading.sendall(b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf" % name_of(b"x").encode())
        deadline = time.monotonic() + 60
        while not list(first.root.glob(".*.tmp")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shutil.copytree(first.root, tmp_path / "backup")
    assert list((tmp_path / "backup").glob(".*.tmp"))
    second = serve(root=tmp_path / "backup")
    assert Store(second.url).fetch(link, limit_bytes=len(BLOB), timeout_s=60) == BLOB
    assert sorted(path.name for path in second.root.iterdir()) == sorted([".lock", link.digest.hex()])
    assert second.request("GET", name_of(b"x"))[0] == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(serve, number: int) -> None:
    server = serve()
    server.process.send_signal(number)
    assert server.process.wait(240) == 0
    assert not server.port_file.exists()


def run_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pot_lab.store.server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_taken_port_ends_with_one_readable_line(serve, tmp_path: Path) -> None:
    answer = run_server("--root", str(tmp_path / "other"), "--port", str(serve().port))
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "port is taken" in answer.stderr


def test_two_servers_do_not_share_a_folder(serve) -> None:
    answer = run_server("--root", str(serve().root))
    assert answer.returncode == 1
    assert "another server serves this folder" in answer.stderr


def test_it_does_not_listen_beyond_loopback_unless_told(tmp_path: Path) -> None:
    answer = run_server("--root", str(tmp_path / "blobs"), "--host", "0.0.0.0")
    assert answer.returncode == 1
    assert "loopback" in answer.stderr


@pytest.mark.parametrize("kind", [BlobServer, CustodyServer])
def test_what_a_store_has_is_told_to_prometheus(kind: type[BlobServer], tmp_path: Path) -> None:
    if kind is CustodyServer:
        limits = CustodyLimits()._replace(total_bytes=1 << 20, blob_bytes=1 << 10)
        server: BlobServer = CustodyServer(Custody(tmp_path / "held", limits))
    else:
        server = BlobServer(tmp_path / "held", total_limit_bytes=1 << 20, blob_limit_bytes=1 << 10)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        with urlopen(f"{url}/metrics", timeout=240) as answer:
            text = answer.read().decode()
        found = {each.name: each.samples[0].value for each in text_string_to_metric_families(text)}
        assert found["pot_lab_store_total_limit_bytes"] == 1 << 20 and found["pot_lab_store_used_bytes"] == 0
        assert found["pot_lab_store_connections"] == 1
        assert ("pot_lab_store_missing" in found) == (kind is CustodyServer)
        with urlopen(f"{url}/healthz", timeout=240) as answer:
            assert (answer.status, answer.read()) == (200, b"healthy\n")
        server.blob_limit_bytes = 1 << 21  # larger than all its room
        with pytest.raises(HTTPError, match="503") as caught:
            urlopen(f"{url}/healthz", timeout=240)
        assert b"fewer than a blob may have" in caught.value.read()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
