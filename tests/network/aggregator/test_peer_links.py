"""Links between aggregators: who may speak on which port, which name a sender has, and what is done about lost ones."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise, permutations

import msgspec
import psutil
import pytest
import zmq

from pot_lab.errors import PortTaken
from pot_lab.network.aggregator.peer_links import PeerLinks, dials
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from pot_lab.network.zmtp.listener import ListeningPort
from tests.network.dealer import prepare_dealer

PATIENCE_S = 240
KEPT: list[zmq.Socket[bytes]] = []  # a socket that nobody holds is closed, with what it has not sent yet
KEYS = [CurveKeyPair.generate() for _ in range(4)]
DIALLER_AND_DIALLED = (0, 1) if dials(KEYS[0].public, KEYS[1].public) else (1, 0)


@pytest.fixture
def config() -> NetworkConfig:
    ports = free_ports(8)
    entries = tuple(
        AggregatorEntry(
            index=i,
            host="127.0.0.1",
            peer_port=ports[2 * i],
            client_port=ports[2 * i + 1],
            curve_public=KEYS[i].public,
            address=bytes([i]) * 20,
            sealing_public=bytes(32),
        )
        for i in range(4)
    )
    return NetworkConfig(network_id=bytes(32), name="t", aggregators=entries)


class Side:
    """One aggregator's sockets, served by hand."""

    def __init__(self, config: NetworkConfig, index: int = 0) -> None:
        self.index = index
        own = config.aggregators[index]
        others = {each.index: each for each in config.aggregators if each is not own}
        self.links = PeerLinks(own, KEYS[index], others)
        self.clients = ListeningPort(
            own.host, own.client_port, KEYS[index], limit_bytes=10_000, unsent_limit_bytes=10_000
        )

    def serve(self) -> list[tuple[int, bytes]]:
        """One turn; frames of peers that are there."""
        self.links.maintain()
        poller = select.poll()
        for source in self.links.sources:
            poller.register(source, select.POLLIN)
        found = list(self.links.receive({descriptor for descriptor, _ in poller.poll(5)}, 100))
        self.links.flush()
        return found

    def heard(self, wanted: int = 1, patience_s: float = PATIENCE_S) -> list[tuple[int, bytes]]:
        """Frames of peers, once `wanted` are there or patience ends."""
        found: list[tuple[int, bytes]] = []
        until = time.monotonic() + patience_s
        while len(found) < wanted and time.monotonic() < until:
            found += self.serve()
        return found

    def close(self) -> None:
        self.links.close()
        self.clients.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def side(config: NetworkConfig) -> Iterator[Side]:
    with Side(config) as side:
        yield side


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(0)
    KEPT.clear()


def dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    url: str,
    keys: CurveKeyPair,
    *,
    server: str = KEYS[0].public,
    name: bytes = b"",
) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    prepare_dealer(socket, keys, server)
    if name:
        socket.setsockopt(zmq.IDENTITY, name)
    socket.connect(url)
    KEPT.append(socket)
    return socket


def say(speaker: zmq.Socket[bytes], *frames: bytes) -> None:
    """Send what the socket takes; a refused connection takes nothing."""
    try:
        speaker.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        pass


def test_a_peer_is_known_by_its_key_whatever_name_it_chooses(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    url = config.aggregators[0].peer_url
    say(dealer(context, url, KEYS[1], name=b"2"), b"from 1")
    assert side.heard() == [(1, b"from 1")]
    say(dealer(context, url, KEYS[2], name=b"x2"), b"from 2")
    assert side.heard() == [(2, b"from 2")]


def test_a_peer_cannot_take_over_anothers_name(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    url = config.aggregators[0].peer_url
    genuine = dealer(context, url, KEYS[1], name=b"name")
    say(genuine, b"a")
    assert side.heard() == [(1, b"a")]
    impostor = dealer(context, url, KEYS[2], name=b"name")
    say(impostor, b"b")
    assert side.heard() == [(2, b"b")]
    say(genuine, b"c")
    assert side.heard() == [(1, b"c")]


def test_a_stranger_is_refused_on_the_peer_port_and_welcome_on_the_client_port(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    stranger = CurveKeyPair.generate()
    say(dealer(context, config.aggregators[0].peer_url, stranger), b"let me in")
    until = time.monotonic() + PATIENCE_S
    while not side.links.counters["keys_refused"]:
        assert time.monotonic() < until
        assert side.serve() == []
    assert side.heard(patience_s=0.7) == []
    say(dealer(context, config.aggregators[0].client_url, stranger), b"hello")
    until = time.monotonic() + PATIENCE_S
    found: list[tuple[str, bytes | None]] = []
    while not found and time.monotonic() < until:
        found += [(sender.key, frame) for sender, frame in side.clients.messages()]
        time.sleep(0.005)
    assert found == [(stranger.public, b"hello")]


def test_an_aggregators_own_key_is_no_peers(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    say(dealer(context, config.aggregators[0].peer_url, KEYS[0]), b"it is me")
    assert side.heard(patience_s=0.7) == []


def test_plain_connections_and_wrong_server_keys_deliver_nothing(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    url = config.aggregators[0].peer_url
    plain = context.socket(zmq.DEALER)
    plain.linger = 0
    plain.connect(url)
    say(plain, b"plain")
    say(dealer(context, url, KEYS[1], server=KEYS[3].public), b"wrong server")
    assert side.heard(patience_s=0.7) == []


def test_frames_in_odd_numbers_are_counted_and_dropped(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    peer = dealer(context, config.aggregators[0].peer_url, KEYS[1])
    say(peer, b"one", b"two")
    say(peer, b"", b"x", b"y")
    say(peer, b"good")
    assert side.heard() == [(1, b"good")]
    assert side.links.counters["peer_frames_malformed"] == 2


def test_an_oversize_frame_ends_its_connection_only(
    side: Side, config: NetworkConfig, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    url = config.aggregators[0].peer_url
    say(dealer(context, url, KEYS[1]), bytes(9 * 1024 * 1024))
    say(dealer(context, url, KEYS[2]), b"still here")
    assert side.heard() == [(2, b"still here")]


def test_a_message_to_a_peer_that_is_away_is_dropped_not_queued(side: Side) -> None:
    for _ in range(10):
        side.links.send(1, b"x")
    assert side.links.counters["peer_frames_unsent"] == 10


def test_a_taken_port_is_named(side: Side, config: NetworkConfig) -> None:
    own = config.aggregators[0]
    with pytest.raises(PortTaken, match=str(own.peer_port)):
        PeerLinks(own, KEYS[0], {})


# Links between aggregators.


def carried(speaker: Side, listener: Side, frame: bytes) -> None:
    """Say a frame until it arrives: what is said before there is a connection is dropped."""
    one, other = (side.index for side in (speaker, listener))
    until = time.monotonic() + PATIENCE_S
    found: list[tuple[int, bytes]] = []
    while (one, frame) not in found:
        assert time.monotonic() < until, f"{frame[:20]!r} never came from {one} to {other}"
        speaker.serve()
        speaker.links.send(other, frame)
        speaker.links.flush()
        found = listener.serve()


def connections(port: int) -> int:
    listening = [each for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == port]
    return sum(each.status == psutil.CONN_ESTABLISHED for each in listening)


def test_two_keys_agree_who_dials_and_of_many_each_dials_about_half() -> None:
    keys = [CurveKeyPair.generate().public for _ in range(100)]
    dialled = [sum(dials(own, other) for other in keys if other != own) for own in keys]
    assert sum(dialled) == 100 * 99 // 2
    assert min(dialled) > 20 and max(dialled) < 80  # 49.5 and five deviations of 5, and a little
    assert all(dials(one, other) != dials(other, one) for one, other in pairwise(keys))


def test_one_connection_carries_both_ways_whoever_dialled(config: NetworkConfig) -> None:
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(config, index)) for index in range(4)]
        for speaker, listener in permutations(sides, 2):
            carried(speaker, listener, b"hello")
            carried(speaker, listener, bytes(1_000_000))
        accepted = [connections(entry.peer_port) for entry in config.aggregators]
        assert sum(accepted) == 6 and sum(len(side.links._dialled) for side in sides) == 6


@pytest.mark.parametrize("is_dialler", [True, False], ids=["who dialled", "who was dialled"])
def test_a_peer_that_starts_again_is_spoken_to_before_it_speaks(config: NetworkConfig, is_dialler: bool) -> None:
    one, other = DIALLER_AND_DIALLED if is_dialler else reversed(DIALLER_AND_DIALLED)
    with Side(config, other) as steady:
        with Side(config, one) as first:
            carried(first, steady, b"first")
            carried(steady, first, b"first")
        for round_ in range(3):
            with Side(config, one) as restarted:
                carried(steady, restarted, b"again %d" % round_)


def test_who_was_refused_at_first_is_let_in_once_it_is_known(config: NetworkConfig) -> None:
    one, other = DIALLER_AND_DIALLED
    with Side(config, one) as dialling, Side(config, other) as dialled:
        others = {each.index: each for each in config.aggregators if each.index != other}
        dialled.links.update({number: each for number, each in others.items() if number != one})
        until = time.monotonic() + PATIENCE_S
        while not dialled.links.counters["keys_refused"]:
            assert time.monotonic() < until
            dialling.serve()
            dialled.serve()
        dialled.links.update(others)
        carried(dialled, dialling, b"welcome")
    assert dialling.links.counters["dials_failed"] >= 1


@pytest.mark.parametrize("host", ["a b", "", "-", "no-such-host.invalid", "é.example", "a" * 300, "0x7f.1.1.1.1"])
def test_a_peer_that_cannot_be_dialled_is_counted_and_the_others_are_reached(config: NetworkConfig, host: str) -> None:
    """The ledger refuses most such hosts; a `network.toml` or a name server may still lead nowhere."""
    dialled = [each for each in config.aggregators if dials(KEYS[DIALLER_AND_DIALLED[0]].public, each.curve_public)]
    assert dialled
    one, other = DIALLER_AND_DIALLED
    with Side(config, one) as side, Side(config, other) as good:
        others = {each.index: each for each in config.aggregators if each.index != one}
        lost = {number: msgspec.structs.replace(each, host=host) for number, each in others.items() if number != other}
        side.links.update({**lost, other: others[other]})
        carried(side, good, b"hello")
        carried(good, side, b"hello")
        if any(dials(KEYS[one].public, each.curve_public) for each in lost.values()):
            until = time.monotonic() + PATIENCE_S
            while not side.links.counters["dials_failed"]:
                assert time.monotonic() < until
                side.serve()
        for number in lost:
            side.links.send(number, b"x")


@pytest.mark.parametrize("key", ["#" * 40, "0" * 40, "#"], ids=["too large", "no point", "too short"])
def test_a_peer_whose_key_is_none_is_counted_and_the_others_are_reached(config: NetworkConfig, key: str) -> None:
    one, other = DIALLER_AND_DIALLED
    with Side(config, one) as side, Side(config, other) as good:
        others = {each.index: each for each in config.aggregators if each.index != one}
        lost = {number: msgspec.structs.replace(each, curve_public=key) for number, each in others.items()}
        side.links.update({**{number: each for number, each in lost.items() if number != other}, other: others[other]})
        carried(side, good, b"hello")
        if dials(KEYS[one].public, key):
            until = time.monotonic() + PATIENCE_S
            third = next(number for number in lost if number != other)
            with Side(config, third):
                while not side.links.counters["dials_failed"]:
                    assert time.monotonic() < until
                    side.serve()


def test_an_ipv6_peer_is_dialled(config: NetworkConfig) -> None:
    one, other = DIALLER_AND_DIALLED
    entries = tuple(msgspec.structs.replace(each, host="::1") for each in config.aggregators)
    config = msgspec.structs.replace(config, aggregators=entries)
    with Side(config, one) as dialling, Side(config, other) as dialled:
        carried(dialling, dialled, b"hello")
        carried(dialled, dialling, b"hello")


def test_a_port_that_another_program_had_for_a_moment_is_dialled_again(config: NetworkConfig) -> None:
    one, other = DIALLER_AND_DIALLED
    entry = config.aggregators[other]
    stranger = socket.create_server((entry.host, entry.peer_port))
    with stranger, Side(config, one) as dialling:
        connection, _ = stranger.accept()
        connection.sendall(b"220 here is a mail server\r\n" * 10)
        connection.settimeout(0.01)
        with connection, suppress(ConnectionResetError):
            data = b"some"
            while data:  # until it hangs up
                dialling.serve()
                with suppress(TimeoutError):
                    data = connection.recv(1_000)
        stranger.close()
        with Side(config, other) as dialled:
            carried(dialled, dialling, b"welcome")


def test_a_peer_that_is_none_any_more_is_neither_heard_nor_spoken_to(config: NetworkConfig) -> None:
    with Side(config, 0) as one, Side(config, 1) as other:
        for speaker, listener in permutations((one, other)):
            carried(speaker, listener, b"hello")
        for gone, left in permutations((one, other)):
            others = {each.index: each for each in config.aggregators if each.index > 1}
            left.links.update(others)
            unsent = left.links.counters["peer_frames_unsent"]
            left.links.send(gone.index, b"x")
            assert left.links.counters["peer_frames_unsent"] == unsent + 1
            gone.links.send(left.index, b"still here")
            assert left.heard(patience_s=0.5) == []
