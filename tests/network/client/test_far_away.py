"""A client far from its network resends no request whose answer is only slow."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import msgspec

from pot_lab.crypto.identity import Identity
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.loopback import free_ports
from tests.network.toy import ToyNetwork, toy_request

ONE_WAY_S = 0.6
"""So an answer takes longer than the first wait, however quick this machine is."""
PATIENCE_S = 240
LARGE_BYTES = 100_000
"""A request as large as this tells itself from all else that travels."""


class FarAway:
    """A network's client ports as seen by somebody who lives `ONE_WAY_S` away; `said_bytes` came from there."""

    def __init__(self, network: ToyNetwork) -> None:
        self.said_bytes = 0
        self._network = network
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> FarAway:
        self._thread.start()
        here = self._network.config
        ports = free_ports(here.n)
        try:
            for entry, port in zip(here.aggregators, ports, strict=True):
                listening = self._listen(entry.host, port, entry.client_port)
                asyncio.run_coroutine_threadsafe(listening, self._loop).result(PATIENCE_S)
        except BaseException:
            self.__exit__()
            raise
        entries = tuple(
            msgspec.structs.replace(entry, client_port=port)
            for entry, port in zip(here.aggregators, ports, strict=True)
        )
        self.config = msgspec.structs.replace(here, aggregators=entries)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(_hang_up(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, host: str, port: int, behind: int) -> asyncio.Server:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: bool) -> None:
            while data := await reader.read(65_536):
                self.said_bytes += len(data) if counts else 0
                self._loop.call_later(ONE_WAY_S, writer.write, data)
            self._loop.call_later(ONE_WAY_S, writer.close)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(host, behind)
            ways = forward(reader, far_writer, True), forward(far_reader, writer, False)
            await asyncio.gather(*ways, return_exceptions=True)

        return await asyncio.start_server(connected, host, port)


async def _hang_up() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def test_a_client_far_away_learns_not_to_ask_twice(tmp_path: Path) -> None:
    account = Identity.generate()
    with (
        ToyNetwork(tmp_path, durability="flush") as network,
        FarAway(network) as away,
        NetworkClient(away.config) as client,
    ):
        network.wait_for_heights(client, {0, 1, 2, 3})

        def times_said(nonce: int) -> float:
            """How often each aggregator is asked until there is an answer, on average."""
            before = away.said_bytes
            client.submit(toy_request(account, nonce, bytes(LARGE_BYTES)), timeout_s=PATIENCE_S).result(PATIENCE_S)
            return (away.said_bytes - before) / network.config.n / LARGE_BYTES

        # At first it does not know. What it resent may still be on its way to the one who counts.
        before, deadline_s = away.said_bytes, time.monotonic() + PATIENCE_S
        times_said(0)
        while away.said_bytes - before < 1.9 * network.config.n * LARGE_BYTES:
            assert time.monotonic() < deadline_s, away.said_bytes - before
            time.sleep(0.05)
        # A hiccup of this machine may bring a repetition; who has not learned repeats every request.
        assert any(times_said(nonce) < 1.1 for nonce in range(1, 30))
