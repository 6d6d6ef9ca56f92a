"""An aggregator that names a host which no socket can be opened to would stop everybody who dials it."""

from __future__ import annotations

import pytest
import zmq

from pot_lab.errors import Malformed
from pot_lab.protocol.contact import Contact

Z85 = "0" * 40
BAD = [
    "a b",
    "",
    " ",
    "[::1",
    "a..b",
    "-a.example",
    "a-.example",
    "host:1",
    "tcp://x",
    "*",
    "a_b",
    "é.example",
    "a" * 64,
]
BAD += [
    ".".join(["a" * 60] * 5),
    "1::2::3",
    ":",
    ":::",
    "1:2",
    "1:2:3:4:5:6:7:8:9",
    "12345::",
    "fe80::1%eth0",
    "a\n",
    "a/b",
    "::g",
]
GOOD = [
    "127.0.0.1",
    "localhost",
    "aggregator-3.example.org",
    "::1",
    "::",
    "1::",
    "1:2:3:4:5:6:7:8",
    "2001:db8::7",
    "xn--bcher-kva.example",
    "10.0.0.1",
]


@pytest.mark.parametrize("host", BAD)
def test_a_host_that_is_none_never_enters_the_ledger(host: str) -> None:
    with pytest.raises(Malformed, match="host"):
        Contact(host=host, peer_port=1_000, client_port=1_001, custody_port=1_002, curve_public=Z85).check()


@pytest.mark.parametrize("host", GOOD)
def test_every_host_that_enters_can_be_dialled(host: str) -> None:
    contact = Contact(host=host, peer_port=1_000, client_port=1_001, custody_port=1_002, curve_public=Z85)
    contact.check()
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://[{host}]:1000" if ":" in host else f"tcp://{host}:1000")


@pytest.mark.parametrize("key", ["", "0" * 39, "0" * 41, "0" * 39 + " ", "0" * 39 + "~", "0" * 39 + "é", '"' * 40])
def test_a_key_that_no_socket_takes_never_enters_the_ledger(key: str) -> None:
    with pytest.raises(Malformed, match="CURVE"):
        Contact(host="localhost", peer_port=1_000, client_port=1_001, custody_port=1_002, curve_public=key).check()


@pytest.mark.parametrize("ports", [(0, 1), (1, 0), (1, 1 << 16), (1 << 16, 1), (7, 7), (-1, 7)])
def test_ports_that_nobody_can_listen_on_never_enter_the_ledger(ports: tuple[int, int]) -> None:
    with pytest.raises(Malformed, match="ports"):
        Contact(
            host="localhost", peer_port=ports[0], client_port=ports[1], custody_port=1_002, curve_public=Z85
        ).check()
    Contact(host="localhost", peer_port=1, client_port=(1 << 16) - 1, custody_port=2, curve_public=Z85).check()
