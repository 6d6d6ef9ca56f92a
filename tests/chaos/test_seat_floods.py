"""One seat sends what costs others time, against real processes: they mute it and go on."""

from __future__ import annotations

import time
from pathlib import Path

from pot_lab.consensus.messages import (
    BatchName,
    FetchBatches,
    FetchBodies,
    FetchDecisions,
    Forward,
    encode_message,
)
from pot_lab.crypto.canonical import sha256
from tests.chaos.network import PATIENCE_S, ChaosNetwork, steady_load
from tests.chaos.test_hostile import survived
from tests.network.zmtp.raw import advance, opened


def test_a_seat_that_forwards_false_requests_is_muted_and_the_others_go_on(tmp_path: Path) -> None:
    with ChaosNetwork(tmp_path, durability="flush") as network:
        with steady_load(network, per_s=5) as books:
            network.settle(books[0])
            network.kill(3)
            bodies = tuple(bytes(65) + nonce.to_bytes(8, "big") for nonce in range(4_096))
            frame = encode_message(Forward(bodies))
            seats = []
            for index in (0, 1, 2):
                entry = network.config.aggregators[index]
                seats.append(opened(entry.host, entry.peer_port, entry.curve_public, network.keys[3]))
            counters: list[dict[str, int]] = []
            deadline_s = time.monotonic() + PATIENCE_S
            while not counters or not all(each.get("forwards_muted", 0) >= 4_095 for each in counters):
                assert time.monotonic() < deadline_s, counters
                for _ in range(100):
                    for seat in seats:
                        if not seat.unsent_bytes:
                            seat.send(frame)
                        advance(seat)
                states = books[0].status().result(PATIENCE_S)
                counters = [each.counters for each in states if each.index != 3]
            for _ in range(5):
                assert books[0].put().result(PATIENCE_S).isdigit()
            survived(network)
            for each in counters:
                assert each["peers_muted"] == 1 and each.get("forwards_refused", 0) == 0
            for seat in seats:
                seat.close()
            network.start(3)
            network.settle(books[0])
        assert network.verdict(others=None).acknowledged >= 5


ASKED = (
    FetchBodies(tuple(sha256(n.to_bytes(4, "big")) for n in range(4_096))),
    FetchBatches(tuple(BatchName(n, bytes(32)) for n in range(1, 1_024))),
    FetchDecisions(1, 1 << 40),
)
ROUNDS = 20
"""Of up to 100 frames for each seat: whether they spend its budget depends on the machine (test_peer_budget.py)."""


def test_a_seat_that_asks_without_end_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    with ChaosNetwork(tmp_path, durability="flush", snapshot_batches=16) as network:
        network.stepped_over = {3}
        with steady_load(network, per_s=5) as books:
            network.settle(books[0])
            network.kill(3)
            for message in ASKED:
                frame = encode_message(message)
                seats = []
                for index in (0, 1, 2):
                    entry = network.config.aggregators[index]
                    seats.append(opened(entry.host, entry.peer_port, entry.curve_public, network.keys[3]))
                for _ in range(ROUNDS):
                    for seat in seats:
                        for _ in range(100):
                            if seat.unsent_bytes < 1 << 20:
                                seat.send(frame)
                        advance(seat)
                assert books[0].put().result(PATIENCE_S).isdigit()
                survived(network)
                for seat in seats:
                    seat.close()
            network.start(3)
            network.settle(books[0])
        assert network.verdict(others=None).acknowledged >= 5
