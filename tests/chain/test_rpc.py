"""The way to a node: what a node may do wrong, and how that is named."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pot_lab.chain.errors import ChainBusy, ChainRefused, ChainReverted, ChainUnreachable
from pot_lab.chain.rpc import MAX_ANSWER_BYTES, JsonRpc, read_data, read_quantity
from pot_lab.errors import Malformed


@contextmanager
def node(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that treats each connection as `behave` says."""
    server = socket.create_server(("127.0.0.1", 0))

    def treat(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=treat, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def answers(body: bytes, status: str = "200 OK", times: int = 1) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        for _ in range(times):
            if connection.recv(65_536):
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return behave


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b"7", b"{}", b'{"jsonrpc":"2.0","id":1}', b"[" * 50_000],
)
def test_nonsense_is_refused(body: bytes) -> None:
    with node(answers(body)) as url, pytest.raises(ChainRefused):
        JsonRpc(url, timeout_s=120).call("eth_chainId")


@pytest.mark.parametrize(
    "error",
    [
        '{"code":3,"message":"execution reverted","data":"%s"}',
        '{"code":-32000,"message":"execution reverted","data":"%s"}',
        '{"code":-32015,"message":"VM execution error: revert","data":"Reverted %s"}',
        '{"code":-32603,"message":"VM Exception: reverted with custom error","data":{"data":"%s"}}',
    ],
)
def test_every_kind_of_nodes_revert_is_read(error: str) -> None:
    data = "0x1e4fbdf7" + "00" * 12 + "11" * 20  # OwnableInvalidOwner(address)
    body = ('{"jsonrpc":"2.0","id":1,"error":' + error % data + "}").encode()
    with node(answers(body)) as url, pytest.raises(ChainReverted) as caught:
        JsonRpc(url, timeout_s=120).call("eth_call")
    assert (caught.value.name, caught.value.arguments) == ("OwnableInvalidOwner", (b"\x11" * 20,))


def test_a_nodes_own_refusal_keeps_its_words() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"insufficient funds for gas * price + value"}}'
    with node(answers(body)) as url, pytest.raises(ChainRefused, match="insufficient funds"):
        JsonRpc(url, timeout_s=120).call("eth_sendRawTransaction")


@pytest.mark.parametrize(
    "error",
    [
        '{"code":-32005,"message":"project ID request rate exceeded"}',
        '{"code":429,"message":"Your app has exceeded its compute units per second capacity"}',
        '{"code":-32007,"message":"25/second request limit reached - reduce calls per second"}',
        '{"code":-32090,"message":"Too many requests, reason: call rate limit exhausted"}',
        '{"code":-32016,"message":"over rate limit"}',
        '{"code":-32000,"message":"header not found"}',
        '{"code":-32603,"message":"request timed out"}',
    ],
)
def test_a_rate_limit_in_an_answer_is_told_from_a_refusal(error: str) -> None:
    body = ('{"jsonrpc":"2.0","id":1,"error":' + error + "}").encode()
    with node(answers(body)) as url, pytest.raises(ChainBusy):
        JsonRpc(url, timeout_s=120).call("eth_call")


@pytest.mark.parametrize(
    "error",
    [
        '{"code":-32005,"message":"query returned more than 10000 results"}',
        '{"code":-32602,"message":"range 2000 exceeds limit of 500"}',
        '{"code":-32005,"message":"exceed maximum block range: 5000"}',
        '{"code":35,"message":"ranges over 10000 blocks are not supported on this plan"}',
    ],
)
def test_too_wide_a_span_of_logs_is_no_rate_limit(error: str) -> None:
    body = ('{"jsonrpc":"2.0","id":1,"error":' + error + "}").encode()
    with node(answers(body)) as url, pytest.raises(ChainRefused):
        JsonRpc(url, timeout_s=120).call("eth_getLogs")


def test_user_and_password_of_an_address_are_sent_and_never_told() -> None:
    heard: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heard.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with node(behave) as url, pytest.raises(ChainRefused, match="user and password") as caught:
        JsonRpc(url.replace("//", "//user:p%40ss@"), timeout_s=120).call("eth_chainId")
    assert b"Authorization: Basic dXNlcjpwQHNz\r\n" in heard[0]  # user:p@ss
    assert "ss@" not in str(caught.value) and "user:" not in str(caught.value)


def test_a_call_that_was_interrupted_does_not_meet_the_next() -> None:
    count = iter(range(1, 9))

    def behave(connection: socket.socket) -> None:
        while connection.recv(65_536):
            body = b'{"jsonrpc":"2.0","id":1,"result":"0x%d"}' % next(count)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with node(behave) as url:
        rpc = JsonRpc(url, timeout_s=120)
        [way] = rpc._nodes
        whole, way._read = way._read, lambda _: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            rpc.call("eth_chainId")
        way._read = whole  # type: ignore[attr-defined]
        assert rpc.call("eth_chainId") in ("0x2", "0x3"), "not the first; a dropped connection is tried once more"
        rpc.close()


def test_a_page_instead_of_an_answer_is_told_by_its_title() -> None:
    with node(answers(b"<html><title>Hotel login</title></html>")) as url, pytest.raises(ChainRefused, match="Hotel"):
        JsonRpc(url, timeout_s=120).call("eth_chainId")


@pytest.mark.parametrize("tail", ["/\u00e4?key=\u00e4", " ", "/a b"])
def test_an_address_as_people_copy_it_is_used(tail: str) -> None:
    with node(answers(b'{"jsonrpc":"2.0","id":1,"result":"0x1"}')) as url:
        assert JsonRpc(url + tail, timeout_s=120).call("eth_chainId") == "0x1"


def test_a_proxy_of_the_environment_is_used_but_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    body = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'

    def behave(connection: socket.socket) -> None:
        heard.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with node(behave) as proxy, node(answers(body)) as direct:
        monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:pw@"))
        assert JsonRpc("http://chain.example/v3", timeout_s=120).call("eth_chainId") == "0x1"
        assert heard[0].startswith(b"POST http://chain.example/v3 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic bWU6cHc=\r\n" in heard[0]
        assert JsonRpc(direct, timeout_s=120).call("eth_chainId") == "0x1" and len(heard) == 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "502 Bad Gateway", "503 Busy"])
def test_an_overloaded_node_is_unreachable_for_now(status: str) -> None:
    with node(answers(b"busy", status)) as url, pytest.raises(ChainUnreachable, match=status[:3]):
        JsonRpc(url, timeout_s=120).call("eth_chainId")


def test_a_silent_node_is_given_up() -> None:
    release = threading.Event()
    with node(lambda connection: release.wait(240) and None) as url:
        with pytest.raises(ChainUnreachable, match="timed out"):
            JsonRpc(url, timeout_s=0.2).call("eth_chainId")
        release.set()


def test_too_long_an_answer_is_not_read_to_its_end() -> None:
    def endless(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(1 << 20))
        except OSError:
            pass

    with node(endless) as url, pytest.raises(ChainRefused, match=f"at most {MAX_ANSWER_BYTES}"):
        JsonRpc(url, timeout_s=120).call("eth_chainId")


def test_a_connection_that_the_node_closed_meanwhile_is_opened_again() -> None:
    with node(answers(b'{"jsonrpc":"2.0","id":1,"result":"0x1"}')) as url:  # one answer a connection
        rpc = JsonRpc(url, timeout_s=120)
        assert [rpc.call("eth_chainId") for _ in range(3)] == ["0x1"] * 3


def test_a_node_that_closes_at_once_is_unreachable() -> None:
    with node(lambda connection: None) as url, pytest.raises(ChainUnreachable):
        JsonRpc(url, timeout_s=120).call("eth_chainId")


def test_the_key_in_a_nodes_path_is_not_told() -> None:
    with pytest.raises(ChainUnreachable) as caught:
        JsonRpc("http://127.0.0.1:9/v3/secret-key").call("eth_chainId")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8545", "ftp://127.0.0.1:1", "ipc://", "http://", "http://127.0.0.1:99999", "http://a,b://c"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Malformed):
        JsonRpc(url)


@pytest.mark.parametrize("value", [None, 7, "7", "0x", "0xzz", "0x" + "1" * 70, ["0x1"]])
def test_a_quantity_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ChainRefused):
        read_quantity(value)


@pytest.mark.parametrize("value", [None, 7, "11", "0x1", "0xzz", "0x1111"])
def test_data_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ChainRefused):
        read_data(value, 1)
