"""Blobs over HTTP with servers that follow a script: redirects, credentials, proxies, encodings, cut connections."""

from __future__ import annotations

import base64
import datetime
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3.util.connection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pot_lab.store import LinkDead, Store, StoreFull, TooBig, TooSlow, UnusableAddress, WrongHash, fetch
from pot_lab.store.http_transport import HttpSource, proxy_of
from pot_lab.store.transport import FileSource, Interrupted
from tests.store.test_blobs import BLOB, link_to, ok, partial

EMPTY_404 = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
BASIC = b"authorization: Basic " + base64.b64encode(b"user:s3cret")


def status(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode()


def origin(server) -> str:
    return server.url.removesuffix("/blob")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("line", ["201 Created", "204 No Content"])
def test_a_store_may_answer_a_put_with_created_or_no_content(scripted, line: str) -> None:
    server = scripted([EMPTY_404], [status(line)])
    link = Store(origin(server)).put(b"x")
    assert link.uri == f"{origin(server)}/{link.digest.hex()}"
    assert [request.split(b" ")[0] for request in server.requests] == [b"HEAD", b"PUT"]


def test_a_blob_that_the_store_has_is_not_sent_again(scripted) -> None:
    server = scripted([status("200 OK").replace(b"Content-Length: 0", b"Content-Length: 3")])
    Store(origin(server)).put(b"abc")
    assert [request.split(b" ")[0] for request in server.requests] == [b"HEAD"]


def test_a_server_that_says_ok_to_everything_has_not_stored_the_blob(scripted) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    with pytest.raises(LinkDead, match="does not have the blob"):
        Store(origin(scripted([page]))).put(b"weights" * 100)


def test_an_ok_is_believed_when_the_blob_is_there_afterwards(scripted) -> None:
    there = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    server = scripted([EMPTY_404], [status("200 OK")], [there])
    Store(origin(server)).put(b"abc")
    assert [request.split(b" ")[0] for request in server.requests] == [b"HEAD", b"PUT", b"HEAD"]


@pytest.mark.parametrize("line", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_put_follows_a_redirect_with_its_body(scripted, serve, line: str) -> None:
    real = serve()
    digest = link_to("http://h/").digest.hex()
    server = scripted([status(line, f"Location: {real.url}/{digest}")])
    link = Store(origin(server)).put(BLOB)
    assert link.uri.startswith(origin(server))
    assert real.request("GET", f"/{digest}")[1] == BLOB


def test_a_put_that_is_told_to_look_elsewhere_has_stored_nothing(scripted) -> None:
    server = scripted([EMPTY_404], [status("303 See Other", "Location: http://127.0.0.1:1/")])
    with pytest.raises(LinkDead, match="303"):
        Store(origin(server)).put(b"x")


def test_five_redirects_are_followed_and_no_more(scripted) -> None:
    onwards = [status("302 Found", "Location: /blob")]
    assert fetch(link_to(scripted(*[onwards] * 5, [ok(BLOB)]).url), limit_bytes=1 << 30, timeout_s=60) == BLOB
    with pytest.raises(LinkDead, match="at most 5 redirects"):
        fetch(link_to(scripted(*[onwards] * 6, [ok(BLOB)]).url), limit_bytes=1 << 30, timeout_s=60)


@pytest.mark.parametrize(("timeout_s", "connect_s"), [(3.0, 3.0), (500.0, 10.0)])
def test_connecting_has_a_limit_of_its_own_and_a_transfer_has_the_callers(
    timeout_s: float, connect_s: float, scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    real = urllib3.util.connection.create_connection

    def connect(address: tuple[str, int], timeout: object, **options: object) -> socket.socket:
        seen.append(timeout)
        made = real(address, timeout, **options)  # type: ignore[arg-type]
        sockets.append(made)
        return made

    sockets: list[socket.socket] = []
    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    source = HttpSource(scripted([ok(BLOB)]).url, 0, timeout_s)
    source.open()
    assert source.offset == 0 and source.size_bytes == len(BLOB)
    assert seen == [connect_s] and sockets[0].gettimeout() == timeout_s
    source.close()


class SecureServer:
    """Answers HTTPS requests for localhost with a script, under a certificate of its own in `pem`."""

    def __init__(self, folder: Path, script: list[bytes | float]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.pem = folder / "server.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.pem)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._script, self._stopped = script, threading.Event()
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/blob"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._context.wrap_socket(self._listener.accept()[0], server_side=True) as connection:
                    self.requests.append(connection.recv(4096))
                    for step in self._script:
                        if isinstance(step, bytes):
                            connection.sendall(step)
                        elif self._stopped.wait(step):
                            return
            except OSError:  # a refused handshake, a client that hung up, or the end
                continue

    def close(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listener.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Callable[[list[bytes | float]], SecureServer]]:
    made: list[SecureServer] = []

    def start(script: list[bytes | float]) -> SecureServer:
        made.append(SecureServer(tmp_path, script))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_a_certificate_that_nobody_trusts_is_refused(secure) -> None:
    server = secure([ok(BLOB)])
    with pytest.raises(LinkDead, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60)
    assert server.requests == []


def test_a_trusted_server_is_read_and_its_connection_can_be_cut(secure, monkeypatch: pytest.MonkeyPatch) -> None:
    server = secure([ok(b"", 3), b"a", b"bc"])
    monkeypatch.setenv("SSL_CERT_FILE", str(server.pem))
    assert fetch(link_to(server.url, b"abc"), limit_bytes=3, timeout_s=60) == b"abc"
    server = secure([b"HTTP/1.1 200 OK\r\nX: ", *[b"x", 0.05] * 12_000])
    monkeypatch.setenv("SSL_CERT_FILE", str(server.pem))
    with pytest.raises(TooSlow):
        fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=1.0)
    for thread in threading.enumerate():
        if thread.name == "pot-lab-fetch":
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("code", "error"),
    [(413, TooBig), (422, WrongHash), (507, StoreFull), (400, LinkDead), (423, LinkDead), (500, LinkDead)],
)
def test_why_a_store_refused_a_blob(code: int, error: type[Exception], scripted) -> None:
    refusal = f"HTTP/1.1 {code} X\r\nContent-Length: 8\r\n\r\nno  more".encode()
    with pytest.raises(error, match=f"HTTP {code}: no  more"):
        Store(origin(scripted([EMPTY_404], [refusal]))).put(b"x")


def test_credentials_are_sent_and_never_shown(scripted) -> None:
    server = scripted([EMPTY_404], [status("201 Created")], [EMPTY_404], [status("401 Unauthorized")], [ok(BLOB)])
    store = Store(origin(server).replace("http://", "http://user:s3cret@"))
    link = store.put(b"x")
    assert "s3cret" not in link.uri and "s3cret" not in store.url
    with pytest.raises(LinkDead) as refusal:
        store.put(b"x")
    assert "s3cret" not in str(refusal.value)
    wanted = link_to(store.uri(link_to("http://h/").digest))
    assert store.fetch(wanted, limit_bytes=1 << 30, timeout_s=60) == BLOB
    assert len(server.requests) == 5 and all(BASIC in request for request in server.requests)
    fetch(wanted, limit_bytes=1 << 30, timeout_s=60)
    assert b"uthorization" not in server.requests[-1]


def test_credentials_stay_with_their_own_origin(scripted) -> None:
    there = scripted([ok(BLOB)])
    here = scripted([status("302 Found", "Location: /again")], [status("302 Found", f"Location: {there.url}")])
    uri = here.url.replace("http://", "http://user:s3cret@")
    assert fetch(link_to(uri), limit_bytes=1 << 30, timeout_s=60) == BLOB
    assert all(BASIC in request for request in here.requests) and len(here.requests) == 2
    assert b"uthorization" not in there.requests[0]


FINAL = {400, 401, 403, 404, 405, 410, 451}


@pytest.mark.parametrize(
    "code", sorted({n + d for n in FINAL for d in (-1, 0, 1)} | {199, 201, 204, 416, 429, 500, 503})
)
def test_which_answers_are_final_and_which_are_worth_another_attempt(code: int, scripted) -> None:
    source = HttpSource(scripted([status(f"{code} X")]).url, 0, 60.0)
    reason = f"HTTP {code}: the server has fewer bytes" if code == 416 else rf"HTTP {code}( at |$)"
    with pytest.raises(LinkDead if code in FINAL else Interrupted, match=reason):
        source.open()
    source.close()


@pytest.mark.parametrize("value", ["identity", "Identity", "", " identity "])
def test_no_encoding_may_be_named_in_any_case(scripted, value: str) -> None:
    answer = ok(BLOB).replace(b"OK\r\n", f"OK\r\nContent-Encoding: {value}\r\n".encode(), 1)
    server = scripted([answer])
    assert fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60) == BLOB
    assert b"Accept-Encoding: identity" in server.requests[0]


def test_an_encoded_answer_is_refused(scripted) -> None:
    answer = ok(BLOB).replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n", 1)
    with pytest.raises(LinkDead, match="gzip"):
        fetch(link_to(scripted([answer]).url), limit_bytes=1 << 30, timeout_s=60)


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "1e9", "²"])
def test_a_length_that_is_no_number_is_not_believed(scripted, length: str) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + length.encode("latin-1") + b"\r\n\r\n" + BLOB
    assert fetch(link_to(scripted([answer]).url), limit_bytes=1 << 30, timeout_s=60) == BLOB


def test_another_range_than_was_asked_for_is_not_appended(scripted, tmp_path: Path) -> None:
    link = link_to("http://h/")
    (tmp_path / f".{link.digest.hex()}.part").write_bytes(BLOB[:1000])
    server = scripted([partial(BLOB, 999)], [partial(BLOB, 1000)])
    assert fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path) == BLOB
    assert len(server.requests) == 2


def test_a_range_of_a_blob_with_another_size_is_refused(scripted, tmp_path: Path) -> None:
    link = link_to("http://h/")
    (tmp_path / f".{link.digest.hex()}.part").write_bytes(BLOB[:1000])
    with pytest.raises(WrongHash, match="shorter"):
        fetch(link_to(scripted([partial(BLOB[:-1], 1000)]).url), limit_bytes=1 << 30, timeout_s=60, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "http://data..example/x",
        "http://.example/x",
        "http://" + "a" * 64 + ".example/x",
        "http://a b/x",
        "file:///tmp/a%00b",
        "http://h:99999/x",
    ],
)
def test_an_impossible_address_is_refused_at_once(uri: str) -> None:
    with pytest.raises(UnusableAddress):
        fetch(link_to(uri), limit_bytes=1 << 30, timeout_s=60)


def test_an_ipv6_store_is_an_address_like_any_other() -> None:
    with pytest.raises(LinkDead):
        Store("http://[::1]:9").put(b"x")


def test_other_hosts_are_asked_through_the_proxy_of_the_environment(scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = scripted([ok(BLOB)])
    monkeypatch.setenv("http_proxy", origin(proxy).replace("http://", "http://user:s3cret@"))
    assert fetch(link_to("http://blobs.example/x"), limit_bytes=1 << 30, timeout_s=60) == BLOB
    assert proxy.requests[0].startswith(b"GET http://blobs.example/x HTTP/1.1\r\n")
    assert b"proxy-" + BASIC in proxy.requests[0]


def test_loopback_is_never_asked_through_a_proxy(scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted([ok(BLOB)])
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=60) == BLOB


@pytest.mark.parametrize(
    ("environment", "uri", "proxy"),
    [
        ({}, "http://h/x", None),
        ({"http_proxy": "http://p:1"}, "http://h/x", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://h/x", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://h/x", None),
        ({"https_proxy": "http://p:1"}, "https://h/x", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "https://h/x", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": ".example"}, "http://a.example:80/x", None),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "http://h/x", None),
        ({"http_proxy": "http://p:1"}, "http://localhost:5/x", None),
        ({"http_proxy": "http://p:1"}, "http://[::1]:5/x", None),
        ({"http_proxy": "http://p:1"}, "http://127.9.9.9/x", None),
        ({"http_proxy": "http://p:1"}, "http://10.0.0.1/x", "http://p:1"),
    ],
)
def test_which_proxy_is_used(
    environment: dict[str, str], uri: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(uri) == proxy


def test_a_proxy_of_another_kind_is_named_in_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://user:s3cret@p:1")
    with pytest.raises(UnusableAddress, match="socks5") as refusal:
        fetch(link_to("http://blobs.example/x"), limit_bytes=1 << 30, timeout_s=60)
    assert "s3cret" not in str(refusal.value)


def test_an_upload_has_the_callers_timeout_and_not_that_of_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pot_lab.store.http_transport.CONNECT_TIMEOUT_S", 0.2)
    listener = socket.create_server(("127.0.0.1", 0))
    data = bytes(16 << 20)
    received: list[int] = []

    def serve() -> None:
        with listener.accept()[0] as head:
            head.recv(4096)
            head.sendall(EMPTY_404)
        with listener.accept()[0] as put:
            threading.Event().wait(0.5)  # the sender's buffers are full meanwhile
            size = 0
            while size < len(data) and (part := put.recv(1 << 20)):
                size += len(part.partition(b"\r\n\r\n")[2] if size == 0 else part)
            received.append(size)
            put.sendall(status("201 Created"))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    Store(f"http://127.0.0.1:{listener.getsockname()[1]}").put(data)
    thread.join(60)
    listener.close()
    assert received == [len(data)]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", ok(b"", len(BLOB))])
def test_no_thread_is_left_reading_from_a_server_that_drips(scripted, head: bytes) -> None:
    """Every byte comes well within one read's timeout, so that only a cut connection ends the reading."""
    server = scripted([head, *[b"x", 0.05] * 12_000])
    with pytest.raises(TooSlow):
        fetch(link_to(server.url), limit_bytes=1 << 30, timeout_s=0.5)
    for thread in threading.enumerate():
        if thread.name == "pot-lab-fetch":
            thread.join(60)
            assert not thread.is_alive()


def test_a_source_that_is_closed_while_it_connects_sends_nothing(scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted([ok(BLOB)])
    source = HttpSource(server.url, 0, 60.0)
    real = urllib3.util.connection.create_connection

    def connect(*arguments: object, **options: object) -> socket.socket:
        source.close()
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    with pytest.raises(Interrupted, match="closed by the caller"):
        source.open()
    assert b"GET" not in b"".join(server.requests)


def test_a_source_that_is_not_open_or_was_closed_gives_nothing(scripted, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    for source in (HttpSource("http://127.0.0.1:1/", 0, 1.0), FileSource(str(tmp_path / "x"), 0)):
        with pytest.raises(Interrupted):
            next(source.chunks())
    closed = HttpSource(scripted([ok(BLOB)]).url, 0, 60.0)
    closed.close()
    with pytest.raises(Interrupted):
        closed.open()


def test_blobs_of_a_folder_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        link = Store(tmp_path).put(b"model")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / link.digest.hex()).stat().st_mode) == 0o644
