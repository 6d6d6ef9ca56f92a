"""A store on IPFS by the contract of its node's HTTP API, and links read through a gateway; no node runs here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from pot_lab.store import Link, LinkDead, Store, UnusableAddress, fetch

BLOB = bytes(range(256)) * 4_000
PATIENCE_S = 120


class Node(ThreadingHTTPServer):
    """Keeps the contract of `/api/v0/add` and of a gateway's `/ipfs/CID`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), NodeHandler)
        self.held: dict[str, bytes] = {}
        self.asked: list[dict[str, list[str]]] = []
        self.answer: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class NodeHandler(BaseHTTPRequestHandler):
    server: Node
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        place = urlsplit(self.path)
        assert place.path == "/api/v0/add" and self.headers["Transfer-Encoding"] == "chunked"
        asked = parse_qs(place.query)
        self.server.asked.append(asked)
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        part = re.fullmatch(rb"--%s\r\n.*?\r\n\r\n(.*)\r\n--%s--\r\n" % (boundary, boundary), body, re.DOTALL)
        assert part is not None
        digest = hashlib.sha256(part[1]).digest()
        cid = "b" + base64.b32encode(b"\x01\x55\x12\x20" + digest).decode().lower().rstrip("=")
        if asked["only-hash"] == ["false"]:
            assert asked["pin"] == ["true"]
            self.server.held[cid] = part[1]
        self._say(200, json.dumps({"Name": "blob", "Hash": cid, "Size": str(len(part[1]))}).encode() + b"\n")

    def do_GET(self) -> None:
        held = self.server.held.get(self.path.removeprefix("/ipfs/"))
        self._say(404, b"") if held is None else self._say(200, held)

    def _say(self, status: int, body: bytes) -> None:
        body = body if self.server.answer is None else self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("IPFS_GATEWAY", made.url)
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("data", [b"", b"small", BLOB])
def test_a_blob_is_added_pinned_and_read_back_by_its_content(node: Node, data: bytes, tmp_path: Path) -> None:
    store = Store(f"ipfs+{node.url}")
    link = store.put(data)
    assert link.uri == f"ipfs://{next(iter(node.held))}" and link.digest == hashlib.sha256(data).digest()
    (tmp_path / "blob").write_bytes(data)
    node.held.clear()
    assert store.link_of(tmp_path / "blob") == link and not node.held, "a link is told before anything is kept"
    assert store.put_file(tmp_path / "blob") == link and len(node.held) == 1
    assert store.fetch(link, limit_bytes=1 << 30, timeout_s=PATIENCE_S) == data
    assert fetch(link, limit_bytes=1 << 30, timeout_s=PATIENCE_S, private_links=False) == data, "a gateway may be here"


def test_without_a_gateway_a_link_names_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPFS_GATEWAY", raising=False)
    with pytest.raises(UnusableAddress, match="IPFS_GATEWAY"):
        fetch(Link(bytes(32), 1, "ipfs://bafkqaaa"), limit_bytes=1, timeout_s=PATIENCE_S)


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"Hash": 5}', b'{"Hash": "../../etc"}', b"not json", b"[1]"])
def test_what_is_no_answer_of_a_node_is_a_dead_link(node: Node, answer: bytes) -> None:
    node.answer = answer
    with pytest.raises(LinkDead):
        Store(f"ipfs+{node.url}").put(b"x")


def test_a_node_that_is_not_there_is_a_dead_link(node: Node) -> None:
    url = node.url
    node.shutdown()
    node.server_close()
    with pytest.raises(LinkDead, match="does not answer"):
        Store(f"ipfs+{url}").put(b"x")


def test_ipfs_itself_is_no_store(node: Node) -> None:
    with pytest.raises(UnusableAddress, match=r"ipfs\+http"):
        Store("ipfs://bafkqaaa")
    with pytest.raises(UnusableAddress):
        Store(f"ipfs+{node.url}").uri(bytes(32))
