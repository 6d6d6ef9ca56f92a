"""Honest orders, one after the other, while strangers and one seat do in turn all that they can.

`benchmarks/hostile_soak.py` and the suite's short form run this. Quiet and hostile rounds alternate, so that one run
compares both: how long an honest request takes, which orders ended void, who died, and memory and disk at the end.
Attackers are processes of their own, so that their work is not measured as the network's.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from pot_lab.consensus.messages import (
    BatchName,
    FetchBatches,
    FetchBodies,
    FetchDecisions,
    Forward,
    Status,
    encode_message,
)
from pot_lab.crypto.canonical import encode
from pot_lab.crypto.identity import Address, Identity
from pot_lab.errors import PotLabError
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.wire import MAX_CREDIT, Follow, Query, Submit, SubmitAll, encode_frame
from pot_lab.network.zmtp.connection import Connection
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.transactions import Accuse, Put, Register, sign
from pot_lab.protocol.views import AccountQuery, OrdersQuery, WindowsQuery
from pot_lab.simulator.people import Cast
from tests.chaos.ledger_life import Crowd, cast_until
from tests.chaos.network import PATIENCE_S, Bookkeeper, ChaosNetwork
from tests.chaos.soak import Watch
from tests.network.zmtp.raw import advance, connected, hang_up

SEAT = 3
"""The aggregator whose keys the attackers have: it is stopped while they speak in its name."""
IN_FLIGHT = 64
HOSTILE_ORDERS = 200
STRANGERS_ADDRESS = "127.0.0.66"
"""Where attackers come from: not the honest people's address, as fairness between addresses is what is shown."""
ARRIVED = (
    "client_frames_malformed",
    "handshakes_failed",
    "connections_evicted",
    "queries",
    "requests_refused",
    "peers_muted",
    "peer_frames_over_budget",
    "turns_with_a_peer_over_budget",
)
"""Counters of the aggregators that tell how much of the attacks came through to them."""
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
_PAUSE_S = 0.3


class Target(NamedTuple):
    """What an attacker knows: the network's file, the time that its orders may have, and a seat's keys."""

    file: str
    seal_by_s: int
    seat: CurveKeyPair
    seed: str

    @property
    def entries(self) -> tuple[AggregatorEntry, ...]:
        """Everybody's addresses and keys."""
        return NetworkConfig.load(Path(self.file)).aggregators

    @property
    def random(self) -> Random:
        """Equal in every run of one seed."""
        return Random(self.seed)


Attack = Callable[[Target], None]


def _opened(entry: AggregatorEntry, *, keys: CurveKeyPair | None = None, peer: bool = False) -> Connection:
    """A connection from the attackers' address, once its handshake is over; raises OSError where it ends before."""
    port = entry.peer_port if peer else entry.client_port
    connection = connected(entry.host, port, entry.curve_public, keys, source=STRANGERS_ADDRESS)
    while not connection.ready:
        if connection.ended:
            raise ConnectionError(connection.ended)
        advance(connection)
        time.sleep(0.002)
    return connection


def _plain(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), source_address=(STRANGERS_ADDRESS, 0))


def _keep(connections: list[Connection], entry: AggregatorEntry, most: int) -> None:
    """Have that many connections with keys of their own to an aggregator, as far as it lets one."""
    connections[:] = [each for each in connections if not each.ended]
    if len(connections) < most:
        connections.append(_opened(entry))


def hang_up_within_frames(target: Target) -> None:
    """Send what fills a queue, then reset the connection, again and again."""
    random = target.random
    while True:
        for entry in target.entries:
            connection = _opened(entry)
            for _ in range(50):
                connection.send(encode_frame(SubmitAll(tuple(random.randbytes(40) for _ in range(128)), True)))
                advance(connection)
            (hang_up if random.random() < 0.5 else Connection.close)(connection)


def send_noise(target: Target) -> None:
    """Bytes at both ports, with and without a greeting, and malformed frames under a good key."""
    random = target.random
    while True:
        for entry in target.entries:
            for port in (entry.client_port, entry.peer_port):
                with _plain(entry.host, port) as plain:
                    plain.settimeout(0.2)
                    try:
                        plain.sendall(random.choice([b"", _GREETING]) + random.randbytes(random.randrange(100_000)))
                    except OSError:
                        pass  # it hung up on us
            connection = _opened(entry)
            for _ in range(100):
                connection.send(random.randbytes(random.randrange(2_000)))
            advance(connection)
            connection.close()


def stay_half_open(target: Target) -> None:
    """Connections that say one byte a second, at both ports."""
    silent: list[socket.socket] = []
    while True:
        for entry in target.entries:
            for port in (entry.client_port, entry.peer_port):
                silent.append(_plain(entry.host, port))
        for each in silent[-1_500:]:
            try:
                each.send(_GREETING[:1])
            except OSError:
                pass
        for each in silent[:-1_500]:
            each.close()
        del silent[:-1_500]
        time.sleep(0.02)


def heavy_query(number: int) -> Query:
    """One of those that cost most; no two alike in a row, so that no answer is at hand."""
    limit = 500 - number % 400
    asked: tuple[tuple[str, bytes], ...] = (
        ("orders", encode(OrdersQuery(limit))),
        ("fetch_orders", encode(OrdersQuery(limit))),
        ("orders_in", encode(WindowsQuery(windows=tuple(Window), limit=limit))),
        ("orders_in", encode(WindowsQuery(windows=tuple(Window), assigned=Address(number.to_bytes(20, "big"))))),
        ("account", encode(AccountQuery(Address(number.to_bytes(20, "big"))))),
        ("epoch", b""),
        ("metrics", b""),
    )
    name, arguments = asked[number % len(asked)]
    return Query(number, name, arguments)


def ask_heavily(target: Target) -> None:
    """Always so many queries in flight of which no two are alike."""
    connections = [_opened(each) for each in target.entries]
    flying, number = [0] * len(connections), 0
    while True:
        for place, connection in enumerate(connections):
            while flying[place] < IN_FLIGHT:
                number += 1
                connection.send(encode_frame(heavy_query(number)))
                flying[place] += 1
            flying[place] -= len(advance(connection))
        time.sleep(0.002)


def stream_the_history(target: Target) -> None:
    """As many streams as are let, under many keys, from all over the history."""
    random = target.random
    kept: dict[int, list[Connection]] = {}
    while True:
        for entry in target.entries:
            connections = kept.setdefault(entry.index, [])
            _keep(connections, entry, 32)
            for connection in connections:
                for stream in range(16):
                    connection.send(encode_frame(Follow(stream, random.randint(1, 500), MAX_CREDIT)))
                advance(connection)
        time.sleep(0.05)


def come_with_many_keys(target: Target) -> None:
    """Hundreds of keys, each with a request that no rule takes and a query."""
    random = target.random
    kept: dict[int, list[Connection]] = {}
    while True:
        for entry in target.entries:
            connections = kept.setdefault(entry.index, [])
            _keep(connections, entry, 150)
            for connection in connections:
                connection.send(encode_frame(Submit(random.randbytes(120), False)))
                connection.send(encode_frame(Query(random.getrandbits(32), "metrics", b"")))
                advance(connection)
        time.sleep(0.02)


def place_hostile_orders(target: Target) -> None:
    """Orders without money whose links and windows are at the rules' edge, and transactions that end in a refusal."""
    cast, random = cast_until(len(target.entries), target.seal_by_s), target.random
    connections = [_opened(each) for each in target.entries]
    for round_ in range(1 << 30):
        person = Identity.generate()
        for nonce, body in enumerate(
            [_hostile_order(cast, person, round_), Accuse(random.randbytes(300)), Register(2)]
        ):
            if nonce == 0 and round_ >= HOSTILE_ORDERS:
                continue
            request = sign(cast.network_id, body, person, nonce + 1)
            cut = request[: random.randrange(len(request))]
            for connection in connections:
                connection.send(encode_frame(Submit(request, True)))
                connection.send(encode_frame(Submit(cut, True)))
                advance(connection)
        time.sleep(0.05)


def _hostile_order(cast: Cast, person: Identity, number: int) -> Put:
    order, _ = cast.order(1)
    uri = ("http://data..example/x", "file:///dev/zero", "http://" + "a" * 64 + ".example/m", "http://169.254.169.254/")
    link = msgspec.structs.replace(order.train, uri=uri[number % len(uri)])
    return Put(msgspec.structs.replace(order, client=person.address, nonce=1, train=link, weights=link, title="x" * 60))


def speak_as_a_seat(target: Target) -> None:
    """False requests forwarded, and noise, at the peers' ports, under the keys of an aggregator."""
    random = target.random
    frames = [encode_message(Forward(tuple(bytes(65) + n.to_bytes(8, "big") for n in range(4_096))))]
    frames += [random.randbytes(5_000) for _ in range(8)]
    others = [each for each in target.entries if each.index != SEAT]
    seats = {each.index: _opened(each, keys=target.seat, peer=True) for each in others}
    while True:
        for entry in others:
            seat = seats[entry.index]
            if seat.ended:
                seat = seats[entry.index] = _opened(entry, keys=target.seat, peer=True)
            if seat.ready and not seat.unsent_bytes:
                seat.send(random.choice(frames))
            advance(seat)
        time.sleep(0.001)


def ask_as_a_seat(target: Target) -> None:
    """What a few bytes ask of an aggregator that costs it much: the log, bodies, batches, its own status."""
    random = target.random
    frames = [
        encode_message(FetchBodies(tuple(random.randbytes(32) for _ in range(4_096)))),
        encode_message(FetchBatches(tuple(BatchName(n, bytes(32)) for n in range(1, 1_024)))),
        encode_message(FetchDecisions(1, 1 << 40)),
        encode_message(Status(0, True, 0, bytes(32), 0, True)),
    ]
    others = [each for each in target.entries if each.index != SEAT]
    seats = {each.index: _opened(each, keys=target.seat, peer=True) for each in others}
    while True:
        for entry in others:
            seat = seats[entry.index]
            if seat.ended:
                seat = seats[entry.index] = _opened(entry, keys=target.seat, peer=True)
            if seat.ready and seat.unsent_bytes < 1 << 20:
                seat.send(random.choice(frames))
            advance(seat)
        time.sleep(0.0005)


def never_read(target: Target) -> None:
    """Ask for all that is long, over connections that take in next to nothing."""
    kept: dict[int, list[Connection]] = {}
    while True:
        for entry in target.entries:
            connections = kept.setdefault(entry.index, [])
            _keep(connections, entry, 24)
            for connection in connections:
                connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
                for number in range(16):
                    connection.send(encode_frame(Follow(number, 1, MAX_CREDIT)))
                    connection.send(encode_frame(Query(number, "metrics", b"")))
                connection.flush()
        time.sleep(0.05)


STRANGERS: tuple[Attack, ...] = (
    hang_up_within_frames,
    send_noise,
    stay_half_open,
    ask_heavily,
    stream_the_history,
    come_with_many_keys,
    place_hostile_orders,
    never_read,
)
SEATS: tuple[Attack, ...] = (speak_as_a_seat, ask_as_a_seat)
ALL: tuple[Attack, ...] = (*STRANGERS, *SEATS)


PROOFS: dict[Attack, tuple[str, int]] = {
    ask_heavily: ("queries", 100),
    hang_up_within_frames: ("requests_refused", 300),
    speak_as_a_seat: ("peers_muted", 1),
    ask_as_a_seat: ("turns_with_a_peer_over_budget", 1),
}
"""What aggregators have counted once an attack has come through to them; its round does not end before."""


def _wait_for_proof(attack: Attack, book: Bookkeeper) -> None:
    if attack not in PROOFS:
        return
    name, least = PROOFS[attack]
    until_s = time.monotonic() + PATIENCE_S
    while sum(each.counters.get(name, 0) for each in book.status().result(PATIENCE_S)) < least:
        assert time.monotonic() < until_s, f"{attack.__name__} has not come through: {name} is below {least}"
        time.sleep(0.5)


def _attack(attack: Attack, target: Target) -> None:
    while True:
        try:
            attack(target)
        except (OSError, PotLabError, AssertionError):
            time.sleep(0.05)  # a connection was refused or ended: that is the network's right


class HonestClient:
    """Has one request after the other executed, and notes how long each took, under the name of the round.

    Args:
        book: the client that it speaks through.
        network_id: of the ledger.
    """

    def __init__(self, book: Bookkeeper, network_id: bytes) -> None:
        self.round = "quiet"
        self.took_ms: dict[str, list[float]] = {}
        self.failed: list[str] = []
        self._book, self._network_id = book, network_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="honest")

    def __enter__(self) -> HonestClient:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _live(self) -> None:
        person, nonce = Identity.generate(), 0
        while not self._ended.wait(_PAUSE_S):
            nonce, name, start_s = nonce + 1, self.round, time.perf_counter()
            try:
                self._book.submit(sign(self._network_id, Register(0), person, nonce)).result(PATIENCE_S)
            except (PotLabError, TimeoutError) as error:
                self.failed.append(f"{name}: {error!r}")
            self.took_ms.setdefault(name, []).append(1_000 * (time.perf_counter() - start_s))


def hostile_soak(
    directory: Path, *, seconds: float, seed: int, attacks: tuple[Attack, ...] = ALL, quiet_s: float = 6.0
) -> dict[str, Any]:
    """Run for so many seconds, a quiet round between any two attacks; returns what happened.

    Raises BadHistory or AssertionError if the ledger of any aggregator, or what a client was told, is not right.

    Args:
        directory: a folder for logs and histories.
        attacks: one process each, one after the other, for equal times.
        quiet_s: how long a quiet round is.
    """
    spawn = multiprocessing.get_context("spawn")
    with ChaosNetwork(directory, durability="flush", ledger=True, snapshot_batches=128) as network:
        assert network.cast is not None
        network.stepped_over = network.all
        watch, deaths = Watch(network), 0
        crowd_book, book = network.bookkeeper("crowd"), network.bookkeeper("honest")
        crowd = Crowd(network.cast, network.chain, crowd_book, orders=1 << 30, patience_s=PATIENCE_S)
        with HonestClient(book, network.cast.network_id) as honest, crowd:
            network.settle(book)
            each_s = max(2.0, seconds / len(attacks) - quiet_s)
            for number, attack in enumerate(attacks):
                honest.round = "quiet"
                time.sleep(quiet_s)
                watch.look()
                target = Target(
                    str(directory / "network-0.toml"), network.cast.seal_by_s, network.keys[SEAT], f"{seed} {number}"
                )
                is_seat = attack in SEATS
                if is_seat:
                    network.kill(SEAT)
                process = spawn.Process(target=_attack, args=(attack, target), daemon=True)
                process.start()
                honest.round = attack.__name__
                until_s = time.monotonic() + each_s
                while time.monotonic() < until_s:
                    time.sleep(min(1.0, each_s / 4))
                    watch.look()
                _wait_for_proof(attack, book)
                assert process.is_alive(), f"the attacker {attack.__name__} ended by itself"
                process.kill()
                process.join()
                deaths += sum(
                    each.poll() is not None for i, each in network.processes.items() if not (is_seat and i == SEAT)
                )
                if is_seat:
                    network.start(SEAT)
            honest.round = "quiet"
            network.settle(book)
            counted = [each.counters for each in book.status().result(PATIENCE_S)]
        watch.look()
        disk_bytes = max(
            sum(path.stat().st_size for path in network.data_dir(i).rglob("*") if path.is_file()) for i in network.all
        )
        verdict = network.verdict()
        state = network.ledger.state
        mine = [each for each in state.headers.values() if each.client == network.cast.client.address]
        return {
            "minutes": round(seconds / 60, 1),
            "processes_ended": deaths,
            "honest_requests": sum(map(len, honest.took_ms.values())),
            "honest_requests_failed": len(honest.failed),
            "median_ms": {name: round(statistics.median(took), 1) for name, took in sorted(honest.took_ms.items())},
            "worst_ms": {name: round(max(took), 1) for name, took in sorted(honest.took_ms.items())},
            "orders_ended": len(mine),
            "orders_lost": sum(each.void_reason is not None for each in mine),
            "lost_for": sorted(
                f"{each.title}: {each.void_reason.name}" for each in mine if each.void_reason is not None
            ),
            "hostile_orders": sum(each.order.client != network.cast.client.address for each in state.orders.values()),
            "arrived": {name: sum(each.get(name, 0) for each in counted) for name in ARRIVED},
            "epochs_settled": state.confirmed.epoch,
            **verdict._asdict(),
            **watch.figures(),
            "disk_mib": round(disk_bytes / (1 << 20), 2),
            "load": os.getloadavg()[0],
        }
