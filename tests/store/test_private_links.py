"""Links of strangers do not lead into the private network of whoever follows them, unless that is wanted."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.store import LinkDead, Store, UnusableAddress, fetch, http_transport
from pot_lab.store.addresses import is_private, is_private_place

BLOB = b"weights" * 100
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BLOB)


def link_to(uri: str) -> Link:
    return Link(digest=hashlib.sha256(BLOB).digest(), size_bytes=len(BLOB), uri=uri)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
     "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_nobodys_on_the_internet_are_private(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_are_not(address: str) -> None:
    assert not is_private(address)


@pytest.mark.parametrize(
    ("uri", "private"),
    [("file:///etc/passwd", True), ("/etc/passwd", True), ("http://localhost/x", True), ("http://a.localhost./x", True),
     ("http://[::1]:80/x", True), ("http://user:pw@10.0.0.1/x", True), ("https://example.org/x", False),
     ("http://1.1.1.1/x", False), ("s3://bucket/x", False)],
)  # fmt: skip
def test_what_an_address_itself_says(uri: str, private: bool) -> None:
    assert is_private_place(uri) is private


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "inner.example"]
)
def test_a_private_link_is_refused_before_anything_is_sent(
    host: str, scripted: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted([ANSWER + BLOB])
    uri = server.url.replace("127.0.0.1", host)  # type: ignore[attr-defined]
    real = socket.getaddrinfo

    def resolve(name: str, *rest: object, **more: object) -> object:
        return real("127.0.0.1" if name == "inner.example" else name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    if host != "[::ffff:127.0.0.1]":  # without the rule it is fetched
        assert fetch(link_to(uri), limit_bytes=1000, timeout_s=60) == BLOB
        assert len(server.requests) == 1  # type: ignore[attr-defined]
    before = len(server.requests)  # type: ignore[attr-defined]
    with pytest.raises(UnusableAddress, match="private"):
        fetch(link_to(uri), limit_bytes=1000, timeout_s=60, private_links=False)
    assert len(server.requests) == before  # type: ignore[attr-defined]


def test_a_name_is_looked_up_once_so_that_its_second_answer_cannot_lead_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [("203.0.113.7", 9), ("127.0.0.1", 9)]
    asked: list[str] = []

    def resolve(name: str, *rest: object, **more: object) -> object:
        asked.append(name)
        address = name if name[0].isdigit() else answers[min(len(asked) - 1, 1)][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 9))]

    connected: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(http_transport, "is_private", lambda address: address == "127.0.0.1")

    class Refusing(socket.socket):
        def connect(self, address: object) -> None:
            connected.append(address)
            raise ConnectionRefusedError

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(UnusableAddress):  # each attempt asks the name once; from the second on it is private
        fetch(link_to("http://turning.example:9/x"), limit_bytes=1000, timeout_s=60, private_links=False)
    assert connected == [("203.0.113.7", 9)]


def test_a_redirect_to_a_private_address_is_refused(
    scripted: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = scripted([ANSWER + BLOB])
    there = inner.url.replace("127.0.0.1", "127.0.0.9")  # type: ignore[attr-defined]
    outer = scripted([b"HTTP/1.1 302 Found\r\nLocation: " + there.encode() + b"\r\nContent-Length: 0\r\n\r\n"])
    for name, rule in (("is_private", is_private), ("is_private_place", is_private_place)):
        monkeypatch.setattr(http_transport, name, lambda seen, rule=rule: "127.0.0.1" not in seen and rule(seen))
    with pytest.raises(UnusableAddress, match="private"):
        fetch(link_to(outer.url), limit_bytes=1000, timeout_s=60, private_links=False)  # type: ignore[attr-defined]
    assert len(outer.requests) == 1 and inner.requests == []  # type: ignore[attr-defined]


def test_a_store_at_a_private_address_is_its_users_own_choice(tmp_path: Path, serve: Callable[..., object]) -> None:
    near = Store(serve().url, private_links=False)  # type: ignore[attr-defined]
    link = near.put(BLOB)
    assert near.fetch(link, limit_bytes=1000, timeout_s=60) == BLOB
    far = Store(tmp_path / "far").put(b"other")
    with pytest.raises(UnusableAddress, match="files"):
        near.fetch(far, limit_bytes=1000, timeout_s=60)
    assert Store(near.url).fetch(far, limit_bytes=1000, timeout_s=60) == b"other"


def test_a_name_that_does_not_exist_is_a_dead_link() -> None:
    with pytest.raises(LinkDead):
        fetch(link_to("http://no-such-host.invalid/x"), limit_bytes=1000, timeout_s=60, private_links=False)


@pytest.mark.parametrize(
    ("url", "private"),
    [("http://127.0.0.1:1", True), ("http://[::1]:1", True), ("https://store.example", False), ("/var/blobs", True),
     ("s3://bucket/x", False)],
)  # fmt: skip
def test_where_a_store_is_says_where_links_may_lead_unless_told(url: str, private: bool) -> None:
    assert Store(url).private_links is private
    assert Store(url, private_links=True).private_links and not Store(url, private_links=False).private_links
