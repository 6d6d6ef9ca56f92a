"""Real aggregators keep what orders name, serve it, and have it when the link that named it is dead."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from pot_lab.crypto.identity import Address, Identity
from pot_lab.crypto.link import Link
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.records import OrderRecord
from pot_lab.protocol.state import Event
from pot_lab.protocol.transactions import Put
from pot_lab.store import Store
from tests.network.ledger_network import HOST, LedgerNetwork, Seat
from tests.protocol.world import World
from tests.running import is_running
from tests.store.conftest import ServerProcess

PATIENCE_S = 240.0


@pytest.fixture
def network(tmp_path: Path) -> Iterator[LedgerNetwork]:
    with LedgerNetwork(tmp_path) as network:
        yield network
    left = [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(each.info["cmdline"] or [])]
    psutil.wait_procs(left, PATIENCE_S)
    assert not any(is_running(each.pid) for each in left)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path / "origin")
    yield server
    server.stop()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.05)


def served(seat: Seat, link: Link) -> bytes | None:
    """What an aggregator serves under a blob's hash; None where it does not."""
    connection = http.client.HTTPConnection(HOST, seat.custody_port, timeout=30)
    try:
        connection.request("GET", f"/{link.digest.hex()}")
        answer = connection.getresponse()
        data = answer.read()
        return data if answer.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def custody_server(network: LedgerNetwork, seat: Seat) -> psutil.Process | None:
    children = psutil.Process(network.processes[seat.name].pid).children()
    for each in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "pot_lab.store.custody_server" in each.cmdline():
                return each
    return None


def an_order(network: LedgerNetwork, client: Identity, links: list[Link]) -> OrderRecord:
    world = World(parameters=Parameters())
    order = world.new_order(
        client=client.address,
        network_id=network.config.network_id,
        seal_by_s=int(time.time()) + 10_000_000,
        model=links[0],
        weights=links[1],
        train=links[2],
    )
    return structs.replace(order, test=structs.replace(order.test, link=links[3]))


def test_what_an_order_names_is_held_attested_and_served_after_its_link_died(
    network: LedgerNetwork, origin: ServerProcess
) -> None:
    store, client = Store(origin.url), Identity.generate()
    blobs = [os.urandom(50_000 + i) for i in range(4)]
    links = [store.put(data) for data in blobs]
    *early, late = network.seats
    for seat in early:
        network.start(seat)
    attesters: set[Address] = set()

    def note(sequence: int, time_ms: int, events: list[Event]) -> None:
        attesters.update(each.account for each in events if each.kind == "blobs_attested")

    connection = network.client(client)
    with contextlib.closing(connection.follow(note)):
        order = an_order(network, client, links)
        connection.submit(Put(order))
        assert all(served(seat, link) is None for seat in early for link in links)  # nobody pays for it yet
        network.escrow(order)
        until(lambda: attesters == {seat.identity.address for seat in early}, "all attest")
    for seat in early:
        assert [served(seat, link) for link in links] == blobs
    origin.stop()
    # One whose server is killed serves again; one that is killed itself leaves no server, and goes on as before.
    server = custody_server(network, early[0])
    assert server is not None
    server.send_signal(signal.SIGKILL)
    until(lambda: served(early[0], links[0]) == blobs[0], "the server was started again")
    until(lambda: custody_server(network, early[1]) is not None, "there is a server")
    killed = custody_server(network, early[1])
    assert killed is not None
    network.kill(early[1])
    psutil.wait_procs([killed], PATIENCE_S)
    assert served(early[1], links[0]) is None
    network.start(early[1])
    until(lambda: served(early[1], links[0]) == blobs[0], "it serves what it held")
    # One that comes when the link is dead has it from the others.
    network.start(late)
    until(lambda: [served(late, link) for link in links] == blobs, "the others are asked")
