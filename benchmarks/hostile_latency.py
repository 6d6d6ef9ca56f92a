"""How long an honest request takes while one stranger keeps every aggregator busy: with heavy queries, with streams.

The ledger holds 4,096 orders without money, which cost the stranger nothing. Medians of requests that are ordered,
executed and refused (`Register` without a stake), one after the other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from put_latency import order_of
from report import main

from pot_lab.crypto.canonical import encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.protocol.transactions import Put, Register, sign

ACCOUNTS, ORDERS_EACH = 64, 64
IN_FLIGHT = 64


def fill(network_file: str) -> int:
    """Put as many orders without money as the ledger takes; returns how many."""
    from pot_lab.network.client.ledger import LedgerClient

    taken = 0
    with LedgerClient.open(network_file, Identity.generate()) as client:
        network = client.network()
        for _ in range(ACCOUNTS):
            who = Identity.generate()
            requests = [
                sign(network.genesis.network_id, Put(order_of(who, network, number)), who, number)
                for number in range(1, ORDERS_EACH + 1)
            ]
            for call in client.transport.submit_all(requests, timeout_s=60):
                call.result(61)
                taken += 1
        client.orders(500)
    return taken


def honest_ms(network_file: str, seconds: float) -> tuple[float, float, int]:
    """Median and worst of an honest client's requests, in milliseconds, and their number."""
    from pot_lab.network.client.ledger import LedgerClient

    took = []
    with LedgerClient.open(network_file, Identity.generate()) as client:
        until_s = time.perf_counter() + seconds
        while time.perf_counter() < until_s or len(took) < 5:
            start_s = time.perf_counter()
            try:
                client.submit(Register(0), timeout_s=30)
            except PotLabError as error:
                if type(error).__name__ != "InsufficientStake":
                    raise
            took.append(1_000 * (time.perf_counter() - start_s))
    return statistics.median(took), max(took), len(took)


def stranger(network_file: str, what: str) -> None:
    """One connection to each aggregator that always has `IN_FLIGHT` queries, or streams of the whole history."""
    import zmq

    from pot_lab.network.config import NetworkConfig
    from pot_lab.network.keys import CurveKeyPair
    from pot_lab.network.wire import MAX_CREDIT, Follow, Query, encode_frame
    from pot_lab.protocol.views import OrdersQuery
    from tests.network.dealer import prepare_dealer

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    flying: dict[zmq.Socket[bytes], int] = {}
    connections = 1 if what == "queries" else IN_FLIGHT // 16
    for entry in NetworkConfig.load(network_file).aggregators:
        for _ in range(connections):
            dealer = context.socket(zmq.DEALER)
            prepare_dealer(dealer, CurveKeyPair.generate(), entry.curve_public)
            dealer.connect(entry.client_url)
            flying[dealer] = 0
    number, renew_at_s = 0, 0.0
    while True:
        renew = what == "streams" and time.monotonic() >= renew_at_s
        if renew:
            renew_at_s = time.monotonic() + 0.5
        for dealer in flying:
            while what == "queries" and flying[dealer] < IN_FLIGHT:
                number += 1
                limit = 500 - number % 100  # no two alike in a row, so that no answer is at hand
                dealer.send(encode_frame(Query(number, "orders", encode(OrdersQuery(limit)))))
                flying[dealer] += 1
            for stream in range(16 if renew else 0):
                dealer.send(encode_frame(Follow(stream, 1 + (17 * stream + number) % 50, MAX_CREDIT)))
            number += renew
            try:
                while True:
                    dealer.recv(zmq.NOBLOCK)
                    flying[dealer] -= 1
            except zmq.Again:
                pass
        time.sleep(0.002)


def measure(seconds: float) -> dict[str, Any]:
    """Medians in quiet and under each kind of load."""
    from pot_lab.testnet.testnet import Testnet

    with tempfile.TemporaryDirectory() as folder:
        os.environ["POT_LAB_HOME"] = folder
        testnet = Testnet.up("bench", durability="flush")
        file = str(testnet.network_file)
        try:
            found: dict[str, Any] = {"orders_without_money": fill(file)}
            honest_ms(file, 2)
            for what in ("quiet", "queries", "streams", "quiet_after"):
                process = None
                if not what.startswith("quiet"):
                    target: Callable[[str, str], None] = stranger
                    process = multiprocessing.get_context("spawn").Process(target=target, args=(file, what))
                    process.start()
                    time.sleep(3)
                median_ms, worst_ms, count = honest_ms(file, seconds)
                if process is not None:
                    process.kill()
                    process.join()
                found[what] = {"median_ms": median_ms, "worst_ms": worst_ms, "requests": count}
            for what in ("queries", "streams"):
                found[what]["times_quiet"] = found[what]["median_ms"] / found["quiet"]["median_ms"]
            return found
        finally:
            testnet.down()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10, help="how long each of the four runs lasts")


if __name__ == "__main__":
    main(__doc__, lambda chosen: measure(chosen.seconds), options=options)
