"""The port that strangers reach: libzmq's own clients can use it, and nothing that a connection does has no bound."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from pot_lab.errors import PortTaken
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from pot_lab.network.zmtp import listener as listener_module
from pot_lab.network.zmtp.connection import Connection
from pot_lab.network.zmtp.framing import encode_frame
from pot_lab.network.zmtp.listener import ListeningPort, Sender
from pot_lab.network.zmtp.registry import site_of
from tests.network.dealer import prepare_dealer
from tests.network.zmtp.raw import PATIENCE_S, advance, connected, hang_up

KEYS = CurveKeyPair.generate()
HOST = "127.0.0.1"
LIMIT_BYTES = 100_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Port:
    """A listener, what came to it, and the connections that a test made."""

    def __init__(self, **rules: object) -> None:
        [self.number] = free_ports(1)
        self.clock = Clock()
        arguments = {"limit_bytes": LIMIT_BYTES, "unsent_limit_bytes": 1_000_000, "clock": self.clock, **rules}
        self.listener = ListeningPort(HOST, self.number, KEYS, **arguments)  # type: ignore[arg-type]
        self.came: list[tuple[Sender, bytes | None]] = []
        self.opened: list[Connection] = []

    def turn(self, wants: Callable[[Sender], bool] = lambda sender: True) -> None:
        self.came += self.listener.messages(wants)
        self.listener.flush()

    def until(self, condition: Callable[[], bool], wants: Callable[[Sender], bool] = lambda sender: True) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until_s
            self.turn(wants)
            for connection in self.opened:
                advance(connection)

    def connect(self, keys: CurveKeyPair | None = None, source: str | None = None) -> Connection:
        """A connection whose handshake is over."""
        connection = connected(HOST, self.number, KEYS.public, keys, source)
        self.opened.append(connection)
        self.until(lambda: connection.ready or bool(connection.ended))
        return connection

    def bodies(self) -> list[bytes | None]:
        return [body for _, body in self.came]

    def close(self) -> None:
        self.listener.close()
        for connection in self.opened:
            connection.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Port]]:
    made: list[Port] = []

    def new(**rules: object) -> Port:
        made.append(Port(**rules))
        return made[-1]

    yield new
    for port in made:
        port.close()


def say(connection: Connection, *bodies: bytes) -> None:
    for body in bodies:
        assert connection.send(body)
    connection.flush()


def test_a_dealer_of_libzmq_is_answered_and_its_key_is_told(make: Callable[..., Port]) -> None:
    port, keys = make(), CurveKeyPair.generate()
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        prepare_dealer(dealer, keys, KEYS.public)
        dealer.connect(f"tcp://{HOST}:{port.number}")
        for body in (b"", b"short", os.urandom(LIMIT_BYTES)):
            dealer.send(body)
        dealer.send_multipart([b"in", b"three", b"parts"])
        dealer.send(b"after")
        port.until(lambda: len(port.came) == 5)
        assert port.bodies()[0] == b"" and port.bodies()[1] == b"short" and port.bodies()[3:] == [None, b"after"]
        assert {(sender.key, sender.site) for sender, _ in port.came} == {(keys.public, HOST)}
        assert len({sender.route for sender, _ in port.came}) == 1
        answers = [b"", b"short", os.urandom(500_000)]
        for body in answers:
            assert port.listener.send(port.came[0][0].route, body)
            port.listener.flush()
        received: list[bytes] = []

        def take() -> bool:
            if dealer.poll(1):
                received.append(dealer.recv())
            return len(received) == 3

        port.until(take)
        assert received == answers


def test_libzmqs_heartbeats_are_answered_and_keep_its_connection(make: Callable[..., Port]) -> None:
    """A dealer that hears nothing for its HEARTBEAT_TIMEOUT would hang up."""
    port = make()
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        prepare_dealer(dealer, CurveKeyPair.generate(), KEYS.public)
        dealer.setsockopt(zmq.HEARTBEAT_IVL, 20)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5_000)
        monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        dealer.connect(f"tcp://{HOST}:{port.number}")
        dealer.send(b"hello")
        port.until(lambda: bool(port.came))
        until_s = time.monotonic() + 6
        while time.monotonic() < until_s:
            port.turn()
            time.sleep(0.005)
        assert not monitor.poll(0) and len(port.listener) == 1
        dealer.disable_monitor()
        monitor.close(0)


def test_a_ping_is_answered_with_its_context_and_a_short_one_not_at_all(make: Callable[..., Port]) -> None:
    """libzmq answers a PING that lacks its TTL with 16 bytes of its own memory."""
    port = make()
    client = port.connect()
    channel = client._handshake.channel
    assert channel is not None
    for ping in (b"\x04PING", b"\x04PING\0", b"\x04PING\0\0" + bytes(range(20))):
        client._queue(encode_frame(channel.seal(ping, is_command=True)))
    client.flush()
    answers: list[bytes] = []

    def pong() -> bool:
        client.read()
        if (frame := client._reader.take()) is not None:
            answers.append(channel.open(frame.body).body)
        return bool(answers)

    port.opened.clear()
    port.until(pong)
    assert answers == [b"\x04PONG" + bytes(range(16))]
    client.close()


def test_a_reader_that_stops_early_loses_nothing(make: Callable[..., Port]) -> None:
    port = make()
    client = port.connect()
    say(client, *(b"%d" % number for number in range(10)))
    found: list[bytes | None] = []
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < 10:
        assert time.monotonic() < until_s
        for _, body in port.listener.messages():
            found.append(body)
            break
    assert found == [b"%d" % number for number in range(10)]


def test_what_is_not_wanted_waits_in_the_kernel_and_slows_its_sender(make: Callable[..., Port]) -> None:
    port = make()
    greedy, modest = port.connect(CurveKeyPair.generate()), port.connect()

    def wants(sender: Sender) -> bool:
        return sender.key != greedy_key

    say(greedy, b"who am I")
    port.until(lambda: bool(port.came))
    greedy_key = port.came[0][0].key
    sent_bytes = 0
    for _ in range(2_000):
        greedy.send(bytes(50_000))
        greedy.flush()
        port.turn(wants)
        if greedy.unsent_bytes:
            sent_bytes += 1
    assert greedy.unsent_bytes > 10_000_000, "the kernel took everything"
    say(modest, b"modest")
    port.until(lambda: port.bodies()[-1:] == [b"modest"], wants)
    assert port.listener._connections.bytes_in_all < 1_000_000
    wanted = len(port.came) + 3
    port.until(lambda: len(port.came) >= wanted)


def test_what_is_not_wanted_waits_also_after_its_sender_hung_up(make: Callable[..., Port]) -> None:
    port = make()
    client = port.connect()
    say(client, *(b"%d" % number for number in range(10)))

    def few(sender: Sender) -> bool:
        return len(port.came) < 3

    port.until(lambda: len(port.came) == 3, few)
    port.opened.clear()
    hang_up(client)
    [accepted] = port.listener._connections.by_route.values()
    until_s = time.monotonic() + PATIENCE_S
    while not accepted.connection.is_broken:
        assert time.monotonic() < until_s
        port.listener.send(accepted.route, b"an answer")
        port.listener.flush()
    for _ in range(5):
        port.turn(few)
    assert len(port.came) == 3 and port.listener.wait_ms == 5
    port.until(lambda: len(port.came) == 10 and len(port.listener) == 0)


def test_who_reads_nothing_is_sent_no_more_than_a_bound(make: Callable[..., Port]) -> None:
    port = make()
    client = port.connect()
    say(client, b"hello")
    port.until(lambda: bool(port.came))
    port.opened.clear()  # it reads nothing
    route = port.came[0][0].route
    sent = [port.listener.send(route, bytes(100_000)) for _ in range(200)]
    port.listener.flush()
    assert sent[0] and not sent[-1] and sent == sorted(sent, reverse=True)
    assert port.listener._connections.bytes_in_all < 1_200_000
    client.close()


def test_all_bytes_together_are_bounded_and_cost_who_holds_most(
    make: Callable[..., Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "_BYTES_IN_ALL", 400_000)
    port = make(limit_bytes=1_000_000)
    small, large = port.connect(), port.connect()
    for connection, size in ((small, 50_000), (large, 900_000)):
        whole = encode_frame(connection._handshake.channel.seal(bytes(size)))  # type: ignore[union-attr]
        connection._queue(whole[:-1])  # one byte is lacking
    port.until(lambda: len(port.listener) == 1)
    assert port.listener.counters["connections_evicted"] == 1
    port.until(lambda: bool(large.ended))
    assert small.ready


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(64), b"\xff" * 64, bytes(range(3, 203))])
def test_what_is_no_greeting_ends_its_connection_only(make: Callable[..., Port], data: bytes) -> None:
    port = make()
    stranger = socket.create_connection((HOST, port.number))
    stranger.sendall(data)
    port.until(lambda: port.listener.counters["handshakes_failed"] == 1)
    assert len(port.listener) == 0
    stranger.close()
    say(port.connect(), b"still here")
    port.until(lambda: port.bodies() == [b"still here"])


def test_a_frame_that_is_too_large_ends_its_connection_only(make: Callable[..., Port]) -> None:
    port = make()
    loud, quiet = port.connect(), port.connect()
    say(loud, bytes(LIMIT_BYTES + 1))
    port.until(lambda: bool(loud.ended))
    say(quiet, bytes(LIMIT_BYTES))
    port.until(lambda: port.bodies() == [bytes(LIMIT_BYTES)])


def test_who_does_not_finish_its_handshake_in_time_is_ended(make: Callable[..., Port]) -> None:
    port = make()
    silent = socket.create_connection((HOST, port.number))
    port.until(lambda: len(port.listener) == 1)
    ready = port.connect()
    port.clock.now_s += 9.9
    port.turn()
    assert len(port.listener) == 2
    port.clock.now_s += 1.2
    port.turn()
    assert len(port.listener) == 1 and ready.ready
    silent.close()


def test_keys_that_are_not_admitted_are_counted_and_get_nothing(make: Callable[..., Port]) -> None:
    friend = CurveKeyPair.generate()
    port = make(admits=lambda key: key == friend.public)
    assert not port.connect().ready and port.listener.counters["keys_refused"] == 1
    assert port.connect(friend).ready
    port.listener.disconnect(friend.public)
    assert len(port.listener) == 0


def test_one_key_has_so_many_connections_and_the_quietest_goes(
    make: Callable[..., Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "CONNECTIONS_PER_KEY", 2)
    port, keys = make(), CurveKeyPair.generate()
    other, first, second = port.connect(), port.connect(keys), port.connect(keys)
    say(first, b"I speak")
    port.until(lambda: bool(port.came))
    third = port.connect(keys)
    port.until(lambda: bool(second.ended))
    assert first.ready and third.ready and other.ready


def test_an_address_full_of_connections_shuts_nobody_else_out(make: Callable[..., Port]) -> None:
    port = make(most=16)
    honest = port.connect(source="127.0.0.2")
    strangers = [port.connect() for _ in range(50)]
    assert len(port.listener) == 9
    assert honest.ready and sum(each.ready for each in strangers) == 8 and strangers[-1].ready
    late = port.connect(source="127.0.0.3")
    say(honest, b"honest")
    say(late, b"late")
    port.until(lambda: len(port.came) == 2)


def test_who_has_no_handshake_makes_room_before_who_is_quiet(make: Callable[..., Port]) -> None:
    port = make(most=8)
    quiet = [port.connect() for _ in range(3)]
    raw = [socket.create_connection((HOST, port.number)) for _ in range(30)]
    port.until(lambda: port.listener.counters["connections_evicted"] == 29)
    assert all(each.ready for each in quiet) and len(port.listener) == 4
    for each in raw:
        each.close()
    for each in quiet:
        say(each, b"here")
    port.until(lambda: len(port.came) == 3)


def test_of_many_addresses_the_one_with_most_makes_room(make: Callable[..., Port]) -> None:
    port = make(most=8)
    strangers = [port.connect(source=f"127.0.1.{number % 3 + 1}") for number in range(9)]
    honest = port.connect(source="127.0.0.2")
    strangers += [port.connect(source=f"127.0.1.{number % 3 + 1}") for number in range(9)]
    assert len(port.listener) == 8 and honest.ready


def test_readers_of_one_address_take_turns_with_those_of_another(
    make: Callable[..., Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "_MESSAGES_A_TURN", 1)
    port = make()
    many = [port.connect() for _ in range(6)]
    one = port.connect(source="127.0.0.2")
    for connection in [*many, one]:
        say(connection, *[b"x"] * 3)
    port.until(lambda: len(port.came) == 21)
    assert [sender.site for sender, _ in port.came][:8].count("127.0.0.2") == 3


def test_handshakes_delay_the_connections_of_their_own_address_by_little(make: Callable[..., Port]) -> None:
    port = make(reading_s=0.0)  # one connection a turn
    known = port.connect()
    strangers = [connected(HOST, port.number, KEYS.public) for _ in range(12)]
    for each in strangers:
        advance(each)
    port.opened += strangers
    port.until(lambda: len(port.listener) == 13)
    for each in strangers:
        advance(each)
    say(known, b"behind twelve handshakes")
    time.sleep(0.1)  # all of it is in the kernel now
    for _ in range(2):
        port.turn()
    assert port.bodies() == [b"behind twelve handshakes"]
    port.until(lambda: all(each.ready for each in strangers))


def test_a_connection_that_was_reset_is_forgotten(make: Callable[..., Port]) -> None:
    port = make()
    for number in range(20):
        client = port.connect()
        port.opened.clear()
        if number % 2:
            say(client, *[bytes(1_000)] * 20)
        hang_up(client)
        port.until(lambda: len(port.listener) == 0)
    assert port.listener.wait_ms is None and port.listener._connections.bytes_in_all == 0


def test_a_taken_port_is_named(make: Callable[..., Port]) -> None:
    port = make()
    with pytest.raises(PortTaken, match=str(port.number)):
        ListeningPort(HOST, port.number, KEYS, limit_bytes=1, unsent_limit_bytes=1)


def test_an_ipv6_host_is_one_site_whatever_address_of_its_network_it_uses() -> None:
    assert site_of("2001:db8:1:2:3:4:5:6") == site_of("2001:db8:1:2::1") != site_of("2001:db8:1:3::1")
    assert site_of("::ffff:10.0.0.1") == site_of("10.0.0.1") == "10.0.0.1"
    assert site_of("fe80::1%eth0") == site_of("fe80::2")
