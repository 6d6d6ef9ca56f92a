"""Strangers, garbage and floods at every port of a network that goes on working meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import zmq

from pot_lab.consensus.messages import Commit, Status, encode_message
from pot_lab.crypto.identity import Identity
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.wire import (
    MAX_CLIENT_FRAME_BYTES,
    MAX_CREDIT,
    Follow,
    Query,
    RequestRefused,
    Submit,
    decode_answer,
    encode_frame,
)
from tests.chaos.fuzz_targets import example
from tests.chaos.network import PATIENCE_S, Bookkeeper, ChaosNetwork, steady_load
from tests.chaos.soak import MIB, memory_of
from tests.network.dealer import prepare_dealer
from tests.network.toy import toy_request

SIZES = (0, 1, 2, 8, 9, 10, 63, 64, 65, 255, 256, 4_095, 65_536, 300_000, MAX_CLIENT_FRAME_BYTES - 1, 2_000_000)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"
MOST_MEMORY_BYTES = 120 * MIB


@contextmanager
def dealers(network: ChaosNetwork, *, mechanism: str, peer_port: bool) -> Iterator[list[zmq.Socket[bytes]]]:
    """A ZeroMQ socket to each aggregator: without CURVE, or with a key of its own."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = []
    for entry in network.config.aggregators:
        dealer = context.socket(zmq.DEALER)
        dealer.sndhwm = 100
        dealer.linger = 0
        if mechanism == "curve":
            prepare_dealer(dealer, CurveKeyPair.generate(), entry.curve_public)
        dealer.connect(entry.peer_url if peer_port else entry.client_url)
        made.append(dealer)
    try:
        yield made
    finally:
        context.destroy(0)


def say(dealer: zmq.Socket[bytes], *frames: bytes) -> bool:
    """Send without waiting; False when the socket takes no more."""
    try:
        dealer.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def counted(book: Bookkeeper, name: str, least: int) -> None:
    """Wait until every aggregator has counted as many of these."""
    counts: list[int] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while not counts or min(counts) < least:
        assert time.monotonic() < deadline_s, (name, counts)
        counts = [state.counters.get(name, 0) for state in book.status().result(PATIENCE_S)]


def survived(network: ChaosNetwork) -> None:
    """Everybody still runs, in bounded memory."""
    for index, process in network.processes.items():
        assert process.poll() is None, network.stderr(index)
        memory = memory_of(process.pid)
        assert memory is not None and memory[1] < MOST_MEMORY_BYTES, (index, memory)


def throw_raw_bytes(network: ChaosNetwork, book: Bookkeeper, random: Random) -> None:
    """Bytes of every size on plain TCP, with and without a greeting before them, some connections left open."""
    opened = []
    for entry in network.config.aggregators:
        for port in (entry.client_port, entry.peer_port):
            for size in SIZES:
                for start in (b"", GREETING, GREETING + b"CURVE".ljust(20, b"\0") + bytes(32)):
                    plain = socket.create_connection(("127.0.0.1", port))
                    plain.settimeout(0.2)
                    try:
                        plain.sendall(start + random.randbytes(size))
                    except OSError:
                        pass  # it hung up on us
                    if random.random() < 0.3:
                        opened.append(plain)
                    else:
                        plain.close()
    for plain in opened:
        plain.close()


def speak_without_curve(network: ChaosNetwork, book: Bookkeeper, random: Random) -> None:
    for peer_port in (False, True):
        with dealers(network, mechanism="null", peer_port=peer_port) as them:
            for dealer in them:
                for size in SIZES:
                    say(dealer, random.randbytes(size))
            time.sleep(0.3)


def knock_with_an_unknown_key(network: ChaosNetwork, book: Bookkeeper, random: Random) -> None:
    """At the peers' door: with well-made votes too."""
    with dealers(network, mechanism="curve", peer_port=True) as them:
        for dealer in them:
            for frame in (encode_message(example(Commit)), encode_message(example(Status)), random.randbytes(100)):
                say(dealer, frame)
        counted(book, "keys_refused", 1)


def speak_garbage_under_a_good_key(network: ChaosNetwork, book: Bookkeeper, random: Random) -> None:
    """At the clients' door any key is good: noise, cut questions, wrong kinds and too many frames arrive."""
    questions = [encode_frame(example(kind)) for kind in (Submit, Query, Follow)]
    with dealers(network, mechanism="curve", peer_port=False) as them:
        for dealer in them:
            for size in SIZES:
                say(dealer, random.randbytes(size))
            for question in questions:
                for end in range(len(question)):
                    say(dealer, question[:end])
            say(dealer, *[b"part"] * 500)
            say(dealer, b"", b"")
            say(dealer, encode_message(example(Commit)))
            for number in range(200):
                say(dealer, encode_frame(Follow(number, 1, MAX_CREDIT)))
                say(dealer, encode_frame(Query(number, "no such question", random.randbytes(1_000))))
        counted(book, "client_frames_malformed", 11)


ALL = (throw_raw_bytes, speak_without_curve, knock_with_an_unknown_key, speak_garbage_under_a_good_key)


def test_garbage_of_every_kind_and_size_stops_nobody(tmp_path: Path) -> None:
    with ChaosNetwork(tmp_path, durability="flush") as network:
        with steady_load(network) as books:
            network.settle(books[0])
            for attack in ALL:
                attack(network, books[0], Random(attack.__name__))
                survived(network)
        network.verdict()


def test_a_flood_slows_nobody_down_for_long(tmp_path: Path) -> None:
    """One key sends as fast as it can, with good signatures, while others ask for little."""
    flooder = Identity.generate()
    requests = [toy_request(flooder, nonce, bytes(200)) for nonce in range(1, 1_500)]
    frames = [encode_frame(Submit(request, True)) for request in requests]
    ended = threading.Event()
    with ChaosNetwork(tmp_path, durability="flush") as network:

        def flood() -> None:
            with dealers(network, mechanism="curve", peer_port=False) as them:
                while not ended.is_set():
                    for frame in frames:
                        for dealer in them:
                            say(dealer, frame)
                        if ended.wait(0.0005):
                            return

        thread = threading.Thread(target=flood)
        with steady_load(network, per_s=10) as books:
            network.settle(books[0])
            thread.start()
            try:
                for _ in range(5):
                    assert books[0].put().result(PATIENCE_S).isdigit()
                time.sleep(2)
                survived(network)
            finally:
                ended.set()
                thread.join()
        assert network.verdict(others=requests).acknowledged > 5


@pytest.mark.parametrize("port", [0, 1], ids=["peers' port", "clients' port"])
def test_more_connections_than_there_are_descriptors_stop_nobody(tmp_path: Path, port: int) -> None:
    """Connections are accepted before any key is asked for, and leave descriptors for logs and snapshots."""

    class FewDescriptors(ChaosNetwork):
        def prefix(self, index: int) -> list[str]:
            return ["sh", "-c", 'ulimit -n 300; exec "$@"', "-"]

    with FewDescriptors(tmp_path, durability="flush", snapshot_batches=16) as network:
        book = network.bookkeeper("client")
        network.settle(book)
        idle = []
        for ports in network.ports.values():
            for _ in range(400):
                stranger = socket.socket()
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", ports[port]))
                idle.append(stranger)
        time.sleep(1)
        for _ in range(40):
            book.put().result(PATIENCE_S)
        survived(network)
        lacking = [state.counters.get("descriptors_lacking", 0) for state in book.status().result(PATIENCE_S)]
        assert max(lacking) == 0
        deadline_s = time.monotonic() + PATIENCE_S
        while not all(list(network.data_dir(index).glob("snapshot-*")) for index in network.all):
            assert time.monotonic() < deadline_s, "no log grew shorter when there was room"
            book.put().result(PATIENCE_S)
        for stranger in idle:
            stranger.close()
        assert network.verdict().acknowledged >= 40


def test_a_stranger_without_keys_learns_and_changes_nothing(tmp_path: Path) -> None:
    """All it has is what network.toml says to everybody: it may ask as a client, and no more."""
    with ChaosNetwork(tmp_path, durability="flush") as network:
        book = network.bookkeeper("client")
        network.settle(book)
        book.put_all(3)
        unsigned = bytes(65) + toy_request(book.account, 99)[65:]
        with dealers(network, mechanism="curve", peer_port=False) as them:
            for dealer in them:
                dealer.send(encode_frame(Submit(unsigned, True)))
            for dealer in them:
                assert dealer.poll(1_000 * PATIENCE_S)
                answer = decode_answer(dealer.recv())
                assert isinstance(answer, RequestRefused) and answer.code == "BadSignature"
        with dealers(network, mechanism="curve", peer_port=True) as them:
            for dealer in them:
                say(dealer, encode_message(example(Commit)))
            counted(book, "keys_refused", 1)
        book.put_all(3)
        network.settle(book)
        assert network.verdict().executed == 6
