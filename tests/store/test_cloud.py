"""Stores and links on S3, against moto's server, a process of its own: what its packages need does not resolve beside
ours (botocore wants python-dateutil below 3), so `POT_LAB_MOTO` names its `moto_server`, of a venv of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.network.loopback import free_ports
from pot_lab.store import Link, LinkDead, Store, TooBig, WrongHash, fetch
from pot_lab.store.transport import filesystem

pytest.importorskip("obstore")
MOTO = os.environ.get("POT_LAB_MOTO") or shutil.which("moto_server")
needs_server = pytest.mark.skipif(not MOTO, reason="POT_LAB_MOTO names no moto_server")
BLOB = bytes(range(256)) * 24_000  # above the size from which obstore uploads in parts
PATIENCE_S = 120


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    assert MOTO
    process = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/blobs", method="PUT"), timeout=PATIENCE_S).close()
                break
            except OSError:
                continue
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket's address, with its owner's credentials in the environment."""
    own = {"ENDPOINT_URL": endpoint, "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    for name, value in (own | {"ACCESS_KEY_ID": "own", "SECRET_ACCESS_KEY": "secret"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return "s3://blobs/some/prefix"


@needs_server
def test_blobs_come_back_whole_and_from_the_middle(bucket: str, tmp_path: Path) -> None:
    store = Store(bucket)
    assert not store.private_links
    link = store.put(b"small")
    assert link.uri == f"{bucket}/{link.digest.hex()}"
    assert store.fetch(link, limit_bytes=5, timeout_s=PATIENCE_S) == b"small"
    (tmp_path / "blob").write_bytes(BLOB)
    large = store.put_file(tmp_path / "blob")
    assert large == store.link_of(tmp_path / "blob")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f".{large.digest.hex()}.part").write_bytes(BLOB[:4_000_000])
    assert store.fetch_file(large, limit_bytes=1 << 30, timeout_s=PATIENCE_S, cache_dir=cache).read_bytes() == BLOB


@needs_server
def test_what_is_not_as_the_link_says_is_refused_by_name(bucket: str) -> None:
    store = Store(bucket)
    link = store.put(b"right")
    with pytest.raises(LinkDead):
        store.fetch(Link(bytes(32), 5, f"{bucket}/none"), limit_bytes=5, timeout_s=PATIENCE_S)
    with pytest.raises(LinkDead):
        Store("s3://no-such-bucket").put(b"x")
    filesystem("s3").pipe_file(f"{bucket}/{bytes(32).hex()}", b"wrong")
    with pytest.raises(WrongHash):
        store.fetch(Link(bytes(32), 5, f"{bucket}/{bytes(32).hex()}"), limit_bytes=5, timeout_s=PATIENCE_S)
    with pytest.raises(TooBig):
        store.fetch(Link(bytes(32), 4, f"{bucket}/{bytes(32).hex()}"), limit_bytes=5, timeout_s=PATIENCE_S)
    with pytest.raises(LinkDead):  # a name that is not its own
        store.fetch(Link(bytes(32), link.size_bytes, link.uri), limit_bytes=5, timeout_s=PATIENCE_S)


@needs_server
def test_a_strangers_link_is_followed_without_ones_own_credentials(bucket: str) -> None:
    link = Store(bucket).put(b"private")
    with pytest.raises(LinkDead):  # as a stranger: its bucket is not public
        fetch(link, limit_bytes=7, timeout_s=PATIENCE_S, private_links=False)
    assert Store(bucket).fetch(link, limit_bytes=7, timeout_s=PATIENCE_S) == b"private"
