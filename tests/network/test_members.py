"""Real aggregators that come, go, change their keys and lie, while people go on with their work."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pot_lab.cli.main import main
from pot_lab.consensus.membership import NO_SEAT, Succession
from pot_lab.consensus.proof import BadProof, verify
from pot_lab.crypto.canonical import decode
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.client.proof import fetch_proof
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.network.seats import decode_handovers, first_set, with_handovers
from pot_lab.protocol.errors import NotAllowed
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Join, Leave, Register, Reply, RotateKeys, Unregister, VoteSeat, sign
from tests.network.ledger_network import HOST, PATIENCE_S, STAKE, LedgerNetwork, Seat


@pytest.fixture
def network(tmp_path: Path) -> Iterator[LedgerNetwork]:
    with LedgerNetwork(tmp_path) as network:
        yield network


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.05)


class Work:
    """Somebody who takes up a role and gives it up again, without end: one of them lost, or run twice, and the next is
    refused.
    """

    def __init__(self, client: LedgerClient) -> None:
        self.client, self.done = client, 0
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                body = Register(int(Role.VALIDATOR)) if self.done % 2 == 0 else Unregister(int(Role.VALIDATOR))
                self.client.submit(body, timeout_s=PATIENCE_S)
                self.done += 1
        except Exception as error:
            self.error = error

    def __enter__(self) -> Work:
        self._thread.start()
        return self

    def goes_on(self) -> None:
        """Wait until more of it was done."""
        before = self.done
        until(lambda: self.done >= before + 3 or self.error is not None, "work goes on")
        assert self.error is None, self.error

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def members(client: LedgerClient) -> int:
    return client.transport.membership.n


def test_aggregators_come_go_and_change_their_keys_under_load_and_kills(network: LedgerNetwork) -> None:
    worker, fifth = Identity.generate(), Seat(network.folder, "fifth")
    for seat in network.seats:
        network.start(seat)
    network.stake((worker, Role.VALIDATOR), (fifth.identity, Role.AGGREGATOR))
    client = network.client(worker)
    first_ones = [network.client(seat.identity) for seat in network.seats]
    with Work(client) as work:
        # A fifth one joins; the primary dies as the vote is complete.
        network.start(fifth)
        network.client(fifth.identity).submit(fifth.asks(Join, network.config.network_id, fifth.identity))
        for voter in first_ones[:3]:
            voter.submit(VoteSeat(fifth.identity.address, True))
        network.kill(network.seats[0])
        until(lambda: members(client) == 5, "the client has followed to the five")
        work.goes_on()  # q of five is four: the fifth one votes
        network.start(network.seats[0])

        # One changes its keys, and comes from its log with both.
        rotating, fresh = network.seats[1], Seat(network.folder, "fresh")
        fresh.peer_port, fresh.client_port = rotating.peer_port, rotating.client_port
        fresh.custody_port = rotating.custody_port
        network.kill(rotating)
        fresh.write(network.folder / rotating.name / "keys" / "next")
        network.start(rotating)
        era = client.transport.membership.since
        until(lambda: network.stderr(rotating).count(" ready ") == 2, "the restarted one is back")
        first_ones[1].submit(fresh.asks(RotateKeys, network.config.network_id, rotating.identity))
        until(lambda: client.transport.membership.since > era, "the new key is in force")
        assert fresh.identity.address in client.transport.membership.addresses
        network.kill(network.seats[2])
        work.goes_on()  # only with the new key's vote
        network.start(network.seats[2])

        # One leaves, and its process ends by itself.
        leaver = network.seats[3]
        first_ones[3].submit(Leave())
        until(lambda: members(client) == 4, "the client has followed to the four")
        assert network.await_end(leaver, PATIENCE_S) == 0
        assert " left " in network.stderr(leaver)
        work.goes_on()
        network.kill(network.seats[0])
        work.goes_on()
    assert work.error is None

    # A stranger who knows network.toml alone follows the chain of sets, and checks a proof with it.
    last = sign(
        network.config.network_id,
        Register(int(Role.VALIDATOR)) if work.done % 2 == 0 else Unregister(int(Role.VALIDATOR)),
        worker,
        time.time_ns() // 1000,
    )
    reply = client.transport.submit(last).result(PATIENCE_S)
    assert decode(reply, Reply, limit_bytes=1 << 16).accepted
    proof = fetch_proof(client.transport, network.config, last)
    chain = Succession(first_set(network.config))
    for handover in decode_handovers(client.transport.ask(1, "handovers", bytes(8)).result(PATIENCE_S)):
        assert chain.follow(handover)
    now = chain.of(proof.era)
    assert now is not None and proof.era == client.transport.membership.since and now.membership.index == NO_SEAT
    addresses = now.membership.addresses
    assert verify(proof, network.config.network_id, addresses, last, era=proof.era) == reply
    with pytest.raises(BadProof):
        verify(proof, network.config.network_id, first_set(network.config).addresses, last)
    network.config = with_handovers(network.config, client.transport.handovers)
    network.config.save(network.folder / "network.toml")
    with NetworkClient(NetworkConfig.load(network.folder / "network.toml")) as informed:
        assert informed.membership == client.transport.membership
    with pytest.raises(BadConfig, match="not signed by the aggregators before"):
        NetworkClient(with_handovers(network.config, client.transport.handovers[1:]))
    with LedgerClient(msgspec.structs.replace(network.config, handovers=())) as newcomer:
        until(lambda: members(newcomer) == 4 and newcomer.transport.membership.since == proof.era, "a newcomer follows")
        assert newcomer.account(worker.address).nonce == client.account(worker.address).nonce


def test_operators_change_the_set_from_a_terminal(network: LedgerNetwork, capsys: pytest.CaptureFixture[str]) -> None:
    fifth = Seat(network.folder, "fifth")
    for seat in (*network.seats, fifth):
        network.start(seat)
    network.stake((fifth.identity, Role.AGGREGATOR))
    client, file = network.client(Identity.generate()), str(network.folder / "network.toml")

    def seat_command(action: str, of: Seat, *more: str) -> tuple[int, str]:
        keys = str(network.folder / of.name / "keys")
        code = main(["seat", action, *more, "--network", file, "--keys", keys])
        told = capsys.readouterr()
        return code, told.out + told.err

    newcomer = format_address(fifth.identity.address)
    code, told = seat_command("vote", network.seats[0], newcomer)
    assert code == 1 and told.startswith("pot-lab: BadSeat: the account has not applied for a seat")
    place = "--listen", HOST, *map(str, (fifth.peer_port, fifth.client_port, fifth.custody_port))
    code, told = seat_command("join", fifth, *place)
    assert code == 0 and f"candidate {newcomer} at {HOST}, 0 of 3 votes" in told
    code, told = seat_command("vote", fifth, newcomer)
    assert code == 1 and told.startswith("pot-lab: NoSeat: ")
    for voter in network.seats[:3]:
        code, told = seat_command("vote", voter, newcomer)
        assert code == 0, told
    assert newcomer in told and "candidate" not in told
    until(lambda: members(client) == 5, "five are in force")

    mover, fresh = network.seats[1], Seat(network.folder, "fresh")
    assert seat_command("rotate", mover)[1].startswith("pot-lab: BadKeyFile: no keys to change to")
    fresh.write(network.folder / mover.name / "keys" / "next")
    network.kill(mover)
    network.start(mover)
    code, told = seat_command("rotate", mover)
    assert code == 0 and f"votes with {format_address(fresh.identity.address)}" in told
    until(lambda: fresh.identity.address in client.transport.membership.addresses, "the other key is in force")
    code, told = seat_command("remove", mover, newcomer)
    assert code == 0 and "1 of 4 votes to remove it" in told

    assert seat_command("leave", fifth)[0] == 0
    assert network.await_end(fifth, PATIENCE_S) == 0
    assert main(["seat", "--json", "--network", file]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["seats"]) == 4 and facts["quorum"] == 3 and facts["candidates"] == []


def test_a_lying_aggregator_loses_its_stake(network: LedgerNetwork) -> None:
    liar = network.seats[2]
    for seat in network.seats:
        network.start(seat, lies=seat is liar)
    network.stake(*((seat.identity, Role.AGGREGATOR) for seat in network.seats))
    client = network.client(Identity.generate())

    def slashed(seat: Seat) -> int:
        with pytest.raises(NotAllowed):  # something to vote on: nobody lies about nothing
            client.submit(VoteSeat(liar.identity.address, False))
        return client.account(seat.identity.address).stakes[Role.AGGREGATOR].slashed_grains

    until(lambda: slashed(liar) == STAKE, "the liar's stake is gone")
    assert [slashed(seat) for seat in network.seats if seat is not liar] == [0, 0, 0]
    until(lambda: bool(client.epoch().settlement), "the loss is on its way to the chain")
    with pytest.raises(NotAllowed, match="only an aggregator"):
        network.client(liar.identity).submit(VoteSeat(network.seats[0].identity.address, False))
