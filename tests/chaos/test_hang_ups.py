"""Connections that send more than anybody reads and hang up, again and again, against real processes: nobody dies.

`tests/network/zmtp/test_libzmq.py` shows that each of these ended a process whose port was libzmq's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pot_lab.network.wire import MAX_CREDIT, Follow, Query, SubmitAll
from pot_lab.network.wire import encode_frame as encode_question
from pot_lab.network.zmtp.connection import Connection
from pot_lab.network.zmtp.framing import encode_frame
from pot_lab.network.zmtp.listener import ListeningPort
from tests.chaos.network import PATIENCE_S, ChaosNetwork, steady_load
from tests.chaos.test_hostile import survived
from tests.network.zmtp.raw import hang_up, opened, push, reset_at_close

TRIES = [60, pytest.param(250, marks=pytest.mark.long)]
"""Of each script, shared among the aggregators: with four scripts 1,000 in all in the long tests."""
FRAMES = 2_500


def sealed(connection: Connection, *bodies: bytes, ping: bool = False) -> bytes:
    """The bytes of these messages, with a PING behind each if asked."""
    channel = connection._handshake.channel
    assert channel is not None
    found = []
    for body in bodies:
        found.append(encode_frame(channel.seal(body)))
        if ping:
            found.append(encode_frame(channel.seal(b"\x04PING\0\1", is_command=True)))
    return b"".join(found)


def fill_with_bundles(connection: Connection, random: Random) -> None:
    bundle = encode_question(SubmitAll(tuple(b"%d" % number for number in range(128)), True))
    push(connection, sealed(connection, *[bundle] * (FRAMES // 10)), 0.05)


def fill_with_pings_between(connection: Connection, random: Random) -> None:
    push(connection, sealed(connection, *[b"x"] * FRAMES, ping=True), 0.05)


def ask_for_much_and_read_nothing(connection: Connection, random: Random) -> None:
    questions = [encode_question(Query(number, "metrics", b"")) for number in range(300)]
    questions += [encode_question(Follow(number, 1, MAX_CREDIT)) for number in range(16)]
    push(connection, sealed(connection, *questions), 0.05)


def end_within_a_frame(connection: Connection, random: Random) -> None:
    data = sealed(connection, random.randbytes(400_000), b"never whole")
    push(connection, data[: random.randrange(len(data))], 0.05)


SCRIPTS = [fill_with_bundles, fill_with_pings_between, ask_for_much_and_read_nothing, end_within_a_frame]


@pytest.mark.parametrize("tries", TRIES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_who_sends_much_and_hangs_up_ends_no_process(
    tmp_path: Path, script: Callable[[Connection, Random], None], tries: int
) -> None:
    with ChaosNetwork(tmp_path, durability="flush") as network:
        errors: list[BaseException] = []

        def attack(index: int) -> None:
            entry, random = network.config.aggregators[index], Random(f"{script.__name__} {index}")
            try:
                for number in range(tries // network.config.n):
                    connection = opened(entry.host, entry.client_port, entry.curve_public)
                    script(connection, random)
                    (hang_up if number % 2 else Connection.close)(connection)
            except BaseException as error:
                errors.append(error)

        with steady_load(network, per_s=5) as books:
            network.settle(books[0])
            threads = [threading.Thread(target=attack, args=(index,)) for index in network.all]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            survived(network)
            assert books[0].put().result(PATIENCE_S).isdigit()
        assert not errors, errors
        assert network.verdict(others=None).acknowledged >= 1


SCRIPTS_OF_A_SEAT = [fill_with_pings_between, end_within_a_frame]


@pytest.mark.parametrize("tries", TRIES)
@pytest.mark.parametrize("script", SCRIPTS_OF_A_SEAT)
def test_a_seat_that_sends_much_and_hangs_up_ends_no_process(
    tmp_path: Path, script: Callable[[Connection, Random], None], tries: int
) -> None:
    """With the keys of one aggregator, at the peers' ports of the others."""
    with ChaosNetwork(tmp_path, durability="flush") as network:
        with steady_load(network, per_s=5) as books:
            network.settle(books[0])
            network.kill(3)
            random = Random(script.__name__)
            for number in range(tries // 3):
                for index in (0, 1, 2):
                    entry = network.config.aggregators[index]
                    connection = opened(entry.host, entry.peer_port, entry.curve_public, network.keys[3])
                    script(connection, random)
                    (hang_up if number % 2 else Connection.close)(connection)
            survived(network)
            network.start(3)
            network.settle(books[0])
        assert network.verdict(others=None).acknowledged >= 1


def test_a_seat_that_floods_who_dials_it_and_hangs_up_ends_no_process(tmp_path: Path) -> None:
    """In the place of one aggregator, towards the others that dial it and towards clients."""
    with ChaosNetwork(tmp_path, durability="flush") as network:
        with steady_load(network, per_s=5) as books:
            network.settle(books[0])
            network.kill(3)
            flooded = 0
            entry = network.config.aggregators[3]
            ports = [
                ListeningPort(entry.host, port, network.keys[3], limit_bytes=1 << 23, unsent_limit_bytes=1 << 26)
                for port in (entry.peer_port, entry.client_port)
            ]
            until_s = time.monotonic() + PATIENCE_S
            while flooded < 100:
                assert time.monotonic() < until_s
                for port in ports:
                    routes = {sender.route for sender, _ in port.messages()}
                    port.flush()
                    for route in routes:
                        flooded += 1
                        for _ in range(FRAMES):
                            port.send(route, b"x" * (flooded % 100))
                        port.flush()
                        accepted = port._connections.by_route.get(route)
                        if accepted is not None:
                            reset_at_close(accepted.connection)
                            port._end(accepted)
                time.sleep(0.001)
            for port in ports:
                port.close()
            survived(network)
            network.start(3)
            network.settle(books[0])
        assert network.verdict(others=None).acknowledged >= 1
