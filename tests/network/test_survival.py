"""Real processes that lose their primary, their disks and each other, and go on."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from pot_lab.consensus.proof import NoProof, verify
from pot_lab.crypto.identity import Identity
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.client.proof import fetch_proof
from tests.network.toy import NETWORK_ID, ToyNetwork, toy_request

PATIENCE_S = 240


@pytest.fixture
def account() -> Identity:
    return Identity.generate()


def primary_of(client: NetworkClient) -> int:
    """The primary of the view that most aggregators are in."""
    primaries = [state.primary for state in client.status(timeout_s=PATIENCE_S).result(2 * PATIENCE_S)]
    return max(set(primaries), key=primaries.count)


def submit_some(client: NetworkClient, account: Identity, nonces: range, pause_s: float = 0.003) -> list[bytes]:
    calls = []
    for nonce in nonces:
        calls.append(client.submit(toy_request(account, nonce), timeout_s=PATIENCE_S))
        time.sleep(pause_s)
    return [call.result(PATIENCE_S) for call in calls]


def test_primaries_killed_in_turn_under_load_are_replaced_and_nothing_is_lost(
    tmp_path: Path, account: Identity
) -> None:
    with ToyNetwork(tmp_path) as network, NetworkClient(network.config) as client:
        replies = submit_some(client, account, range(10))
        for round_ in range(3):
            first = 10 + 40 * round_
            calls = [
                client.submit(toy_request(account, nonce), timeout_s=PATIENCE_S) for nonce in range(first, first + 20)
            ]
            killed = primary_of(client)
            network.kill(killed)
            calls += [
                client.submit(toy_request(account, nonce), timeout_s=PATIENCE_S)
                for nonce in range(first + 20, first + 40)
            ]
            replies += [call.result(PATIENCE_S) for call in calls]
            network.start(killed)
            states = network.wait_for_heights(client, {0, 1, 2, 3}, 1)
        assert sorted(map(int, replies)) == list(range(1, 131))  # each once; those on the way may overtake each other
        assert max(state.view for state in states) >= 3
        assert sum(state.counters.get("views_entered", 0) for state in states) > 0
        assert (
            "pot_lab_view_changes "
            in client.ask(primary_of(client), "metrics", timeout_s=PATIENCE_S).result(PATIENCE_S).decode()
        )


def test_a_primary_that_stands_still_is_replaced_and_comes_back_as_a_backup(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as client:
        submit_some(client, account, range(5))
        stopped = primary_of(client)
        network.processes[stopped].send_signal(signal.SIGSTOP)
        assert sorted(map(int, submit_some(client, account, range(5, 15)))) == list(range(6, 16))
        network.processes[stopped].send_signal(signal.SIGCONT)
        network.wait_for_heights(client, {0, 1, 2, 3}, 1)
        network.kill((stopped + 2) % 4)
        assert sorted(map(int, submit_some(client, account, range(15, 25)))) == list(range(16, 26))


def test_all_restarted_in_the_middle_of_a_view_change_go_on(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path) as network, NetworkClient(network.config) as client:
        submit_some(client, account, range(10))
        killed = primary_of(client)
        network.kill(killed)
        calls = [client.submit(toy_request(account, nonce), timeout_s=PATIENCE_S) for nonce in range(10, 30)]
        deadline = time.monotonic() + PATIENCE_S
        others = [index for index in range(4) if index != killed]
        while not any(
            b"pot_lab_view_changes " in client.ask(i, "metrics", timeout_s=PATIENCE_S).result(PATIENCE_S)
            for i in others
        ):
            assert time.monotonic() < deadline
        for index in others:
            network.kill(index)
        for index in range(4):
            network.start(index)
        assert sorted(int(call.result(PATIENCE_S)) for call in calls) == list(range(11, 31))
        network.wait_for_heights(client, {0, 1, 2, 3}, 1)
        assert client.query("total").result(PATIENCE_S) == b"30"


def test_logs_stay_small_and_an_emptied_aggregator_comes_back_from_a_snapshot(
    tmp_path: Path, account: Identity
) -> None:
    with (
        ToyNetwork(tmp_path, durability="flush", TOY_SNAPSHOT_BATCHES="16") as network,
        NetworkClient(network.config) as client,
    ):
        assert network.stop(3) == 0
        for nonce in range(150):
            client.submit(toy_request(account, nonce, bytes(1_000))).result(PATIENCE_S)
        network.wait_for_heights(client, {0, 1, 2}, 150)  # f+1 answers do not say that the third has as much
        for index in range(3):
            data = network.data_dir(index)
            assert (data / "replica.log").stat().st_size < 80 * 5_000
            assert 1 <= len(list(data.glob("snapshot-*"))) <= 3
        shutil.rmtree(network.data_dir(3))
        network.start(3)
        state = network.wait_for_heights(client, {0, 1, 2, 3}, 150)[3]
        assert state.counters["snapshots_fetched"] >= 1
        assert (network.data_dir(3) / "replica.log").stat().st_size < 80 * 5_000
        network.kill(3)
        network.start(3)
        network.kill(1)
        assert client.submit(toy_request(account, 150)).result(PATIENCE_S) == b"151"
        network.wait_for_heights(client, {0, 2, 3}, 1)


def test_a_reply_can_be_proved_to_someone_who_asks_nobody(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as client:
        request = toy_request(account, 0)
        reply = client.submit(request).result(PATIENCE_S)
        network.kill(2)
        proof = fetch_proof(client, network.config, request, timeout_s=PATIENCE_S)
        addresses = [entry.address for entry in network.config.aggregators]
        assert verify(proof, NETWORK_ID, addresses, request) == reply
        with pytest.raises(NoProof):
            fetch_proof(client, network.config, toy_request(account, 9), timeout_s=0.5)
