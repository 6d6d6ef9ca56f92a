"""How long a client waits before it says a request again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.network.client import NetworkClient
from pot_lab.network.loopback import free_ports
from pot_lab.network.round_trip import RoundTrip
from tests.network.toy import ToyNetwork, toy_request


def test_before_the_first_answer_and_on_a_quick_network_the_wait_is_the_least() -> None:
    trip = RoundTrip(0.5, 4.0)
    assert trip.retry_s == 0.5
    for _ in range(20):
        trip.took(0.01)
    assert trip.retry_s == 0.5


def test_on_a_slow_network_it_is_longer_than_answers_take_and_shrinks_as_they_become_steady() -> None:
    trip = RoundTrip(0.5, 60.0)
    trip.took(2.0)
    first_s = trip.retry_s
    assert first_s == pytest.approx(6.0)  # RFC 6298, 2.2: R + 4 * R / 2
    for _ in range(40):
        trip.took(2.0)
    assert 2.0 < trip.retry_s < 2.1


def test_it_follows_when_answers_become_slow_and_ends_at_the_most() -> None:
    trip = RoundTrip(0.5, 4.0)
    for _ in range(20):
        trip.took(0.2)
    waits_s = []
    for _ in range(30):
        trip.took(3.0)
        waits_s.append(trip.retry_s)
    assert waits_s[0] > 0.5 and max(waits_s) == 4.0 and all(wait_s <= 4.0 for wait_s in waits_s)
    for _ in range(200):
        trip.took(0.01)
    assert trip.retry_s == 0.5


ONE_WAY_S = 0.6
"""So an answer takes longer than the first wait."""


async def far_away(host: str, listening: int, behind: int) -> asyncio.Server:
    """A port behind which another one lies, `ONE_WAY_S` away in both directions."""
    loop = asyncio.get_running_loop()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            loop.call_later(ONE_WAY_S, writer.write, data)
        loop.call_later(ONE_WAY_S, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, behind)
        await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer), return_exceptions=True)

    return await asyncio.start_server(connected, host, listening)


async def hang_up() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


@contextmanager
def seen_from_afar(network: ToyNetwork) -> Iterator[NetworkClient]:
    """A client of the network who lives far away."""
    ports = free_ports(network.config.n)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for entry, port in zip(network.config.aggregators, ports, strict=True):
            opened = asyncio.run_coroutine_threadsafe(far_away(entry.host, port, entry.client_port), loop)
            opened.result(10)
        entries = tuple(
            msgspec.structs.replace(entry, client_port=port)
            for entry, port in zip(network.config.aggregators, ports, strict=True)
        )
        with NetworkClient(msgspec.structs.replace(network.config, aggregators=entries)) as client:
            yield client
    finally:
        asyncio.run_coroutine_threadsafe(hang_up(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_client_far_away_learns_not_to_ask_twice(tmp_path: Path) -> None:
    account = Identity.generate()
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as near:

        def repeated() -> int:
            states = near.status().result(60)
            return sum(state.counters.get("retries_answered", 0) for state in states)

        with seen_from_afar(network) as client:
            for nonce in range(4):
                client.submit(toy_request(account, nonce), timeout_s=60).result(60)
            learned = repeated()
            assert learned >= network.config.n  # at first it did not know
            for nonce in range(4, 10):
                client.submit(toy_request(account, nonce), timeout_s=60).result(60)
            unlearned = 6 * network.config.n  # each said twice to each; a hiccup of this machine may bring a few
            assert repeated() - learned < unlearned / 2
